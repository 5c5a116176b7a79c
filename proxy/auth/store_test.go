package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// account is one with passwords alone.
func account(name, password, scram string) Account {
	return Account{Name: name, Password: password, SCRAM: scram}
}

func newStore(t testing.TB, options Options, accounts ...Account) *Store {
	t.Helper()
	s, err := New(accounts, options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// counter is a hash that counts how often it is computed, and by whom at once.
type counter struct {
	cost     string
	password string // empty: a decoy
	computed *atomic.Int32
	under    *atomic.Int32
	most     *atomic.Int32
	gate     chan struct{} // computed only once this is closed
}

func (c *counter) matches(password []byte) bool {
	c.computed.Add(1)
	if n := c.under.Add(1); n > c.most.Load() {
		c.most.Store(n)
	}
	defer c.under.Add(-1)
	<-c.gate
	return c.password != "" && string(password) == c.password
}

func (c *counter) decoy() hash {
	d := *c
	d.password, d.computed = "", new(atomic.Int32)
	return &d
}

// counted replaces the hashes of a Store by counters with the same passwords.
func counted(s *Store, password string, gate chan struct{}) (real, decoys []*counter) {
	under, most := new(atomic.Int32), new(atomic.Int32)
	s.decoys = nil
	for name, e := range s.entries {
		c := &counter{name, password, new(atomic.Int32), under, most, gate}
		e.hash = c
		d := c.decoy().(*counter)
		s.decoys = append(s.decoys, d)
		real, decoys = append(real, c), append(decoys, d)
	}
	return real, decoys
}

func open() chan struct{} {
	gate := make(chan struct{})
	close(gate)
	return gate
}

func sum(list []*counter) (n int32) {
	for _, c := range list {
		n += c.computed.Load()
	}
	return n
}

func TestVerify(t *testing.T) {
	s := newStore(t, Options{},
		account("argon", referenceArgon2, ""), account("crypt", bcryptOf(t, "password", "$2b$"), ""),
		account("scram", "", cheapSCRAM), account("both", referenceArgon2, cheapSCRAM), account("jürgen", referenceArgon2, ""))
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"argon", "password", nil}, {"crypt", "password", nil}, {"scram", scramPassword, nil},
		{"both", "password", nil}, {"jürgen", "password", nil}, {"ju\u0308rgen", "password", nil}, // SASLprep composes
		{"both", scramPassword, ErrCredentials}, {"argon", "Password", ErrCredentials}, {"argon", "", ErrCredentials},
		{"ARGON", "password", ErrCredentials}, {"nobody", "password", ErrCredentials}, {"", "password", ErrCredentials},
		{"argon", "password\x00", ErrCredentials}, {"argon", strings.Repeat("x", 5000), ErrCredentials},
		{strings.Repeat("x", 5000), "password", ErrCredentials}, {"\xff", "\xff", ErrCredentials},
	} {
		for range 2 { // the second time from what is remembered
			if err := s.Verify(t.Context(), c.name, []byte(c.password)); err != c.want {
				t.Errorf("%.20q with %.20q: %v, want %v", c.name, c.password, err, c.want)
			}
		}
	}
	if err := newStore(t, Options{}).Verify(t.Context(), "a", []byte("b")); err != ErrCredentials {
		t.Errorf("without accounts: %v", err)
	}
}

// TestVerifyCostsOneHash is the promise of equal time: each attempt that is not
// the remembered pair computes exactly one hash, whoever is named.
func TestVerifyCostsOneHash(t *testing.T) {
	s := newStore(t, Options{}, account("a", referenceArgon2, ""), account("b", "", cheapSCRAM))
	real, decoys := counted(s, "right", open())
	verify := func(name, password string, want error) (hashes int32) {
		t.Helper()
		before := sum(real) + sum(decoys)
		if err := s.Verify(t.Context(), name, []byte(password)); err != want {
			t.Fatalf("%s with %s: %v, want %v", name, password, err, want)
		}
		return sum(real) + sum(decoys) - before
	}
	for _, c := range []struct {
		what, name, password string
		want                 error
		hashes               int32
	}{
		{"known name, wrong", "a", "wrong", ErrCredentials, 1},
		{"unknown name", "x", "wrong", ErrCredentials, 1},
		{"unknown name, an account's password", "x", "right", ErrCredentials, 1},
		{"first success", "a", "right", nil, 1},
		{"second success", "a", "right", nil, 0},
		{"failure after success", "a", "wrong", ErrCredentials, 1},
		{"the same failure again", "a", "wrong", ErrCredentials, 1},
		{"success after failure", "a", "right", nil, 0},
		{"another name with the remembered password", "b", "right", nil, 1},
		{"unknown name again", "x", "wrong", ErrCredentials, 1},
		{"empty password", "a", "", ErrCredentials, 1},
		{"empty name", "", "right", ErrCredentials, 1},
	} {
		if got := verify(c.name, c.password, c.want); got != c.hashes {
			t.Errorf("%s: %d hashes, want %d", c.what, got, c.hashes)
		}
	}
}

// TestDecoysAreStable is that an unknown name always costs what it cost before,
// after a restart too, and that unknown names cost what accounts cost.
func TestDecoysAreStable(t *testing.T) {
	accounts := []Account{account("a", referenceArgon2, ""), account("b", bcryptOf(t, "x", "$2b$"), ""), account("c", "", cheapSCRAM)}
	secret := newStore(t, Options{}, accounts...).secret
	if again := newStore(t, Options{}, accounts...).secret; string(again) != string(secret) {
		t.Error("a restart changes the costs of unknown names")
	}
	if other := newStore(t, Options{}, accounts[:2]...).secret; string(other) == string(secret) {
		t.Error("the secret does not depend on the accounts")
	}
	var chosen [3]int
	for i := range 300 {
		chosen[choose(secret, fmt.Sprint("name", i), 3)]++
	}
	for i, n := range chosen {
		if n < 50 {
			t.Errorf("decoy %d serves %d of 300 names", i, n)
		}
	}
}

func TestVerifyBoundsConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Options{Concurrency: 3}, account("a", referenceArgon2, ""))
		gate := make(chan struct{})
		real, decoys := counted(s, "right", gate)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := s.Verify(t.Context(), fmt.Sprint("x", i), []byte("wrong")); err != ErrCredentials {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := sum(decoys); n != 3 {
			t.Errorf("%d hashes under way, want 3", n)
		}
		close(gate)
		wg.Wait()
		if n, most := sum(decoys)+sum(real), decoys[0].most.Load(); n != 20 || most != 3 {
			t.Errorf("%d hashes, at most %d at once; want 20 and 3", n, most)
		}
	})
}

func TestVerifyGivesUpWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Options{Concurrency: 1}, account("a", referenceArgon2, ""))
		gate := make(chan struct{})
		counted(s, "right", gate)
		done := make(chan error)
		go func() { done <- s.Verify(t.Context(), "a", []byte("right")) }() // received below
		synctest.Wait()

		start := time.Now()
		if err := s.Verify(t.Context(), "a", []byte("right")); err != ErrTemporary || time.Since(start) != maxWait {
			t.Errorf("with all turns taken: %v after %v, want ErrTemporary after %v", err, time.Since(start), maxWait)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Verify(ctx, "a", []byte("right")); err != ErrTemporary || time.Since(start) != maxWait+time.Second {
			t.Errorf("with a context that ends: %v after %v", err, time.Since(start)-maxWait)
		}
		close(gate)
		if err := <-done; err != nil {
			t.Errorf("the one that had its turn: %v", err)
		}
		if len(s.turns) != 0 {
			t.Error("a turn was not given back")
		}
	})
}

// TestVerifyHerd is many sessions of one account at the start: the first pays.
func TestVerifyHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Options{Concurrency: 1}, account("a", referenceArgon2, ""))
		gate := make(chan struct{})
		real, _ := counted(s, "right", gate)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := s.Verify(t.Context(), "a", []byte("right")); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		if n := sum(real); n != 1 {
			t.Errorf("%d hashes for one account, want 1", n)
		}
	})
}

func TestReloadKeepsUnchangedAccounts(t *testing.T) {
	kept, changed := account("kept", referenceArgon2, ""), account("changed", referenceArgon2, "")
	old := newStore(t, Options{}, kept, changed, account("gone", referenceArgon2, ""))
	for name := range old.entries {
		if err := old.Verify(t.Context(), name, []byte("password")); err != nil {
			t.Fatal(err)
		}
	}
	changed.Password = bcryptOf(t, "other", "$2b$")
	s := newStore(t, Options{Previous: old}, kept, changed)
	real, decoys := counted(s, "other", open())
	for _, c := range []struct {
		name   string
		want   error
		hashes int32
	}{{"kept", nil, 0}, {"changed", ErrCredentials, 1}, {"gone", ErrCredentials, 1}} {
		before := sum(real) + sum(decoys)
		err := s.Verify(t.Context(), c.name, []byte("password"))
		if n := sum(real) + sum(decoys) - before; err != c.want || n != c.hashes {
			t.Errorf("%s: %v with %d hashes, want %v with %d", c.name, err, n, c.want, c.hashes)
		}
	}
}

func TestErrorReplies(t *testing.T) {
	for err, want := range map[Error]string{
		ErrCredentials: "535 [5 7 8]", ErrMalformed: "501 [5 5 2]", ErrTooLong: "500 [5 5 6]", ErrCancelled: "501 [5 7 0]",
		ErrTemporary: "454 [4 7 0]", ErrUnsupported: "504 [5 5 4]", ErrEncryption: "538 [5 7 11]",
		ErrNoCertificate: "504 [5 5 4]", ErrUnknownCertificate: "535 [5 7 8]", ErrExpired: "535 [5 7 8]", ErrNotYetValid: "535 [5 7 8]",
	} {
		code, enhanced := err.Reply()
		if got := fmt.Sprint(code, " ", enhanced); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
		var typed Error
		if !errors.As(fmt.Errorf("in a session: %w", err), &typed) || typed != err {
			t.Errorf("%v is lost when wrapped", err)
		}
	}
}

func BenchmarkVerifyRemembered(b *testing.B) {
	s := newStore(b, Options{}, account("a", referenceArgon2, ""))
	password := []byte("password")
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Verify(b.Context(), "a", password); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyNewHash(b *testing.B) {
	hash, _, err := HashPassword([]byte("password"))
	if err != nil {
		b.Fatal(err)
	}
	s := newStore(b, Options{}, account("a", hash, ""))
	for b.Loop() {
		if err := s.Verify(b.Context(), "a", []byte("wrong")); err != ErrCredentials {
			b.Fatal(err)
		}
	}
}

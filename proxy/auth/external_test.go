package auth

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// shown is a certificate with the fingerprint of one digit, valid for an hour
// around now.
func shown(digit byte) *Certificate {
	return &Certificate{Fingerprint: Fingerprint{digit}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
}

func withCertificates(name string, digits ...byte) Account {
	a := Account{Name: name}
	for _, digit := range digits {
		a.Certificates = append(a.Certificates, Fingerprint{digit})
	}
	return a
}

func TestExternal(t *testing.T) {
	s := newStore(t, Options{}, withCertificates("shop", 1, 2), withCertificates("jürgen", 3), account("other", referenceArgon2, ""))
	for _, c := range []struct {
		name        string
		certificate *Certificate
		lines       [][]byte
		account     string
		want        error
		challenges  int
	}{
		{"no name", shown(1), text(""), "shop", nil, 0},
		{"no name, asked for", shown(1), text("-", ""), "shop", nil, 1},
		{"another certificate of the account", shown(2), text(""), "shop", nil, 0},
		{"its name", shown(1), text("shop"), "shop", nil, 0},
		{"its name, asked for", shown(1), text("-", "shop"), "shop", nil, 1},
		{"its name in another form", shown(3), text("ju\u0308rgen"), "jürgen", nil, 0},
		{"another account", shown(1), text("other"), "", ErrCredentials, 0},
		{"the account of another certificate", shown(1), text("jürgen"), "", ErrCredentials, 0},
		{"nobody's name", shown(1), text("nobody"), "", ErrCredentials, 0},
		{"its name in capitals", shown(1), text("SHOP"), "", ErrCredentials, 0},
		{"nobody's certificate", shown(9), text(""), "", ErrUnknownCertificate, 0},
		{"nobody's certificate, an account's name", shown(9), text("shop"), "", ErrUnknownCertificate, 0},
		{"a password", shown(1), text("\x00shop\x00password"), "", ErrMalformed, 0},
		{"a NUL behind its name", shown(1), text("shop\x00"), "", ErrMalformed, 0},
		{"not UTF-8", shown(1), text("\xff"), "", ErrMalformed, 0},
		{"too long", shown(1), text(strings.Repeat("x", maxName+1)), "", ErrMalformed, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			challenges, x, err := play(t, s.For(c.certificate), "external", c.lines...)
			if err != c.want || x.Identity() != c.account || len(challenges) != c.challenges {
				t.Errorf("%q, %v, challenges %q; want %q, %v, %d", x.Identity(), err, challenges, c.account, c.want, c.challenges)
			}
			login := Login{}
			if c.want == nil {
				login = Login{c.account, c.certificate.Fingerprint}
			}
			if x.Login() != login {
				t.Errorf("login %v, want %v", x.Login(), login)
			}
		})
	}
}

func TestExternalNeedsACertificate(t *testing.T) {
	with := newStore(t, Options{}, withCertificates("shop", 1))
	without := newStore(t, Options{}, account("shop", referenceArgon2, ""))
	for _, c := range []struct {
		client beginner
		want   error
	}{
		{with.For(nil), ErrNoCertificate}, {without.For(nil), ErrUnsupported}, {without.For(shown(1)), ErrUnsupported},
		{with, ErrUnsupported}, {AcceptAny{}, ErrUnsupported}, {newStore(t, Options{}).For(shown(1)), ErrUnsupported},
		{newStore(t, Options{}).For(shown(0)), ErrUnsupported},
	} {
		initial := []byte("shop")
		if _, err := c.client.Begin("EXTERNAL", initial); err != c.want {
			t.Errorf("%T: %v, want %v", c.client, err, c.want)
		}
		if string(initial) != "\x00\x00\x00\x00" {
			t.Errorf("%v leaves %q", c.want, initial)
		}
	}
}

// TestExternalDates is that a certificate is good from its first instant to its
// last (RFC 5280 section 4.1.2.5), looked at when it is used.
func TestExternalDates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Options{}, withCertificates("shop", 1))
		certificate := &Certificate{Fingerprint{1}, time.Now().Add(time.Hour), time.Now().Add(2 * time.Hour)}
		for _, c := range []struct {
			after time.Duration
			want  error
		}{{time.Hour - 1, ErrNotYetValid}, {1, nil}, {time.Hour, nil}, {1, ErrExpired}} {
			time.Sleep(c.after)
			if _, _, err := play(t, s.For(certificate), "EXTERNAL", []byte{}); err != c.want {
				t.Errorf("%v from the first instant: %v, want %v", time.Since(certificate.NotBefore), err, c.want)
			}
			if got := s.For(certificate).Mechanisms(); !slices.Equal(got, []string{"EXTERNAL"}) {
				t.Errorf("offered %q: whoever is not offered EXTERNAL does not learn why", got)
			}
		}
	})
}

func TestMechanismsForClients(t *testing.T) {
	both := account("both", referenceArgon2, cheapSCRAM)
	both.Certificates = append(both.Certificates, Fingerprint{2})
	s := newStore(t, Options{}, withCertificates("shop", 1), both)
	only := newStore(t, Options{}, withCertificates("shop", 1))
	for _, c := range []struct {
		client Client
		want   string
	}{
		{only.For(nil), ""}, {only.For(shown(9)), ""}, {only.For(shown(1)), "EXTERNAL"},
		{s.For(nil), "PLAIN LOGIN SCRAM-SHA-256"}, {s.For(shown(9)), "PLAIN LOGIN SCRAM-SHA-256"},
		{s.For(shown(1)), "EXTERNAL PLAIN LOGIN SCRAM-SHA-256"}, {s.For(shown(2)), "EXTERNAL PLAIN LOGIN SCRAM-SHA-256"},
	} {
		if got := strings.Join(c.client.Mechanisms(), " "); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestOneOwner is that a certificate names one account.
func TestOneOwner(t *testing.T) {
	_, err := New([]Account{withCertificates("a", 1, 1), withCertificates("b", 2), withCertificates("c", 3, 1)}, Options{})
	const want = `account 3 ("c"): account "a" has the certificate sha256:01000000`
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := New([]Account{withCertificates("a", 1, 1), withCertificates("b", 2)}, Options{}); err != nil {
		t.Errorf("the same twice in one account: %v", err)
	}
}

// TestNoPasswordIsUnknown is that an account with a certificate alone cannot be
// told by a password from a name that no account has: each attempt costs one
// hash, the decoy of its name, and fails.
func TestNoPasswordIsUnknown(t *testing.T) {
	s := newStore(t, Options{}, account("a", referenceArgon2, ""), account("b", "", cheapSCRAM), withCertificates("shop", 1))
	shop := s.entries["shop"]
	if len(s.decoys) != 2 || shop.hash != nil {
		t.Fatalf("%d decoys for two accounts with passwords, and %v for one without", len(s.decoys), shop.hash)
	}
	delete(s.entries, "shop") // counted gives each entry a hash
	real, decoys := counted(s, "right", open())
	s.entries["shop"] = shop
	for _, name := range []string{"shop", "nobody"} {
		for _, password := range []string{"right", "", "wrong"} {
			for range 2 {
				before, known := sum(decoys), sum(real)
				if err := s.Verify(t.Context(), name, []byte(password)); err != ErrCredentials {
					t.Errorf("%s with %q: %v", name, password, err)
				}
				if sum(decoys)-before != 1 || sum(real) != known {
					t.Errorf("%s with %q: %d decoys and %d accounts' hashes, want one decoy", name, password, sum(decoys)-before, sum(real)-known)
				}
			}
		}
	}
	only := newStore(t, Options{}, withCertificates("shop", 1))
	for _, name := range []string{"shop", "nobody"} {
		if err := only.Verify(t.Context(), name, []byte("x")); err != ErrCredentials {
			t.Errorf("without any password, %s: %v", name, err)
		}
	}
	for _, mech := range []string{"PLAIN", "LOGIN", "SCRAM-SHA-256"} {
		if _, err := only.For(shown(1)).Begin(mech, nil); err != ErrUnsupported {
			t.Errorf("%s without any password: %v", mech, err)
		}
	}
}

// TestKeeps is who stays logged in over a reload.
func TestKeeps(t *testing.T) {
	with := func(a Account, digits ...byte) Account {
		a.Certificates = withCertificates("", digits...).Certificates
		return a
	}
	password := account("shop", referenceArgon2, "")
	for _, c := range []struct {
		name          string
		before        Account
		after         []Account
		byPassword    bool
		byCertificate bool // number 1
	}{
		{"nothing changed", with(password, 1), []Account{with(password, 1)}, true, true},
		{"account gone", with(password, 1), nil, false, false},
		{"certificate gone", with(password, 1), []Account{password}, true, false},
		{"certificate replaced", with(password, 1), []Account{with(password, 2)}, true, false},
		{"certificate added", with(password, 1), []Account{with(password, 2, 1)}, true, true},
		{"password gone", with(password, 1), []Account{withCertificates("shop", 1)}, false, true},
		{"password changed", with(password, 1), []Account{with(account("shop", bcryptOf(t, "x", "$2b$"), ""), 1)}, false, true},
		{"certificate given away", with(password, 1), []Account{password, withCertificates("other", 1)}, true, false},
		{"account renamed", with(password, 1), []Account{with(account("other", referenceArgon2, ""), 1)}, false, false},
	} {
		before, after := newStore(t, Options{}, c.before), newStore(t, Options{}, c.after...)
		if got := after.Keeps(before, Login{Account: "shop"}); got != c.byPassword {
			t.Errorf("%s, by password: %v", c.name, got)
		}
		if got := after.Keeps(before, Login{"shop", Fingerprint{1}}); got != c.byCertificate {
			t.Errorf("%s, by certificate: %v", c.name, got)
		}
	}
	var none *Store
	one := newStore(t, Options{}, with(password, 1))
	for _, login := range []Login{{Account: "shop"}, {"shop", Fingerprint{1}}} {
		if none.Keeps(one, login) || one.Keeps(none, login) {
			t.Error("no Store keeps an account")
		}
	}
}

// FuzzExternal is that no words log in with a stranger's certificate, and none
// but the account's with an account's.
func FuzzExternal(f *testing.F) {
	s := newStore(f, Options{}, withCertificates("shop", 1), withCertificates("other", 2))
	f.Add(byte(1), []byte("shop"))
	f.Add(byte(2), []byte("shop"))
	f.Add(byte(3), []byte(""))
	f.Add(byte(0), []byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, digit byte, response []byte) {
		said := string(response)
		_, x, err := play(t, s.For(shown(digit)), "EXTERNAL", response)
		owner := map[byte]string{1: "shop", 2: "other"}[digit]
		if name := x.Identity(); (err == nil) != (name != "") || name != owner && name != "" {
			t.Errorf("certificate %d and %q: %q, %v", digit, said, name, err)
		}
		var typed Error
		if err != nil && !errors.As(err, &typed) {
			t.Errorf("%v", err)
		}
	})
}

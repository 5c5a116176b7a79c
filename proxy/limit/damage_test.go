package limit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// openAt opens a Limiter on a file; the caller closes it.
func openAt(t testing.TB, path string) *Limiter {
	t.Helper()
	store, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closed(t testing.TB, l *Limiter) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

var thousand = Limit{Messages, 1000, 64 * time.Hour}

// written makes a store with these identities' counts (one message each for the
// first, two for the second, and so on), one suspension and some recipients.
func written(t testing.TB, identities int) (path string, content []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "limits.db")
	l := openAt(t, path)
	for i := range identities {
		identity := fmt.Sprintf("uid:%d", i)
		budgets := limits(identity, thousand, Limit{NewRecipients, 1000, time.Hour})
		for j := range i + 1 {
			send(l, identity, budgets, start, Amount{Messages: 1, Recipient: fmt.Sprintf("%d@example.com", j)})
		}
	}
	if err := l.Suspend(Suspension{Key: "uid:7", Reason: "spam", Since: start}); err != nil {
		t.Fatal(err)
	}
	closed(t, l)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, content
}

func records(content []byte) (map[string]string, error) {
	found := map[string]string{}
	err := readRecords(io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content))), func(key string, value []byte) error {
		found[key] = string(value)
		return nil
	})
	return found, err
}

// TestEveryDamage flips each octet of a store, and cuts it at each length: what
// is read is all that was written, or it is said to be damaged, and what was given until
// then was written too.
func TestEveryDamage(t *testing.T) {
	for identities, step := range map[int]int{3: 1, 60: 7} { // in one page, in several
		_, content := written(t, identities)
		truth, err := records(content)
		if err != nil || len(truth) < 2*identities+3 {
			t.Fatalf("undamaged: %d records, %v", len(truth), err)
		}
		found := 0
		check := func(what string, damaged []byte) {
			t.Helper()
			got, err := records(damaged)
			switch {
			case errors.Is(err, ErrDamaged):
				found++
			case err != nil || len(got) != len(truth):
				t.Fatalf("%s: %d of %d records, %v", what, len(got), len(truth), err)
			}
			for key, value := range got {
				if truth[key] != value {
					t.Fatalf("%s: record %q changed unnoticed", what, key)
				}
			}
		}
		for i := 0; i < len(content); i += step {
			content[i] ^= 1 << (i % 8)
			check(fmt.Sprintf("octet %d flipped", i), content)
			content[i] ^= 1 << (i % 8)
		}
		t.Logf("of %d octets every %dth flipped: %d mattered", len(content), step, found)
		if found < 500 {
			t.Errorf("only %d flips mattered", found)
		}
		for n := len(content) - 1; n >= 0; n -= 1 + n/1000 {
			check(fmt.Sprintf("cut at %d", n), content[:n])
		}
	}
}

// TestDamagedStoreIsTight opens damaged stores: the limiter starts, says so, and
// gives nobody more room than if every limit had been used up evenly.
func TestDamagedStoreIsTight(t *testing.T) {
	_, content := written(t, 3)
	random := rand.New(rand.NewPCG(1, 1))
	for name, damage := range map[string]func([]byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"zero":      func(b []byte) []byte { return make([]byte, len(b)) },
		"half":      func(b []byte) []byte { return b[:len(b)/2] },
		"garbage":   func(b []byte) []byte { return randomBytes(random, len(b)) },
		"no metas":  func(b []byte) []byte { copy(b, make([]byte, 8192)); return b },
		"one meta":  func(b []byte) []byte { b[4096+16+20] ^= 1; return b },
		"some page": func(b []byte) []byte { copy(b[8192:], randomBytes(random, len(b)-8192)); return b },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "limits.db")
			if err := os.WriteFile(path, damage(append([]byte(nil), content...)), 0o600); err != nil {
				t.Fatal(err)
			}
			l := openAt(t, path)
			checkTight(t, l)
			closed(t, l)
			if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) != 1 {
				t.Errorf("set aside: %v, %v", aside, err)
			}
			l = openAt(t, path) // and again after a restart
			defer closed(t, l)
			if a := send(l, "uid:9", limits("uid:9", thousand), start.Add(32*time.Hour), Amount{Messages: 485}); a.Room {
				t.Errorf("after a restart and half the window: %+v", a)
			}
			if c := l.Condition(); c != "limits store was damaged before the last start: limits began as if used up" {
				t.Errorf("condition after a restart: %q", c)
			}
		})
	}
}

func randomBytes(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// checkTight asks with keys that were there and one that was never seen.
func checkTight(t *testing.T, l *Limiter) {
	t.Helper()
	if c := l.Condition(); !strings.Contains(c, "damaged") || !strings.Contains(c, "used up") {
		t.Errorf("condition %q", c)
	}
	for _, key := range []string{"uid:0", "uid:2", "uid:999"} {
		budgets := limits(key, thousand, Limit{NewRecipients, 5, time.Hour})
		if a := send(l, key, budgets, start, Amount{Messages: 1}); a.Room || a.Used != 1000 {
			t.Errorf("%s at once: %+v", key, a)
		}
		if a := send(l, key, budgets, start, Amount{Recipient: "0@example.com"}); a.Room {
			t.Errorf("%s at once: %+v", key, a)
		}
	}
	for _, key := range []string{"uid:0", "uid:2", "uid:999"} {
		state := l.State(key, limits(key, thousand), start.Add(32*time.Hour))[0]
		if state.Used < 500 || state.Used > 516 {
			t.Errorf("%s after half the window: %+v", key, state)
		}
	}
}

// TestTightEnds follows a limit after damage: what is left of the window before
// shrinks evenly, and is nothing when a window and a slot have passed.
func TestTightEnds(t *testing.T) {
	l := open(t)
	l.tight.since.Store(unresolved)
	budgets := limits("uid:1", Limit{Messages, 100, 64 * time.Minute})
	now := start.Truncate(time.Minute)
	for minute := range 70 {
		want := int64(0)
		if left := 65 - minute; left > 0 {
			want = min(int64(left)*100+63, 6400+63) / 64
			want = min(want, 100)
		}
		state := l.State("uid:1", budgets, now.Add(time.Duration(minute)*time.Minute))[0]
		if state.Used != want {
			t.Errorf("minute %d: used %d, want %d", minute, state.Used, want)
		}
		if open := state.Opens; minute < 2 && !open.Equal(now.Add(2*time.Minute)) {
			t.Errorf("minute %d: opens %v", minute, open)
		}
	}
	if !l.tightNow() {
		l.clock.at(now.Add(70 * time.Minute))
	}
	if l.tightNow() {
		t.Error("it is still told of when no limit is narrowed")
	}
	l.endTight(now.Add(40 * day).UnixNano())
	if l.tight.since.Load() != 0 {
		t.Error("it is not forgotten after the longest window")
	}
}

// TestSuspensionsOutliveDamage: who could be read to be suspended still is.
func TestSuspensionsOutliveDamage(t *testing.T) {
	path, content := written(t, 3)
	at := strings.LastIndex(string(content), manifestName) + len(manifestName)
	content[at+5] ^= 1 // the last record, by name the first: the others are read before it is missed
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l := openAt(t, path)
	defer closed(t, l)
	if l.Condition() == "" {
		t.Fatal("the damage was not noticed")
	}
	if s := l.Suspensions(); len(s) > 1 || len(s) == 1 && s[0].Key != "uid:7" {
		t.Errorf("suspensions %+v", s)
	}
}

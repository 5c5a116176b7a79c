package limit

import (
	"path/filepath"
	"testing"
	"time"
)

// start is when the tests' time begins; it has no monotonic reading.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func limits(key string, l ...Limit) []Budget { return []Budget{{Key: key, Limits: l}} }

// open makes a Limiter without a store.
func open(t testing.TB) *Limiter {
	t.Helper()
	l, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// send claims and commits, and tells whether there was room.
func send(l *Limiter, identity string, budgets []Budget, now time.Time, a Amount) Answer {
	var c Claim
	l.Begin(&c, identity, budgets)
	answer := c.Take(now, a)
	c.Commit(now)
	return answer
}

func TestTakeUntilFull(t *testing.T) {
	l := open(t)
	hourly := limits("uid:33", Limit{Messages, 3, time.Hour})
	for i := range 3 {
		if a := send(l, "uid:33", hourly, start, Amount{Messages: 1}); !a.Room || a.Used != int64(i) {
			t.Errorf("message %d: %+v", i+1, a)
		}
	}
	a := send(l, "uid:33", hourly, start, Amount{Messages: 1})
	slot := time.Hour / 64
	if want := start.Truncate(slot).Add(65 * slot); a.Room || !a.Opens.Equal(want) || a.Key != "uid:33" || a.Limit != hourly[0].Limits[0] || a.Used != 3 {
		t.Errorf("message 4: %+v, want that it opens at %v", a, want)
	}
	if a := send(l, "uid:33", hourly, a.Opens.Add(-1), Amount{Messages: 1}); a.Room {
		t.Errorf("a moment too early: %+v", a)
	}
	if a := send(l, "uid:33", hourly, a.Opens, Amount{Messages: 1}); !a.Room || a.Used != 0 {
		t.Errorf("when it opens: %+v", a)
	}
}

func TestStoreKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	hourly := limits("uid:33", Limit{Messages, 3, time.Hour}, Limit{NewRecipients, 3, time.Hour})
	for i := range 5 {
		store, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open(Options{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		a := send(l, "uid:33", hourly, start, Amount{Messages: 1, Recipient: "a@example.com"})
		if a.Room != (i < 3) {
			t.Errorf("round %d: %+v", i, a)
		}
		states := l.State("uid:33", hourly, start)
		if states[0].Used != int64(min(i+1, 3)) || states[0].Refused != int64(max(i-2, 0)) || states[1].Used != 1 {
			t.Errorf("round %d: %+v", i, states)
		}
		if c := l.Condition(); c != "" {
			t.Errorf("round %d: condition %q", i, c)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

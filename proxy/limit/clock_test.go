package limit

import (
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	base := start.UnixNano()
	steps := []struct {
		what       string
		wall, want time.Duration // since start
	}{
		{"first", 0, 0},
		{"goes on", time.Second, time.Second},
		{"a session that is late", 500 * time.Millisecond, 500 * time.Millisecond},
		{"goes on by an hour", time.Hour, time.Hour},
		{"set back by a day: not moved", time.Hour - day, time.Hour},
		{"and goes on", time.Hour - day + time.Minute, time.Hour + time.Minute},
		{"a session with a time from before", time.Hour + time.Minute + time.Second, time.Hour + time.Minute + time.Second},
		{"another from after", time.Hour - day + 62*time.Second, time.Hour + 62*time.Second},
		{"set forward by a year: believed", 366 * day, 367 * day},
		{"and back: not moved", 0, 367 * day},
		{"and goes on", time.Minute, 367*day + time.Minute},
	}
	var c clock
	for _, step := range steps {
		got := time.Duration(c.at(start.Add(step.wall)) - base)
		if got != step.want {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
	}
	if got := c.wall(base + int64(367*day+time.Hour)); !got.Equal(start.Add(time.Hour)) {
		t.Errorf("on the host's clock an hour later is %v", got)
	}
}

// TestClockSetBack: who used up a limit gets no second one by it, and waits no longer
// than the window.
func TestClockSetBack(t *testing.T) {
	l := open(t)
	budgets := limits("uid:1", Limit{Messages, 1, time.Hour})
	send(l, "uid:1", budgets, start, Amount{Messages: 1})
	back := start.Add(-365 * day)
	a := send(l, "uid:1", budgets, back, Amount{Messages: 1})
	if a.Room || a.Opens.Before(back.Add(time.Hour)) || a.Opens.After(back.Add(time.Hour+time.Minute)) {
		t.Errorf("at once: %+v", a)
	}
	if a := send(l, "uid:1", budgets, back.Add(62*time.Minute), Amount{Messages: 1}); !a.Room {
		t.Errorf("an hour later: %+v", a)
	}
}

// TestClockSetBackByRestart: the same, when the clock was set back while nothing ran.
func TestClockSetBackByRestart(t *testing.T) {
	store := &failing{kept: map[string][]byte{}}
	l := on(t, store)
	budgets := limits("uid:1", Limit{Messages, 1, time.Hour})
	send(l, "uid:1", budgets, start, Amount{Messages: 1})
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	l = on(t, store)
	back := start.Add(-365 * day)
	if a := send(l, "uid:1", budgets, back, Amount{Messages: 1}); a.Room {
		t.Errorf("at once: %+v", a)
	}
	if a := send(l, "uid:1", budgets, back.Add(62*time.Minute), Amount{Messages: 1}); !a.Room {
		t.Errorf("an hour later: %+v", a)
	}
}

package limit

import (
	"testing"
	"time"
	"unsafe"
)

func TestClock(t *testing.T) {
	base := start.UnixNano()
	steps := []struct {
		what string
		host time.Duration // since start
		mono time.Duration // 0: the time has no monotonic reading
		want time.Duration // since start
	}{
		{"first", 0, time.Minute, 0},
		{"goes on", time.Second, 61 * time.Second, time.Second},
		{"a session that is late", 500 * time.Millisecond, 60500 * time.Millisecond, 500 * time.Millisecond},
		{"goes on by an hour", time.Hour, 61 * time.Minute, time.Hour},
		{"one that is very late", 0, time.Minute, time.Hour - 10*time.Second},
		{"set back by a day a minute ago: not moved", time.Hour - day, 62 * time.Minute, time.Hour + time.Minute},
		{"and goes on", time.Hour - day + time.Minute, 63 * time.Minute, time.Hour + 2*time.Minute},
		{"one with a time from before", time.Hour + time.Second, 61*time.Minute + time.Second, time.Hour + 110*time.Second},
		{"another from after", time.Hour - day + 62*time.Second, 63*time.Minute + 2*time.Second, time.Hour + 122*time.Second},
		{"set forward, but not to what it was", -time.Hour, 64 * time.Minute, time.Hour + 3*time.Minute},
		{"set right", time.Hour + 4*time.Minute, 65 * time.Minute, time.Hour + 4*time.Minute},
		{"two hours in which nobody came", 3*time.Hour + 4*time.Minute, 185 * time.Minute, 3*time.Hour + 4*time.Minute},
		{"set forward by a year: believed", 366 * day, 186 * time.Minute, 366 * day},
		{"and back: not moved", 4 * time.Hour, 187 * time.Minute, 366*day + time.Minute},
		{"without a reading", 4*time.Hour + time.Minute, 0, 366*day + 2*time.Minute},
		{"without one, set back", 0, 0, 366*day + 2*time.Minute},
		{"and set forward to after that", 367 * day, 0, 367 * day},
		{"with one again", 367*day + time.Hour, 4 * time.Hour, 367*day + time.Hour},
	}
	var c clock
	began := time.Now()
	for _, step := range steps {
		now := start.Add(step.host)
		if step.mono != 0 {
			now = moment(t, now, began.Add(step.mono))
		}
		got := time.Duration(c.at(now) - base)
		if diff := got - step.want; diff < -time.Millisecond || diff > time.Millisecond {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
	}
	if got := c.wall(base + int64(370*day)).Sub(start); got < 370*day-time.Millisecond || got > 370*day+time.Millisecond {
		t.Errorf("on the host's clock that is %v, want 370 days", got)
	}
}

// moment is a time as time.Now gives it on a host whose clock says host, when the
// monotonic clock stands where that of mono does. Package time has no way to make
// one, so this relies on how it keeps a Time, and looks whether that was right.
func moment(t *testing.T, host, mono time.Time) time.Time {
	t.Helper()
	const since1885 = 2682288000 // seconds from there to 1970
	type layout struct {
		wall uint64
		ext  int64
		loc  *time.Location
	}
	made := mono
	l := (*layout)(unsafe.Pointer(&made))
	l.wall = 1<<63 | uint64(host.Unix()+since1885)<<30 | uint64(host.Nanosecond())
	if made.UnixNano() != host.UnixNano() || made.Sub(mono) != 0 || !hasMonotonic(made) {
		t.Fatalf("made %v of %v and %v", made, host, mono)
	}
	return made
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

// TestBootWithoutClock: what was used up stays so on a host that comes up in 1970
// and is set then, also for times that tell no more than the host's clock.
func TestBootWithoutClock(t *testing.T) {
	store := &failing{kept: map[string][]byte{}}
	l := on(t, store)
	budgets := limits("uid:1", Limit{Messages, 1, time.Hour})
	send(l, "uid:1", budgets, start, Amount{Messages: 1})
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	l = on(t, store)
	steps := []struct {
		what string
		now  time.Time
		room bool
	}{
		{"in 1970", time.Unix(60, 0), false},
		{"half a minute later", time.Unix(90, 0), false},
		{"set right", start.Add(2 * time.Minute), false},
		{"set back to 1970", time.Unix(0, 0), false},
		{"set right again", start.Add(50 * time.Minute), false},
		{"an hour after", start.Add(62 * time.Minute), true},
	}
	for _, step := range steps {
		if a := send(l, "uid:1", budgets, step.now, Amount{Messages: 1}); a.Room != step.room {
			t.Errorf("%s: %+v", step.what, a)
		}
	}
}

package limit

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestSeriesLarge counts more than one cell holds.
func TestSeriesLarge(t *testing.T) {
	s := series{window: 64 * time.Second}
	now := start.UnixNano()
	total := int64(0)
	for _, n := range []int64{1, cellMask, 1, 1 << 30, 10 << 40, 3} {
		s.advance(now)
		s.add(0, n)
		s.add(lostCell, 2*n)
		total += n
		if s.used != total || s.refused != 2*total || len(s.cells) > 4 {
			t.Errorf("after %d: used %d, refused %d, want %d; %d cells", n, s.used, s.refused, total, len(s.cells))
		}
	}
	s.add(0, 1<<50) // beyond what a slot holds
	if s.used != most {
		t.Errorf("used %d, want %d", s.used, most)
	}
	s.advance(now + int64(66*time.Second))
	if s.used != 0 || s.refused != 0 || len(s.cells) != 0 {
		t.Errorf("a window later: %+v", s)
	}
}

// TestSeriesRecord: what is read is what was written, whatever it is.
func TestSeriesRecord(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		e := &entry{key: "uid:1"}
		now := start.UnixNano()
		for range 200 {
			now += random.Int64N(int64(2 * time.Minute))
			limit := Limit{Counted(random.IntN(kinds)), 1, modelWindows[random.IntN(3)]}
			e.of(&limit, now).add(cell(random.IntN(2))*lostCell, random.Int64N(1<<random.IntN(40)))
		}
		got, err := decodeEntry("uid:1", e.encode())
		if err != nil {
			t.Fatal(err)
		}
		for i := range e.series {
			want, s := &e.series[i], &got.series[i]
			if s.counted != want.counted || s.window != want.window || s.used != want.used || s.refused != want.refused ||
				s.head != want.head || s.end != want.end || !slices.Equal(s.cells, want.cells) {
				t.Fatalf("%+v, want %+v", s, want)
			}
		}
	}
}

// TestNewWindow: a limit with another window than before begins with what another knows,
// dated as late as it can have been, if that says anything.
func TestNewWindow(t *testing.T) {
	for _, test := range []struct {
		name   string
		window time.Duration
		after  time.Duration // since the one message
		used   int64
	}{
		{"longer", 7 * day, 6 * time.Hour, 1},
		{"longer, and the message left the old one", 7 * day, 25 * time.Hour, 0},
		{"shorter", time.Hour, 10 * time.Minute, 1},
		{"shorter, beyond it", time.Hour, 2 * time.Hour, 0},
		{"shortest, in the slot of the message", time.Second, 0, 1},
		{"between", 2 * time.Minute, time.Minute, 0}, // of a slot of the day's one cannot tell
		{"between, and long enough", 30 * time.Minute, time.Minute, 1},
	} {
		l := open(t)
		send(l, "uid:1", limits("uid:1", Limit{Messages, 10, day}, Limit{Messages, 10, time.Minute}, Limit{Bytes, 10, 30 * day}), start, Amount{Messages: 1, Bytes: 7})
		state := l.State("uid:1", limits("uid:1", Limit{Messages, 10, test.window}), start.Add(test.after))[0]
		if state.Used != test.used {
			t.Errorf("%s: %d used, want %d", test.name, state.Used, test.used)
		}
	}
}

// TestShortWindowBesideLong: the short window is empty for a while, and is not refilled from the long
// one by a sweep or a restart.
func TestShortWindowBesideLong(t *testing.T) {
	store := &failing{kept: map[string][]byte{}}
	l := on(t, store)
	budgets := limits("uid:1", Limit{Messages, 10, time.Minute}, Limit{Messages, 1000, day})
	send(l, "uid:1", budgets, start, Amount{Messages: 10})
	now := start.Add(2 * time.Minute)
	l.clock.at(now)
	for range sweepParts {
		l.sweep()
	}
	if states := l.State("", budgets, now); states[0].Used != 0 || states[1].Used != 10 {
		t.Errorf("after a sweep: %+v", states)
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if states := on(t, store).State("", budgets, now); states[0].Used != 0 || states[1].Used != 10 {
		t.Errorf("after a restart: %+v", states)
	}
}

func TestSource(t *testing.T) {
	for _, test := range []struct {
		have []time.Duration
		new  time.Duration
		want time.Duration // 0 is none
	}{
		{nil, time.Hour, 0},
		{[]time.Duration{time.Minute, day}, time.Hour, day},
		{[]time.Duration{day, time.Minute}, time.Hour, day},
		{[]time.Duration{7 * day, day, 30 * day}, time.Hour, day},
		{[]time.Duration{30 * day, day, 7 * day}, 2 * day, 7 * day},
		{[]time.Duration{time.Second, time.Hour, time.Minute}, day, time.Hour},
		{[]time.Duration{time.Hour, time.Second, time.Minute}, day, time.Hour},
		{[]time.Duration{day}, time.Minute, 0},
	} {
		e := &entry{series: []series{{counted: Bytes, window: 2 * time.Hour}}}
		for _, window := range test.have {
			e.series = append(e.series, series{window: window})
		}
		got := time.Duration(0)
		if s := e.source(&Limit{Messages, 1, test.new}); s != nil {
			got = s.window
		}
		if got != test.want {
			t.Errorf("of %v for %v: %v, want %v", test.have, test.new, got, test.want)
		}
	}
}

// TestFormerWindows: windows of former configurations go when they are empty.
func TestFormerWindows(t *testing.T) {
	l := open(t)
	now := start
	for i := range 100 {
		send(l, "uid:1", limits("uid:1", Limit{Messages, 10, time.Minute + time.Duration(i)*time.Second}), now, Amount{Messages: 1})
		now = now.Add(10 * time.Minute)
	}
	if n := len(l.entry("uid:1").series); n > mostSeries {
		t.Errorf("%d windows are kept", n)
	}
}

// TestSmallerOfTwo: an identity's limits and a budget above it may have one key, and
// both a limit over the same; it counts once, and the smaller decides.
func TestSmallerOfTwo(t *testing.T) {
	l := open(t)
	budgets := []Budget{
		{Key: "container:1", Limits: []Limit{{Messages, 5, time.Hour}}},
		{Key: "container:1", Limits: []Limit{{Messages, 3, time.Hour}, {Messages, 100, day}}},
		{Key: "none"},
	}
	through := 0
	for range 6 {
		if a := send(l, "container:1", budgets, start, Amount{Messages: 1}); a.Room {
			through++
		} else if a.Limit.Max != 3 {
			t.Errorf("%+v", a)
		}
	}
	if through != 3 {
		t.Errorf("%d through", through)
	}
	if s := l.State("", budgets, start); s[0].Used != 3 || s[0].Refused != 3 || s[2].Used != 3 {
		t.Errorf("%+v", s)
	}
}

// TestNever: an amount beyond the maximum never has room, and says so, also where another limit
// opens some day.
func TestNever(t *testing.T) {
	l := open(t)
	budgets := limits("uid:1", Limit{Recipients, 5, time.Hour}, Limit{Messages, 1, time.Hour}, Limit{Recipients, 10, day}, Limit{Bytes, 0, day})
	a := send(l, "uid:1", budgets, start, Amount{Messages: 2, Recipients: 6})
	if a.Room || !a.Opens.IsZero() || a.Limit.Max > 5 {
		t.Errorf("%+v", a)
	}
	if a := send(l, "uid:1", budgets, start, Amount{Bytes: 1}); a.Room || !a.Opens.IsZero() {
		t.Errorf("%+v", a)
	}
}

// TestClaimClosed: a claim that is not open holds nothing and refuses nothing.
func TestClaimClosed(t *testing.T) {
	var c Claim
	if a := c.Take(start, Amount{Messages: 1}); !a.Room {
		t.Errorf("%+v", a)
	}
	c.Force(start, Amount{Messages: 1})
	c.Refuse(start, Amount{Messages: 1})
	c.Return(Amount{Messages: 1})
	c.Commit(start)
	c.Cancel()

	l := open(t)
	one := limits("uid:1", Limit{Messages, 1, time.Hour})
	l.Begin(&c, "uid:1", one)
	c.Take(start, Amount{Messages: 1})
	l.Begin(&c, "uid:2", limits("uid:2", Limit{Messages, 1, time.Hour})) // the former is cancelled
	if used := l.State("", one, start)[0].Used; used != 0 {
		t.Errorf("%d used by a claim that was begun again", used)
	}
	if a := c.Take(start, Amount{Messages: -5, Recipients: -1, Bytes: -1}); !a.Room || a.Use != 0 {
		t.Errorf("%+v", a)
	}
	other := open(t)
	other.Begin(&c, "uid:1", one) // the same claim, with another limiter
	c.Take(start, Amount{Messages: 1})
	c.Commit(start)
	if l.State("", one, start)[0].Used != 0 || other.State("", one, start)[0].Used != 1 {
		t.Error("it counted with the other limiter")
	}
	l.Begin(&c, "uid:1", nil)
	if a := c.Take(start, Amount{Messages: 1}); !a.Room || a.Key != "" || a.Percent != 0 {
		t.Errorf("without limits: %+v", a)
	}
}

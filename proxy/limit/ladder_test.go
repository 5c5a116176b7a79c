package limit

import (
	"testing"
	"time"
)

func TestLadderAt(t *testing.T) {
	whole := Ladder{{Slow, 80}, {Defer, 100}, {Hold, 150}, {Suspend, 400}}
	usual := whole[:2]
	for _, test := range []struct {
		ladder  Ladder
		percent float64
		raised  int
		want    Action
	}{
		{nil, 1000, 3, None},
		{usual, 0, 0, None},
		{usual, 80, 0, None},
		{usual, 80.5, 0, Slow},
		{usual, 100, 0, Slow},
		{usual, 101, 0, Defer},
		{usual, 9999, 0, Defer},
		{whole, 151, 0, Hold},
		{whole, 400, 0, Hold},
		{whole, 401, 0, Suspend},
		{whole, 0, 1, Slow},
		{whole, 0, 2, Defer},
		{whole, 0, 3, Hold},
		{whole, 0, 9, Suspend},
		{whole, 120, 1, Defer},
		{usual, 0, 9, Defer},
	} {
		if got := test.ladder.At(test.percent, test.raised); got != test.want {
			t.Errorf("%v at %v %% raised %d: %v, want %v", test.ladder, test.percent, test.raised, got, test.want)
		}
	}
}

// TestLadderFor follows an identity that goes on and on at a limit of 100.
func TestLadderFor(t *testing.T) {
	l := open(t)
	ladder := Ladder{{Slow, 80}, {Defer, 100}, {Hold, 150}, {Suspend, 400}}
	budgets := limits("uid:1", Limit{Messages, 100, time.Hour})
	first := map[Action]int{}
	for i := 1; i <= 500; i++ {
		a := send(l, "uid:1", budgets, start, Amount{Messages: 1})
		action := ladder.For(a, 0)
		if first[action] == 0 {
			first[action] = i
		}
	}
	for action, want := range map[Action]int{None: 1, Slow: 81, Defer: 101, Hold: 151, Suspend: 401} {
		if first[action] != want {
			t.Errorf("%v first at message %d, want %d", action, first[action], want)
		}
	}
	// The room comes back in the slot in which the used part left, the demand with it.
	a := send(l, "uid:1", budgets, start.Add(time.Hour+time.Hour/64), Amount{Messages: 1})
	if !a.Room || ladder.For(a, 0) != None {
		t.Errorf("a window later: %+v, %v", a, ladder.For(a, 0))
	}
}

// TestLadderDoesNotStarve: an identity that tries again and again gets through when there is
// room, although its refused tries are still in the window.
func TestLadderDoesNotStarve(t *testing.T) {
	l := open(t)
	ladder := Ladder{{Slow, 80}, {Defer, 100}}
	budgets := limits("uid:1", Limit{Messages, 10, time.Hour})
	through := 0
	for minute := range 24 * 60 {
		var c Claim
		l.Begin(&c, "uid:1", budgets)
		a := c.Take(start.Add(time.Duration(minute)*time.Minute), Amount{Messages: 1})
		if ladder.For(a, 0) < Defer {
			c.Commit(start.Add(time.Duration(minute) * time.Minute))
			through++
		}
		c.Cancel()
	}
	if through < 230 || through > 250 {
		t.Errorf("%d in a day, want about 10 an hour", through)
	}
}

// TestForcedBeyond: octets that came late may go beyond their limit; it refuses octets then,
// and nothing else.
func TestForcedBeyond(t *testing.T) {
	l := open(t)
	ladder := Ladder{{Slow, 80}, {Defer, 100}}
	budgets := limits("uid:1", Limit{Messages, 10, time.Hour}, Limit{Bytes, 1000, time.Hour})
	var c Claim
	l.Begin(&c, "uid:1", budgets)
	c.Take(start, Amount{Messages: 1})
	c.Force(start, Amount{Bytes: 5000})
	c.Commit(start)
	l.Begin(&c, "uid:1", budgets)
	if a := c.Take(start, Amount{Messages: 1}); !a.Room || ladder.For(a, 0) != Slow {
		t.Errorf("a message: %+v, %v", a, ladder.For(a, 0))
	}
	if a := c.Take(start, Amount{Bytes: 1}); a.Room || ladder.For(a, 0) != Defer || a.Used != 5000 || a.Opens.IsZero() {
		t.Errorf("an octet: %+v, %v", a, ladder.For(a, 0))
	}
}

func TestRefuseCountsAsDemand(t *testing.T) {
	l := open(t)
	budgets := limits("uid:1", Limit{Messages, 10, time.Hour}, Limit{Recipients, 10, time.Hour})
	var c Claim
	for range 30 {
		l.Begin(&c, "uid:1", budgets)
		c.Refuse(start, Amount{Messages: 1})
	}
	a := c.Take(start, Amount{Messages: 1})
	if !a.Room || a.Percent != 310 || a.Use != 10 {
		t.Errorf("%+v", a)
	}
	if s := l.State("uid:1", budgets, start); s[0].Refused != 30 || s[1].Refused != 0 || s[0].Used != 1 {
		t.Errorf("%+v", s)
	}
}

func TestText(t *testing.T) {
	for want, limit := range map[string]Limit{
		"100 messages/hour":     {Messages, 100, time.Hour},
		"2000 recipients/day":   {Recipients, 2000, day},
		"50 new-recipients/day": {NewRecipients, 50, day},
		"500MiB/day":            {Bytes, 500 << 20, day},
		"1kB/minute":            {Bytes, 1000, time.Minute},
		"2TiB/week":             {Bytes, 2 << 40, 7 * day},
		"1 messages/second":     {Messages, 1, time.Second},
		"9 messages/month":      {Messages, 9, 30 * day},
		"9 messages/10m":        {Messages, 9, 10 * time.Minute},
		"9 messages/6h":         {Messages, 9, 6 * time.Hour},
		"9 messages/3d":         {Messages, 9, 3 * day},
		"9 messages/90s":        {Messages, 9, 90 * time.Second},
		"9 messages/1.5s":       {Messages, 9, 1500 * time.Millisecond},
		"9 counted 9/hour":      {Counted(9), 9, time.Hour},
	} {
		if got := limit.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for want, action := range map[string]Action{"none": None, "slow": Slow, "defer": Defer, "hold": Hold, "suspend": Suspend, "action 9": 9} {
		if got := action.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

package limit

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"
)

var fewNew = Limit{NewRecipients, 3, time.Hour}

// news sends to a recipient and tells whether it counted as new.
func news(l *Limiter, identity, recipient string, now time.Time) bool {
	budgets := limits(identity, Limit{NewRecipients, 1 << 40, time.Second})
	before := l.State(identity, budgets, now)[0].Used
	send(l, identity, budgets, now, Amount{Recipients: 1, Recipient: recipient})
	return l.State(identity, budgets, now)[0].Used > before
}

func TestNewRecipients(t *testing.T) {
	l := open(t)
	steps := []struct {
		after               time.Duration
		identity, recipient string
		fresh               bool
	}{
		{0, "uid:1", "a@example.com", true},
		{0, "uid:1", "a@example.com", false},
		{0, "uid:1", "A@Example.COM", false},
		{0, "uid:1", "b@example.com", true},
		{0, "uid:2", "a@example.com", true},
		{29 * day, "uid:1", "a@example.com", false}, // and so is seen again
		{20 * day, "uid:1", "a@example.com", false},
		{0, "uid:1", "b@example.com", true}, // 49 days
		{32 * day, "uid:1", "a@example.com", true},
	}
	now := start
	for i, step := range steps {
		now = now.Add(step.after)
		if got := news(l, step.identity, step.recipient, now); got != step.fresh {
			t.Errorf("step %d: %s to %s counted as new: %v", i, step.identity, step.recipient, got)
		}
	}
}

// TestNewRecipientsClaimed: one is seen when it is committed, counts once in a
// transaction, and is given back with what a relay refuses.
func TestNewRecipientsClaimed(t *testing.T) {
	l := open(t)
	budgets := limits("uid:1", fewNew)
	var c Claim
	l.Begin(&c, "uid:1", budgets)
	for _, recipient := range []string{"a@x", "A@x", "b@x", "a@x", "c@x"} {
		if a := c.Take(start, Amount{Recipients: 1, Recipient: recipient}); !a.Room {
			t.Errorf("%s: %+v", recipient, a)
		}
	}
	if a := c.Take(start, Amount{Recipients: 1, Recipient: "d@x"}); a.Room || a.Limit != fewNew {
		t.Errorf("the fourth: %+v", a)
	}
	c.Return(Amount{Recipients: 1, Recipient: "b@x"})
	c.Return(Amount{Recipients: 1, Recipient: "b@x"}) // it holds none any more
	if a := c.Take(start, Amount{Recipients: 1, Recipient: "d@x"}); !a.Room {
		t.Errorf("after one was given back: %+v", a)
	}
	c.Cancel()
	if news(l, "uid:1", "zzz@x", start); !news(l, "uid:1", "a@x", start) {
		t.Error("a cancelled claim made a recipient known")
	}
	if n := l.State("uid:1", budgets, start)[0].Used; n != 0 {
		t.Errorf("%d used by a claim that was cancelled", n)
	}
}

// TestCircleKept: whom an identity has sent to is known after a restart, however many
// rings they lie in.
func TestCircleKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.db")
	name := func(i int) string { return fmt.Sprintf("user%d@example.com", i) }
	sent := 0
	for _, size := range []int{1, 40, 49, 200, 1000, 5000} {
		l := openAt(t, path)
		for i := range sent {
			if !l.hasSeen("uid:1", digest(name(i), l.seed), start.UnixNano()) {
				t.Fatalf("%d of %d are not known", i, sent)
			}
		}
		if l.hasSeen("uid:1", digest("other@example.com", l.seed), start.UnixNano()) || l.seenAll.Load() != int64(sent) {
			t.Errorf("%d known, want %d, and not another", l.seenAll.Load(), sent)
		}
		for ; sent < size; sent++ {
			send(l, "uid:1", limits("uid:1", Limit{NewRecipients, 1 << 40, time.Hour}), start, Amount{Recipient: name(sent)})
		}
		closed(t, l)
	}
}

// TestCircleBound: of more than the bound, those stay to whom was sent last.
func TestCircleBound(t *testing.T) {
	l := on(t, nil)
	l.bounds.seen, l.bounds.seenAll = 1000, 1500
	for i := range 3000 {
		now := start.Add(time.Duration(i) * day / 150) // twenty days
		news(l, "uid:1", fmt.Sprintf("user%d@example.com", i), now)
		if n := l.seenAll.Load(); n > 1000 {
			t.Fatalf("%d known", n)
		}
	}
	if n := l.seenAll.Load(); n < 800 {
		t.Errorf("%d known", n)
	}
	end := start.Add(20 * day)
	for i := 2999; i > 2300; i-- {
		if !l.hasSeen("uid:1", digest(fmt.Sprintf("user%d@example.com", i), l.seed), end.UnixNano()) {
			t.Fatalf("the %dth from the last is not known", 3000-i)
		}
	}
	for i := range 3000 {
		news(l, "uid:2", fmt.Sprintf("user%d@example.com", i), end) // all on one day
		if n := l.seenAll.Load(); n > 1500 {
			t.Fatalf("%d known in all", n)
		}
	}
	if n := l.seenAll.Load(); n < 1300 {
		t.Errorf("%d known in all", n)
	}
	l.clock.at(end.Add(40 * day))
	for range sweepParts {
		l.sweep()
	}
	if n := l.seenAll.Load(); n != 0 {
		t.Errorf("%d known after forty days", n)
	}
}

// TestCircleModel plays a circle against a map.
func TestCircleModel(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	c := &circle{identity: "uid:1", rings: make([]ring, 1)}
	model := map[string]int64{}
	today := int64(20000)
	for range 50_000 {
		name := fmt.Sprint(random.IntN(4000))
		known := c.find(digest(name, 7))
		last, want := model[name]
		if (known != nil) != want || want && known.day() != last {
			t.Fatalf("%s: %v, want %v of day %d", name, known, want, last)
		}
		if random.IntN(2) == 0 {
			c.meet(digest(name, 7), today, 10_000, false)
			model[name] = today
		}
		if random.IntN(500) == 0 {
			today += random.Int64N(10)
			c.drop(func(a acquaintance) bool { return a.past(today) })
			for name, last := range model {
				if last < today-seenDays {
					delete(model, name)
				}
			}
		}
		if c.size != int64(len(model)) {
			t.Fatalf("%d members, want %d", c.size, len(model))
		}
	}
}

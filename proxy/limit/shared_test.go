package limit

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// TestOthersAreNotHeldAgainstMe: whatever one identity tries, another one with
// room in all budgets meets what it would have met without that, but for replies
// that come late while the shared budget is nearly full.
func TestOthersAreNotHeldAgainstMe(t *testing.T) {
	ladder := Ladder{{Slow, 80}, {Defer, 100}, {Hold, 150}, {Suspend, 400}}
	budgets := func(key string) []Budget {
		return []Budget{
			{Key: key, Limits: []Limit{{Messages, 10, time.Hour}}},
			{Key: "unit:web", Limits: []Limit{{Messages, 30, time.Hour}}, Shared: true},
			{Key: "host", Limits: []Limit{{Messages, 100, time.Hour}}, Shared: true},
		}
	}
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		l := newLimiter(Options{})
		now := time.Unix(1_800_000_000, 0)
		var bad, good Claim
		for range 2000 {
			now = now.Add(time.Duration(random.IntN(20)) * time.Second)
			l.Begin(&bad, "uid:1", budgets("uid:1"))
			answer := bad.Take(now, Amount{Messages: 1})
			if ladder.For(answer, 3) > Slow && answer.Room { // raised by a breaker
				bad.Return(Amount{Messages: 1})
				bad.Refuse(now, Amount{Messages: 1})
			}
			bad.Commit(now)
		}
		l.Begin(&good, "uid:2", budgets("uid:2"))
		answer := good.Take(now, Amount{Messages: 1})
		if action := ladder.For(answer, 0); answer.Room && action > Slow || action > Defer {
			t.Fatalf("seed %d: %v for %+v", seed, action, answer)
		}
		if answer.Percent != 10 || answer.Use != 10 {
			t.Fatalf("seed %d: %+v, want the demand of this one message", seed, answer)
		}
		good.Cancel()
	}
}

// TestKeysThatWereOnlyAskedAbout take no room.
func TestKeysThatWereOnlyAskedAbout(t *testing.T) {
	l := newLimiter(Options{Store: deaf{}})
	now := time.Unix(1_800_000_000, 0)
	ten := []Limit{{Messages, 10, time.Hour}}
	var c Claim
	for i := range 10_000 {
		l.Begin(&c, "uid:1", []Budget{{Key: "uid:1", Limits: ten}, {Key: "sender:" + strconv.Itoa(i), Limits: ten}})
		if !c.Take(now, Amount{Messages: 1}).Room {
			t.Fatal("no room")
		}
		c.Cancel()
	}
	if n := l.count.Load(); n > 1 {
		t.Errorf("%d entries are kept", n)
	}
	if n := len(l.notes); n > 1 {
		t.Errorf("%d notes wait to be saved", n)
	}
}

// deaf is a store on a full disk.
type deaf struct{}

func (deaf) Load(func(string, []byte) error) error { return nil }
func (deaf) Save(map[string][]byte) error          { return errors.New("no space left on device") }
func (deaf) Close() error                          { return nil }

// TestOneClaimIsNoDemandWithoutEnd: a letter that is larger than the whole limit,
// or a flight of recipients that is longer, does not look like somebody who goes
// on trying.
func TestOneClaimIsNoDemandWithoutEnd(t *testing.T) {
	l := newLimiter(Options{})
	now := time.Unix(1_800_000_000, 0)
	budgets := []Budget{{Key: "uid:1", Limits: []Limit{{Bytes, 1000, time.Hour}, {Recipients, 20, time.Hour}}}}
	var c Claim
	l.Begin(&c, "uid:1", budgets)
	if a := c.Take(now, Amount{Bytes: 100_000}); a.Room || !a.Opens.IsZero() {
		t.Errorf("too large: %+v", a)
	}
	for range 100 {
		c.Take(now, Amount{Recipients: 1})
	}
	states := l.State("uid:1", budgets, now)
	if states[0].Refused != 0 || states[1].Refused != 20 {
		t.Errorf("%+v, want a demand of nothing and of one limit", states)
	}
}

package alert

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var graveKinds = []string{"suspension", "breaker", "drift", "mode", "certificate", "relay", "spool"}

// flood raises many events of the kinds that anybody can make happen.
func flood(now time.Time, raise func(time.Time, Event), events int) {
	for i := range events {
		raise(now, Event{Kind: []string{"blocked", "login", "limit"}[i%3], Identity: fmt.Sprint("address:", i)})
	}
}

// Whatever anybody can make happen, before and after: what is grave is told at once,
// whom it is about too, and before what waits.
func TestFloodHidesNothingGrave(t *testing.T) {
	for _, events := range []int{19, 20, 21, 100, 5000} {
		r := newRanks()
		flood(start, r.raise, events)
		now := start.Add(time.Second)
		for i, kind := range graveKinds {
			r.raise(now, Event{Kind: kind, Identity: fmt.Sprint("uid:", i)})
		}
		flood(now, r.raise, events)
		for i, kind := range graveKinds {
			got, found := r.pop()
			if !found || got.Kind != kind || got.Identity != fmt.Sprint("uid:", i) || got.Count != 1 {
				t.Fatalf("after %d events %+v, want %s of uid:%d", events, got, kind, i)
			}
		}
		rest := 0
		for _, found := r.pop(); found; _, found = r.pop() {
			rest++
		}
		if rest != min(events, maxAlerts) {
			t.Errorf("%d common alerts of %d events", rest, events)
		}
	}
}

// The same where the target takes nothing for hours.
func TestFullQueueHidesNothingGrave(t *testing.T) {
	r := newRanks()
	for i := range 20 {
		flood(start.Add(time.Duration(i)*period), r.raise, 100)
	}
	now := start.Add(20 * period)
	r.raise(now, Event{Kind: "suspension", Identity: "uid:33"})
	if got, found := r.pop(); !found || got.Kind != "suspension" || got.Identity != "uid:33" {
		t.Errorf("%+v", got)
	}
}

func TestFloodThroughALane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{}
		a := with(r, nil)
		flood(time.Now(), func(_ time.Time, event Event) { a.Raise(event) }, 1000)
		synctest.Wait()
		a.Raise(Event{Kind: "breaker", Identity: "uid:33"})
		synctest.Wait()
		got := r.got()
		if len(got) != maxAlerts+1 || got[maxAlerts].Kind != "breaker" || got[maxAlerts].Identity != "uid:33" {
			t.Errorf("%d alerts, the last %+v", len(got), got[len(got)-1])
		}
		time.Sleep(period + time.Second)
		synctest.Wait()
		if got := r.got(); len(got) != maxAlerts+2 || got[maxAlerts+1].Kind != Storm || got[maxAlerts+1].Count != 1000-maxAlerts {
			t.Errorf("%d alerts, the last %+v", len(got), got[len(got)-1])
		}
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// No count is lost, no more than 20 alerts of either rank are made in any period,
// and as long as there are few grave events, each is told alone and at once.
func TestRanksProperties(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		r, now := newRanks(), start
		raised, told := 0, 0
		made := map[bool][]time.Time{}
		take := func() (names []string) {
			for alert, found := r.pop(); found; alert, found = r.pop() {
				told += alert.Count
				common := isCommon(alert.Kind)
				for kind := range alert.Counts {
					common = isCommon(kind)
				}
				made[common] = append(made[common], now)
				names = append(names, alert.Kind+" "+alert.Identity)
			}
			return names
		}
		for i := range 3000 {
			if random.IntN(500) == 0 {
				kind, identity := graveKinds[random.IntN(len(graveKinds))], fmt.Sprint("uid:", i)
				r.raise(now, Event{Kind: kind, Identity: identity})
				raised++
				if names := take(); !slices.Contains(names, kind+" "+identity) {
					t.Fatalf("seed %d: %s of %s is not told at once, but %v", seed, kind, identity, names)
				}
			}
			r.raise(now, Event{Kind: []string{"blocked", "limit", "login"}[random.IntN(3)], Identity: fmt.Sprint(random.IntN(5000))})
			raised++
			now = now.Add(time.Duration(random.Int64N(int64(4 * time.Second))))
			if next := r.next(); !next.IsZero() && !next.After(now) {
				r.due(now)
			}
			take()
		}
		for common, times := range made {
			for i := maxAlerts; i < len(times); i++ {
				if times[i].Sub(times[i-maxAlerts]) < period-8*time.Second {
					t.Fatalf("seed %d: %d alerts in %v, common %t", seed, maxAlerts+1, times[i].Sub(times[i-maxAlerts]), common)
				}
			}
		}
		r.flush(now)
		take()
		if raised != told {
			t.Fatalf("seed %d: %d events raised, %d told", seed, raised, told)
		}
	}
}

package limit

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestTogether lets sessions of several identities claim at once, commit and cancel,
// while entries are swept and saved: never more than the maximum is claimed and committed,
// never is one refused that would have had room, and nothing is left claimed.
func TestTogether(t *testing.T) {
	const sessions, each, most = 8, 3000, 5000
	l := on(t, &failing{kept: map[string][]byte{}})
	host := Budget{Key: "host", Limits: []Limit{{Messages, most, time.Hour}}}
	var committed, holding atomic.Int64
	var wg sync.WaitGroup
	for session := range sessions {
		identity := fmt.Sprintf("uid:%d", session%3)
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(session), 1))
			budgets := []Budget{limits(identity, thousand)[0], {Key: "unit:a", Limits: []Limit{{Messages, 1 << 40, time.Minute}}}, host}
			budgets[0].Limits = []Limit{{Messages, 1 << 40, time.Hour}}
			random.Shuffle(len(budgets), func(i, j int) { budgets[i], budgets[j] = budgets[j], budgets[i] })
			var c Claim
			for range each {
				l.Begin(&c, identity, budgets)
				now := holding.Add(1) // those that hold or ask, this one included
				answer := c.Take(start, Amount{Messages: 1})
				switch {
				case !answer.Room && committed.Load()+now < most-sessions:
					t.Errorf("refused with %d committed", committed.Load())
				case answer.Room && random.IntN(4) > 0:
					c.Commit(start)
					committed.Add(1)
				default:
					c.Cancel()
				}
				holding.Add(-1)
			}
		})
	}
	stop, swept := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(swept)
		for {
			select {
			case <-stop:
				return
			default:
				l.sweep()
				if err := l.flush(); err != nil {
					t.Error(err)
				}
				runtime.Gosched()
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-swept
	state := l.State("", []Budget{host}, start)[0]
	if state.Used != committed.Load() || committed.Load() != most {
		t.Errorf("committed %d, used %d, want %d", committed.Load(), state.Used, most)
	}
	if used := l.State("", []Budget{{Key: "unit:a", Limits: []Limit{{Messages, 1 << 40, time.Minute}}}}, start)[0].Used; used != most {
		t.Errorf("unit: %d used, want %d", used, most)
	}
}

// TestTogetherDropped has a key dropped all the time under the hands of who claims:
// nothing stays claimed in one that is gone, and then all counts.
func TestTogetherDropped(t *testing.T) {
	const sessions, each = 4, 4000
	l := on(t, &failing{kept: map[string][]byte{}})
	budgets := limits("uid:1", Limit{Messages, sessions * each, time.Hour})
	var wg sync.WaitGroup
	for _, drop := range []bool{true, false} {
		for range sessions {
			wg.Go(func() {
				var c Claim
				for i := range each {
					l.Begin(&c, "uid:1", budgets)
					if drop {
						l.forceDrop("uid:1")
					}
					if a := c.Take(start, Amount{Messages: 1}); !a.Room {
						t.Errorf("refused: %+v", a)
					}
					if i%2 == 0 {
						c.Cancel()
					}
					c.Commit(start)
				}
			})
		}
		wg.Wait()
		if drop {
			l.forceDrop("uid:1")
		}
	}
	if used := l.State("", budgets, start)[0].Used; used != sessions*each/2 {
		t.Errorf("%d used, want %d", used, sessions*each/2)
	}
}

// TestDropped: what is claimed after the key was dropped counts, and a key in which
// something is claimed is not dropped.
func TestDropped(t *testing.T) {
	l := on(t, nil)
	budgets := limits("uid:1", Limit{Messages, 10, time.Hour})
	var c Claim
	for i := range int64(3) {
		l.Begin(&c, "uid:1", budgets) // it knows the entry of the last time
		if i == 0 {
			l.forceDrop("uid:1")
		}
		c.Take(start, Amount{Messages: 1})
		l.forceDrop("uid:1")
		c.Commit(start)
		if used := l.State("", budgets, start)[0].Used; used != i+1 {
			t.Errorf("%d used, want %d", used, i+1)
		}
	}
	l.forceDrop("uid:1")
	l.Begin(&c, "uid:1", budgets)
	c.Take(start, Amount{Messages: 1})
	c.Commit(start)
	if used := l.State("", budgets, start)[0].Used; used != 1 {
		t.Errorf("%d used, want 1", used)
	}
}

// forceDrop drops a key that nobody claims in, whatever it says.
func (l *Limiter) forceDrop(key string) {
	s := l.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[key]; e != nil {
		l.drop(s, e, func(e *entry) bool { return e.weight() >= 0 })
	}
}

// TestBound keeps no more keys than it may, and lets the emptiest go.
func TestBound(t *testing.T) {
	l := on(t, nil)
	l.bounds.entries = 2000
	for i := range 2000 {
		send(l, "", limits(fmt.Sprintf("full:%d", i), thousand), start, Amount{Messages: 900})
	}
	for i := range 20_000 {
		send(l, "", limits(fmt.Sprintf("sender:%d", i), thousand), start, Amount{Messages: 1})
		if n := l.count.Load(); n > 2000+shardCount {
			t.Fatalf("%d keys", n)
		}
	}
	kept := 0
	for i := range 2000 {
		if l.State("", limits(fmt.Sprintf("full:%d", i), thousand), start)[0].Used == 900 {
			kept++
		}
	}
	if kept < 1500 {
		t.Errorf("%d of 2000 full ones kept", kept)
	}
}

// TestMemory is of 100,000 identities with two limits, of which each slot of the window was
// used, and of as many that sent ten messages.
func TestMemory(t *testing.T) {
	const identities = 100_000
	for name, slotsUsed := range map[string]int{"ten messages": 10, "a message in each slot": 65} {
		l := on(t, nil)
		before := heap()
		both := []Limit{{Messages, 200, time.Hour}, {Recipients, 2000, 24 * time.Hour}}
		now := start
		for i := range slotsUsed {
			now = start.Add(time.Duration(i) * 24 * time.Hour / 64)
			if slotsUsed == 65 {
				now = start.Add(time.Duration(i) * time.Hour / 64)
				both[1].Window = time.Hour
			}
			for j := range identities {
				key := fmt.Sprintf("uid:%d", j)
				if !send(l, key, []Budget{{Key: key, Limits: both}}, now, Amount{Messages: 1, Recipients: 2}).Room {
					t.Fatal("no room")
				}
			}
		}
		used := heap() - before
		t.Logf("%d identities, two limits, %s: %d MiB", identities, name, used>>20)
		if used > 100<<20 {
			t.Errorf("%s: %d MiB", name, used>>20)
		}
		runtime.KeepAlive(l)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestNothingAllocated(t *testing.T) {
	l := open(t)
	budgets := fourBudgets("uid:33")
	var c Claim
	if n := testing.AllocsPerRun(1000, func() {
		l.Begin(&c, "uid:33", budgets)
		c.Take(start, Amount{Messages: 1, Recipients: 1, Bytes: 4096, Recipient: "a@example.com"})
		c.Commit(start)
		l.Suspended(start, "uid:33", "unit:php-fpm.service")
		l.Raised("uid:33", start)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

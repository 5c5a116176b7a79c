package breaker

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// defaults are the rules that the configuration has unless it says otherwise.
var defaults = []Rule{
	{Kind: Refused, Share: 0.5, Least: 20, Window: time.Hour, For: time.Hour},
	{Kind: Senders, Report: true, Least: 20, Window: time.Hour, For: time.Hour},
	{Kind: Identical, Report: true, Least: 200, Window: time.Hour, For: time.Hour},
	{Kind: Burst, Report: true, Times: 10, Least: 100, Window: 10 * time.Minute, For: time.Hour},
}

// busy makes an identity use all the room that it can have.
func busy(watch *Watch, name string, at time.Time) {
	for i := range 25 {
		message := Message{Sender: string(rune('a'+i)) + "@example.com", Recipients: 1, Body: uint64(i)*0x9e3779b97f4a7c15 + 1}
		watch.Sent(name, at, message)
	}
	watch.Results(name, at, 3, 1)
}

func TestMemoryOfManyIdentities(t *testing.T) {
	const count, most = 100_000, 60 << 20
	names := make([]string, count)
	for i := range names {
		names[i] = "uid:" + strconv.Itoa(i)
	}
	before := heap()
	watch := New(defaults)
	for _, name := range names {
		busy(watch, name, start)
	}
	used := heap() - before
	t.Logf("%d identities, each with all that it can have: %d MiB, %d octets each", count, used>>20, used/count)
	if used > most {
		t.Errorf("%d octets, want at most %d", used, most)
	}
	known := 0
	for i := range watch.shards {
		known += len(watch.shards[i].identities)
	}
	if known != count {
		t.Errorf("%d identities known", known)
	}
	runtime.KeepAlive(names)
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestIdentitiesAreBounded(t *testing.T) {
	watch := New(defaults)
	for i := range 3 * shards * maxPerShard {
		watch.Sent("container:"+strconv.Itoa(i), start.Add(time.Duration(i)*time.Millisecond), Message{Sender: "a@b", Recipients: 1})
	}
	for i := range watch.shards {
		if n := len(watch.shards[i].identities); n > maxPerShard {
			t.Errorf("shard %d has %d identities", i, n)
		}
	}
}

// An identity that sends goes on to be known while others come and go.
func TestTheIdleMakePlace(t *testing.T) {
	watch := New([]Rule{{Kind: Burst, Times: 2, Least: 1, Window: time.Minute, For: 0}})
	at := start
	for i := range 3 * shards * maxPerShard {
		at = at.Add(time.Millisecond)
		watch.Sent("container:"+strconv.Itoa(i), at, Message{Recipients: 1})
		if i%500 == 0 {
			watch.Sent("uid:33", at, Message{Recipients: 1})
		}
	}
	known := 0
	for i := range watch.shards {
		for _, one := range watch.shards[i].identities {
			known = max(known, int(one.pace.windows))
		}
	}
	if known < 5 {
		t.Errorf("nobody has a history of more than %d windows", known)
	}
}

func TestTheIdleAreForgotten(t *testing.T) {
	watch := New(defaults)
	for i := range 1000 {
		busy(watch, "uid:"+strconv.Itoa(i), start)
	}
	count := func(at time.Time) (identities, tables int) {
		for i := range 1000 { // somebody else, to come by each shard
			watch.Results("uid:new"+strconv.Itoa(i), at, 1, 0)
		}
		for i := range watch.shards {
			identities += len(watch.shards[i].identities)
			for _, one := range watch.shards[i].identities {
				tables += len(one.senders) + len(one.bodies.table)
			}
		}
		return identities, tables
	}
	if identities, tables := count(start.Add(3 * time.Hour)); identities != 2000 || tables != 0 {
		t.Errorf("after 3 hours: %d identities and %d senders and bodies, want 2000 and 0", identities, tables)
	}
	if identities, _ := count(start.Add(36 * 24 * time.Hour)); identities != 1000 {
		t.Errorf("after 36 days: %d identities, want the 1000 that spoke", identities)
	}
}

func TestUsualCaseAllocatesNothing(t *testing.T) {
	watch := New(defaults)
	at := start
	busy(watch, "uid:33", at)
	allocations := testing.AllocsPerRun(1000, func() {
		at = at.Add(time.Second)
		watch.Sent("uid:33", at, Message{Sender: "a@example.com", Recipients: 1, Body: 5})
		watch.Results("uid:33", at, 1, 0)
	})
	if allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

// A breaker that tripped neither trips again nor makes words.
func TestQuiet(t *testing.T) {
	watch := New([]Rule{{Kind: Senders, Least: 1, Window: time.Hour, For: time.Hour}})
	sent := func(at time.Time, sender string) int {
		return len(watch.Sent("uid:33", at, Message{Sender: sender, Recipients: 1}))
	}
	sent(start, "a@b")
	if sent(start, "b@b") != 1 {
		t.Fatal("does not trip")
	}
	for i := range 60 {
		if sent(start.Add(time.Duration(i)*time.Minute), string(rune('a'+i%2))+"@b") != 0 {
			t.Fatalf("trips again after %d minutes", i)
		}
	}
	if sent(start.Add(time.Hour), "a@b") != 1 {
		t.Error("does not trip for what came meanwhile")
	}
	if sent(start.Add(2*time.Hour+time.Minute), "a@b") != 0 {
		t.Error("trips for what is older than the window")
	}
}

func TestNobodyCountsForAnother(t *testing.T) {
	watch := New([]Rule{{Kind: Refused, Share: 0.5, Least: 2, Window: time.Hour, For: time.Hour}})
	for i := range 100 {
		if trips := watch.Results("uid:"+strconv.Itoa(i), start, 0, 1); trips != nil {
			t.Fatal(trips)
		}
	}
}

func TestNullReversePathIsNoSender(t *testing.T) {
	watch := New([]Rule{{Kind: Senders, Least: 1, Window: time.Hour, For: time.Hour}})
	watch.Sent("uid:33", start, Message{Sender: "a@b", Recipients: 1})
	if trips := watch.Sent("uid:33", start, Message{Recipients: 1}); trips != nil {
		t.Error(trips)
	}
}

func TestApply(t *testing.T) {
	refused := Rule{Kind: Refused, Share: 0.5, Least: 4, Window: time.Hour, For: time.Hour}
	louder, sooner, longer := refused, refused, refused
	louder.Report = true
	sooner.Least = 3
	longer.Window = 2 * time.Hour
	tests := map[string]struct {
		before int // refused recipients before the change
		to     []Rule
		trips  int // at one more
	}{
		"the same":           {3, []Rule{refused}, 1},
		"the same, tripped":  {4, []Rule{refused}, 0},
		"fewer are enough":   {2, []Rule{sooner}, 1},
		"only reports":       {3, []Rule{louder}, 1},
		"another window":     {3, []Rule{longer}, 0},
		"none":               {3, nil, 0},
		"another kind":       {3, []Rule{{Kind: Senders, Least: 1, Window: time.Hour}}, 0},
		"two, the last wins": {3, []Rule{longer, refused}, 1},
		"unknown kind":       {3, []Rule{refused, {Kind: "other"}}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			watch := New([]Rule{refused})
			watch.Results("uid:33", start, 0, test.before)
			watch.Apply(test.to)
			if trips := watch.Results("uid:33", start, 0, 1); len(trips) != test.trips {
				t.Errorf("trips %v, want %d", trips, test.trips)
			}
		})
	}
}

// A rule that changed may trip at once, and what it tripped for is gone.
func TestApplyEndsQuiet(t *testing.T) {
	rule := Rule{Kind: Refused, Report: true, Share: 0.5, Least: 2, Window: time.Hour, For: time.Hour}
	watch := New([]Rule{rule})
	if trips := watch.Results("uid:33", start, 0, 2); len(trips) != 1 || !trips[0].Report {
		t.Fatal(trips)
	}
	rule.Report = false
	watch.Apply([]Rule{rule})
	if trips := watch.Results("uid:33", start, 0, 1); trips != nil {
		t.Error("trips for what it tripped for before:", trips)
	}
	if trips := watch.Results("uid:33", start, 0, 1); len(trips) != 1 || trips[0].Report {
		t.Error(trips)
	}
}

func TestClockThatJumps(t *testing.T) {
	rule := Rule{Kind: Refused, Share: 0.5, Least: 10, Window: time.Hour, For: time.Hour}
	watch := New([]Rule{rule})
	watch.Results("uid:33", start, 0, 5)
	if trips := watch.Results("uid:33", start.Add(-24*time.Hour), 0, 5); len(trips) != 1 {
		t.Error("back by a day: what was counted is gone")
	}
	watch.Results("uid:34", start, 0, 9)
	if trips := watch.Results("uid:34", start.AddDate(300, 0, 0), 0, 1); trips != nil {
		t.Error("300 years later: what was counted still counts", trips)
	}
}

func TestStrangeRules(t *testing.T) {
	for _, kind := range kinds {
		watch := New([]Rule{{Kind: kind}, {Kind: kind, Share: math.NaN(), Times: math.Inf(1), Least: math.MaxInt64, Window: math.MaxInt64, For: math.MaxInt64}})
		for i := range 10_000 {
			watch.Sent("uid:33", start.Add(time.Duration(i)*time.Hour), Message{Sender: fmt.Sprintf("%x@b", i*7919), Recipients: math.MaxInt, Body: uint64(i)})
			watch.Results("uid:33", start, math.MaxInt, -5)
		}
		watch.Apply([]Rule{{Kind: kind, Window: -1, For: -1, Least: -1}})
		watch.Sent("", time.Time{}, Message{Sender: "@", Recipients: -1, Body: 1})
		watch.Results("", time.Time{}, -1, 1)
	}
}

func TestManyGoroutines(t *testing.T) {
	const workers, each = 8, 500
	watch := New([]Rule{{Kind: Refused, Share: 1, Least: workers * each, Window: time.Hour, For: time.Hour}})
	var trips sync.Map
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for i := range each {
				at := start.Add(time.Duration(i) * time.Millisecond)
				watch.Sent("uid:"+strconv.Itoa(i), at, Message{Sender: "a@b", Recipients: 1, Body: 1})
				for _, trip := range watch.Results("uid:33", at, 0, 1) {
					trips.Store(worker, trip)
				}
			}
		})
	}
	group.Wait()
	count := 0
	trips.Range(func(_, value any) bool {
		count++
		if got := value.(Trip).Count; got != workers*each {
			t.Errorf("count %d", got)
		}
		return true
	})
	if count != 1 {
		t.Errorf("%d trips, want one", count)
	}
}

func BenchmarkSent(b *testing.B) {
	for _, senders := range []int{1, 20} {
		b.Run(fmt.Sprintf("%d senders", senders), func(b *testing.B) {
			watch := New(defaults)
			names, paths := make([]string, 1000), make([]string, senders)
			for i := range names {
				names[i] = "uid:" + strconv.Itoa(i)
				busy(watch, names[i], start)
			}
			for i := range paths {
				paths[i] = string(rune('a'+i)) + ".somebody@mail.example.com"
			}
			at, i := start, 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				at = at.Add(10 * time.Millisecond)
				watch.Sent(names[i%len(names)], at, Message{Sender: paths[i%senders], Recipients: 1, Body: uint64(i % 10)})
			}
		})
	}
}

func BenchmarkResults(b *testing.B) {
	watch := New(defaults)
	at := start
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(10 * time.Millisecond)
		watch.Results("uid:33", at, 1, 0)
	}
}

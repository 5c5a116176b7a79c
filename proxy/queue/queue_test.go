package queue

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

func fixed(workers int) func(string) int { return func(string) int { return workers } }

// fill adds items that are due, oldest first.
func fill(q *Queue, identity, route string, count int) {
	for i := range count {
		q.Add(Item{ID: fmt.Sprintf("%s/%s/%06d", route, identity, i), Identity: identity, Route: route, Next: start.Add(time.Duration(i) * time.Microsecond)})
	}
}

// later is when all that fill adds is due.
var later = start.Add(time.Hour)

// take gives what is taken until nothing is due.
func take(q *Queue, now time.Time) (items []Item) {
	for {
		item, ok := q.Take(now)
		if !ok {
			return items
		}
		items = append(items, item)
	}
}

func TestIdentitiesInTurn(t *testing.T) {
	q := New(fixed(1000))
	fill(q, "a", "", 4)
	fill(q, "b", "", 2)
	fill(q, "c", "", 1)
	var got []string
	for _, item := range take(q, later) {
		got = append(got, item.ID[1:])
	}
	want := []string{"a/000000", "b/000000", "c/000000", "a/000001", "b/000001", "a/000002", "a/000003"}
	if !slices.Equal(got, want) {
		t.Fatalf("took %v, want %v", got, want)
	}
}

// Somebody with 50,000 messages, of which as many as possible are under way and
// never end, does not delay the next message of anybody else.
func TestFlood(t *testing.T) {
	q := New(fixed(20))
	fill(q, "flood", "main", 50_000)
	if got := len(take(q, later)); got != 19 {
		t.Fatalf("one identity has %d of 20 workers, want 19: the last one is for who has none", got)
	}
	fill(q, "small", "main", 3)
	item, ok := q.Take(later)
	if !ok || item.Identity != "small" {
		t.Fatalf("took %+v %v, want the other's", item, ok)
	}
	if item, ok := q.Take(later); ok {
		t.Fatalf("took %+v with all workers busy", item)
	}
	q.Done(item.ID)
	if item, ok := q.Take(later); !ok || item.Identity != "small" {
		t.Fatalf("took %+v %v, want the other's second", item, ok)
	}
	q.Done("main/flood/000000")
	if item, ok := q.Take(later); ok {
		t.Fatalf("%s has the last worker", item.Identity)
	}
}

// With 50,000 that wait and one worker, another's item is taken within one turn.
func TestOneTurn(t *testing.T) {
	q := New(fixed(1))
	fill(q, "flood", "main", 50_000)
	fill(q, "many", "main", 1_000)
	for range 7 {
		item, _ := q.Take(later)
		q.Done(item.ID)
	}
	fill(q, "small", "main", 1)
	var got []string
	for range 3 {
		item, _ := q.Take(later)
		q.Done(item.ID)
		got = append(got, item.Identity)
	}
	if !slices.Contains(got, "small") {
		t.Fatalf("three turns went to %v", got)
	}
}

func TestSmallRouteUsesAllWorkers(t *testing.T) {
	for _, workers := range []int{-1, 0, 1, 2, 7} {
		q := New(fixed(workers))
		fill(q, "a", "", 20)
		if got := len(take(q, later)); got != max(workers, 0) {
			t.Errorf("%d workers: %d active", workers, got)
		}
		if at, ok := q.Next(later); ok {
			t.Errorf("%d workers: next at %v, but all are busy", workers, at)
		}
	}
}

// A relay that answers nothing keeps its own workers only.
func TestSlowRoute(t *testing.T) {
	q := New(fixed(4))
	fill(q, "a", "slow", 10_000)
	fill(q, "a", "fast", 100)
	if got := len(take(q, later)); got != 8 {
		t.Fatalf("%d active, want 4 for each route", got)
	}
	for i := range 4 {
		q.Done(fmt.Sprintf("fast/a/%06d", i))
	}
	for i := range 96 {
		item, ok := q.Take(later)
		if !ok || item.Route != "fast" {
			t.Fatalf("after %d: took %+v %v", i, item, ok)
		}
		q.Done(item.ID)
	}
	if waiting, active := q.Len(); waiting != 9_996 || active != 4 {
		t.Fatalf("%d waiting, %d active", waiting, active)
	}
}

func TestRoutesInTurn(t *testing.T) {
	q := New(fixed(100))
	fill(q, "a", "one", 40)
	fill(q, "b", "one", 40)
	fill(q, "a", "two", 2)
	var got []string
	for _, item := range take(q, later)[:5] {
		got = append(got, item.Route)
	}
	if want := []string{"one", "two", "one", "two", "one"}; !slices.Equal(got, want) {
		t.Fatalf("routes %v, want %v", got, want)
	}
}

func TestPause(t *testing.T) {
	q := New(fixed(1))
	fill(q, "a", "main", 1)
	until := later.Add(time.Minute)
	q.Pause("main", until)
	if item, ok := q.Take(later); ok {
		t.Fatalf("took %+v of a paused route", item)
	}
	if at, ok := q.Next(later); !ok || !at.Equal(until) {
		t.Fatalf("next at %v %v, want when the pause ends", at, ok)
	}
	if !q.Retry("main/a/000000", later) {
		t.Fatal("a waiting item cannot be tried again")
	}
	if _, ok := q.Take(later); ok {
		t.Fatal("Retry ended the pause")
	}
	q.Resume("main")
	if _, ok := q.Take(later); !ok {
		t.Fatal("nothing taken after the pause")
	}
	q.Resume("never heard of")
}

func TestPauseRunsOut(t *testing.T) {
	q := New(fixed(1))
	q.Pause("main", later)
	fill(q, "a", "main", 1)
	if _, ok := q.Take(later.Add(-1)); ok {
		t.Fatal("taken before the pause ended")
	}
	if _, ok := q.Take(later); !ok {
		t.Fatal("not taken when the pause ended")
	}
}

// What is added while it is active is never with two workers, and not forgotten.
func TestAddWhileActive(t *testing.T) {
	q := New(fixed(9))
	first := Item{ID: "x", Identity: "a", Next: start}
	q.Add(first)
	if got, ok := q.Take(later); !ok || got != first {
		t.Fatalf("took %+v %v", got, ok)
	}
	again := Item{ID: "x", Identity: "a", Route: "main", Next: later, Attempts: 1}
	q.Add(again)
	if item, ok := q.Take(later); ok {
		t.Fatalf("took %+v a second time", item)
	}
	if ok, active := q.Remove("x"); ok || !active {
		t.Fatalf("removed an active item: %v %v", ok, active)
	}
	if q.Retry("x", later) {
		t.Fatal("an active item is to be tried at once")
	}
	q.Done("x")
	if got, ok := q.Take(later); !ok || got != again {
		t.Fatalf("took %+v %v, want it again", got, ok)
	}
	q.Done("x")
	q.Done("x")
	if waiting, active := q.Len(); waiting+active > 0 {
		t.Fatalf("%d waiting, %d active at the end", waiting, active)
	}
}

func TestRerouteMovesWhatWaits(t *testing.T) {
	q := New(fixed(1))
	fill(q, "a", "old", 3)
	q.Take(later)
	q.Add(Item{ID: "old/a/000000", Identity: "a", Route: "old", Next: start})
	q.Reroute(func(Item) string { return "new" })
	want := []RouteStats{
		{Route: "new", Waiting: 2, OldestNext: start.Add(time.Microsecond)},
		{Route: "old", Active: 1},
	}
	if got := q.Stats(); !slices.Equal(got, want) {
		t.Fatalf("stats %+v, want %+v", got, want)
	}
	q.Done("old/a/000000")
	q.Reroute(func(Item) string { return "new" })
	if got := q.Stats(); len(got) != 1 || got[0].Waiting != 3 || len(q.routes) != 1 {
		t.Fatalf("stats %+v, %d routes", got, len(q.routes))
	}
}

// A reading of the clock keeps its monotonic part, so a jump does not move it.
func TestReadingOfTheClock(t *testing.T) {
	q := New(fixed(1))
	now := time.Now()
	q.Add(Item{ID: "x", Next: now.Add(time.Minute)})
	if _, ok := q.Take(now.Add(59 * time.Second)); ok {
		t.Fatal("taken too early")
	}
	if at, ok := q.Next(now); !ok || at != now.Add(time.Minute) {
		t.Fatalf("next at %v %v, want the very reading that was given", at, ok)
	}
}

// Time that goes back makes nothing due that is not.
func TestTimeGoesBack(t *testing.T) {
	q := New(fixed(1))
	for _, id := range []string{"x", "y"} {
		q.Add(Item{ID: id, Identity: id, Next: later})
	}
	if item, _ := q.Take(later); item.ID != "x" {
		t.Fatalf("took %+v", item)
	}
	q.Done("x") // y was found due
	if item, ok := q.Take(start); ok {
		t.Fatalf("took %+v before its time", item)
	}
	if at, ok := q.Next(start); !ok || !at.Equal(later) {
		t.Fatalf("next at %v %v", at, ok)
	}
}

// Many workers at once: each item is with one at a time, and none is lost.
func TestConcurrent(t *testing.T) {
	const items, tries = 500, 3
	q := New(fixed(8))
	for i := range items {
		q.Add(Item{ID: fmt.Sprint(i), Identity: fmt.Sprint(i % 7), Route: fmt.Sprint(i % 3), Next: start})
	}
	var mu sync.Mutex
	with, tried := map[string]bool{}, map[string]int{}
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for {
				item, ok := q.Take(later)
				if !ok {
					if waiting, active := q.Len(); waiting+active == 0 {
						return
					}
					runtime.Gosched()
					continue
				}
				mu.Lock()
				if with[item.ID] || item.Attempts != tried[item.ID] {
					t.Errorf("%s is with two workers or lost a try", item.ID)
				}
				with[item.ID] = true
				tried[item.ID]++
				mu.Unlock()
				q.Next(later)
				mu.Lock()
				with[item.ID] = false
				mu.Unlock()
				if item.Attempts++; item.Attempts < tries {
					q.Add(item)
				}
				q.Done(item.ID)
			}
		})
	}
	workers.Wait()
	for i := range items {
		if got := tried[fmt.Sprint(i)]; got != tries {
			t.Errorf("item %d was tried %d times", i, got)
		}
	}
}

func allocated() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMemory(t *testing.T) {
	const items = 100_000
	for _, identities := range []int{1, 1_000, items} {
		before := allocated()
		q := load(items, identities)
		used := allocated() - before
		t.Logf("%d identities: %.1f MB", identities, float64(used)/1e6)
		if used > 40e6 {
			t.Errorf("%d items of %d identities take %d bytes", items, identities, used)
		}
		for _, id := range ids(q) {
			q.Remove(id)
		}
		left := allocated() - before
		t.Logf("%d identities: %.1f MB when all have left", identities, float64(left)/1e6)
		if left > 10e6 { // the map keeps its room
			t.Errorf("an empty queue that had %d items of %d identities takes %d bytes", items, identities, left)
		}
		runtime.KeepAlive(q)
	}
}

func ids(q *Queue) (all []string) {
	for id := range q.items {
		all = append(all, id)
	}
	return all
}

// load fills a queue; each item brings its own copies of the names, as from disk.
func load(items, identities int) *Queue {
	q := New(fixed(20))
	for i := range items {
		q.Add(Item{
			ID: fmt.Sprintf("%026d", i), Identity: fmt.Sprintf("uid:%d", i%identities), Route: fmt.Sprintf("relay-%d", i%2),
			Next: start.Add(time.Duration(i*7919%items) * time.Millisecond),
		})
	}
	return q
}

func BenchmarkTakeDoneAdd(b *testing.B) {
	const items = 100_000
	for _, identities := range []int{1, 1_000, items} {
		b.Run(fmt.Sprintf("identities=%d", identities), func(b *testing.B) {
			q := load(items, identities)
			b.ReportAllocs()
			for b.Loop() {
				item, ok := q.Take(later)
				if !ok {
					b.Fatal("nothing is due")
				}
				q.Done(item.ID)
				q.Add(item)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		load(100_000, 1_000)
	}
}

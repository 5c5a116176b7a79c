package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// start is when the tests' time begins; it has no monotonic reading.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// play runs a script against the queue and the naive one, and compares all that
// can be seen after each step. Three bytes are one step.
func play(t *testing.T, script []byte) *naive {
	t.Helper()
	workers := map[string]int{"": 2, "main": 8, "other": 1}
	p := &players{q: New(func(route string) int { return workers[route] }), n: newNaive(workers), now: start}
	for step := 0; len(script) >= 3; step++ {
		what := p.step(t, script[0]%16, int(script[1]), int(script[2]))
		compare(t, fmt.Sprintf("step %d: %s", step, what), p.q, p.n, p.now)
		script = script[3:]
	}
	return p.n
}

// players are both queues, and the time that is passed to them.
type players struct {
	q   *Queue
	n   *naive
	now time.Time
}

var names = [3]string{"", "main", "other"}

// step does one thing to both, and says what.
func (p *players) step(t *testing.T, op byte, a, b int) string {
	t.Helper()
	id, name := fmt.Sprintf("m%02d", a%40), names[b%3]
	switch op {
	case 0, 1, 2, 3, 4:
		p.add(Item{ID: id, Identity: fmt.Sprintf("uid:%d", b/3%5), Route: name, Next: p.now.Add(time.Duration(a/40*b/16-8) * time.Second), Attempts: b})
		return "add " + id
	case 5, 6, 7, 8:
		got, ok := p.q.Take(p.now)
		want, wantOK := p.n.take(p.now)
		same(t, "take", got, ok, want, wantOK)
		return "take " + got.ID
	case 9, 10:
		if a%4 > 0 && len(p.n.active) > 0 { // mostly one that is active
			id = pick(p.n.active, a)
		}
		p.q.Done(id)
		p.n.done(id)
		return "done " + id
	case 11:
		step := time.Duration(b) * 100 * time.Millisecond
		if a%8 == 0 {
			step = -step
		}
		p.now = p.now.Add(step)
		return "time goes on by " + step.String()
	case 12:
		return p.pauseOrResume(name, a)
	case 13:
		ok, active := p.q.Remove(id)
		wantOK, wantActive := p.n.remove(id)
		same(t, "remove "+id, active, ok, wantActive, wantOK)
		return "remove " + id
	case 14:
		same(t, "retry "+id, 0, p.q.Retry(id, p.now), 0, p.n.retry(id, p.now))
		return "retry " + id
	default:
		return p.reload(name, a, b)
	}
}

func same[T comparable](t *testing.T, what string, got T, ok bool, want T, wantOK bool) {
	t.Helper()
	if got != want || ok != wantOK {
		t.Fatalf("%s: %+v %v, want %+v %v", what, got, ok, want, wantOK)
	}
}

func (p *players) add(i Item) {
	p.q.Add(i)
	p.n.add(i)
}

func (p *players) pauseOrResume(name string, a int) string {
	if a%2 == 0 {
		p.q.Resume(name)
		delete(p.n.paused, name)
		return "resume " + name
	}
	until := p.now.Add(time.Duration(a) * 50 * time.Millisecond)
	p.q.Pause(name, until)
	p.n.route(name)
	p.n.paused[name] = until
	return "pause " + name
}

// reload changes a number of workers, or all routes.
func (p *players) reload(name string, a, b int) string {
	if a%4 > 0 {
		p.n.workers[name] = b % 10
		return fmt.Sprintf("workers of %q: %d", name, b%10)
	}
	route := func(i Item) string { return names[(int(i.Identity[4])+b)%3] }
	p.q.Reroute(route)
	p.n.reroute(route)
	return "reroute"
}

func pick(items map[string]Item, number int) string {
	var ids []string
	for id := range items {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids[number%len(ids)]
}

func compare(t *testing.T, when string, q *Queue, n *naive, now time.Time) {
	t.Helper()
	check(t, when, q)
	waiting, active := q.Len()
	if waiting != len(n.waiting) || active != len(n.active) {
		t.Fatalf("%s: %d waiting and %d active, want %d and %d", when, waiting, active, len(n.waiting), len(n.active))
	}
	if got, want := q.Stats(), n.stats(); !slices.Equal(got, want) {
		t.Fatalf("%s: stats\n%+v, want\n%+v", when, got, want)
	}
	at, ok := q.Next(now)
	wantAt, wantOK := n.next(now)
	if !at.Equal(wantAt) || ok != wantOK {
		t.Fatalf("%s: next %v %v, want %v %v", when, at, ok, wantAt, wantOK)
	}
}

// check looks for what would go wrong later: an element that does not know its
// place, a lane that is not where it belongs, a name that is kept for nothing.
func check(t *testing.T, when string, q *Queue) {
	t.Helper()
	waiting, active := 0, 0
	for _, r := range q.routes {
		inLanes, stand := 0, 0
		for _, l := range r.lanes {
			if l.active == 0 && l.waiting.Len() == 0 {
				t.Fatalf("%s: an empty lane of %q is kept", when, l.identity)
			}
			for i, e := range l.waiting.all {
				if e.place != i || e.lane != l || e.active || q.items[e.id] != e {
					t.Fatalf("%s: %s is not where it should be", when, e.id)
				}
			}
			if (l.in != nil) != (l.waiting.Len() > 0) || l.in != nil && l.in.all[l.place] != l {
				t.Fatalf("%s: the lane of %q is not where it should be", when, l.identity)
			}
			if all := l.waiting.all; slices.ContainsFunc(all[len(all):cap(all)], func(e *entry) bool { return e != nil }) {
				t.Fatalf("%s: the lane of %q keeps an item that has left it", when, l.identity)
			}
			inLanes += l.waiting.Len()
			active += l.active
		}
		for i := range r.groups {
			for _, p := range []*pile[*lane]{&r.groups[i].later, &r.groups[i].ready} {
				for _, l := range p.all {
					if l.in != p || (l.active > 0) != (i == busy) {
						t.Fatalf("%s: the lane of %q stands in a group that is not its", when, l.identity)
					}
				}
				stand += p.Len()
			}
		}
		if inLanes != r.waiting || stand > len(r.lanes) {
			t.Fatalf("%s: route %q has %d waiting and says %d; %d lanes of %d stand", when, r.name, inLanes, r.waiting, stand, len(r.lanes))
		}
		waiting += inLanes
	}
	if waiting+active != len(q.items) || active != q.active {
		t.Fatalf("%s: %d waiting and %d active in lanes, %d and %d counted", when, waiting, active, len(q.items)-q.active, q.active)
	}
}

// Whatever is done in whatever order, the queue gives what the naive one gives.
func TestModel(t *testing.T) {
	taken := 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		script := make([]byte, 3*500)
		for i := range script {
			script[i] = byte(random.Uint32())
		}
		taken += play(t, script).taken
	}
	if taken < 10_000 { // else the scripts are worth little
		t.Fatalf("only %d items were taken", taken)
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{0, 1, 0, 5, 0, 0, 9, 1, 0})
	f.Add([]byte{0, 1, 1, 0, 2, 4, 12, 1, 1, 5, 0, 0, 11, 1, 9, 5, 0, 0, 0, 1, 1, 9, 1, 1, 15, 0, 1})
	f.Fuzz(func(t *testing.T, script []byte) { play(t, script[:min(len(script), 3*1000)]) })
}

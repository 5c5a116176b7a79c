package queue

import (
	"slices"
	"sync"
	"time"
)

// Item is what the queue knows of a message.
type Item struct {
	ID       string    // of the message in the spool
	Identity string    // who sent it: the unit of fairness
	Route    string    // the relay's name by policy, "" the default order
	Next     time.Time // not tried before; zero: at once
	Attempts int       // how many tries there were; only kept
}

// Queue has the waiting and the active items. New makes one.
type Queue struct {
	workers func(route string) int

	mu     sync.Mutex
	items  map[string]*entry
	routes map[string]*route // few: one for each relay, so they are looked through
	turns  uint64            // how many were given
	active int
}

// New makes an empty queue. The function says how many deliveries a route may
// have at a time, none if it is 0 or less; it is asked with each Take and Next,
// so a learning limit holds at once. It must not call the queue. Where it says
// eight or more, the last free one is kept for an identity that has none active.
func New(workers func(route string) int) *Queue {
	return &Queue{workers: workers, items: map[string]*entry{}, routes: map[string]*route{}}
}

// Add makes an item wait, a new one or one that stays after a try. One that
// waits already is replaced. One that is active stays so, and waits as given
// here once it is Done: it is never with two workers.
func (q *Queue) Add(item Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.items[item.ID]
	switch {
	case e == nil:
		e = &entry{id: item.ID}
		q.items[item.ID] = e
	case e.active:
		e.again = &item
		return
	default:
		e.lane.route.leave(e)
	}
	q.wait(e, item)
}

// Take gives the next item that is due: routes in turn, in each route
// identities in turn, of each identity by Next, then ID. Turn means that whoever
// was served longest ago comes first. It passes over routes that are paused and
// those whose workers are all busy. The item is active until Done.
func (q *Queue) Take(now time.Time) (Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var best *lane
	for _, r := range q.routes {
		if r.waiting == 0 {
			continue
		}
		l := r.first(now, q.workers(r.name))
		if l != nil && (best == nil || r.turn < best.route.turn) {
			best = l
		}
	}
	if best == nil {
		return Item{}, false
	}
	q.active++
	return best.route.start(best, q.turn()).item(), true
}

// Claim makes a waiting item active out of turn, whatever is due or paused; false
// if it does not wait. Done ends that, as after Take.
func (q *Queue) Claim(id string) (Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.items[id]
	if e == nil || e.active {
		return Item{}, false
	}
	q.active++
	e.lane.route.claim(e)
	return e.item(), true
}

// Active says that an item was taken and is not done.
func (q *Queue) Active(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.items[id]
	return e != nil && e.active
}

// Done says that an item is no longer active. Unless it was added meanwhile,
// the queue knows it no more; Add it if it stays.
func (q *Queue) Done(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.items[id]
	if e == nil || !e.active {
		return
	}
	q.active--
	e.lane.route.finish(e)
	again := e.again
	if again == nil {
		delete(q.items, id)
		return
	}
	e.again = nil
	q.wait(e, *again)
}

// Next says when Take may have something if nothing else happens, now at the
// earliest; false if it will not before another call (Add, Done, Resume …) or
// another number of workers.
func (q *Queue) Next(now time.Time) (at time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.routes {
		if r.waiting == 0 {
			continue
		}
		if t, some := r.next(now, q.workers(r.name)); some && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	return at, ok
}

// Pause lets nothing of a route be taken before the time given, which replaces
// the one of an earlier Pause. What is active goes on.
func (q *Queue) Pause(route string, until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.route(route).paused = until
}

// Resume ends a pause.
func (q *Queue) Resume(route string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.routes[route]; r != nil {
		r.paused = time.Time{}
	}
}

// Remove takes out a waiting item. If it is false, nothing was changed: active
// says whether the item is being delivered now, else it is not known.
func (q *Queue) Remove(id string) (ok, active bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.items[id]
	if e == nil || e.active {
		return false, e != nil
	}
	e.lane.route.leave(e)
	delete(q.items, id)
	return true, false
}

// Retry makes a waiting item due at once, where it was not before. It is false
// for one that is active or not known. A paused route stays paused.
func (q *Queue) Retry(id string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.items[id]
	if e == nil || e.active {
		return false
	}
	if e.next.After(now) {
		e.lane.waiting.remove(e)
		e.next = now
		e.lane.waiting.add(e)
		e.lane.route.settle(e.lane)
	}
	return true
}

// Reroute asks anew which route each waiting item takes, as after a reload. The
// function must not call the queue. What is active counts for its old route
// until Done.
func (q *Queue) Reroute(route func(Item) string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var moved []*entry
	to := map[*entry]string{}
	for _, e := range q.items {
		if e.active {
			if e.again != nil {
				e.again.Route = route(*e.again)
			}
			continue
		}
		if name := route(e.item()); name != e.lane.route.name {
			moved, to[e] = append(moved, e), name
		}
	}
	slices.SortFunc(moved, func(a, b *entry) int { // turns are given in the order of the items, not of the map
		if a.before(b) {
			return -1
		}
		return 1
	})
	for _, e := range moved {
		item := e.item()
		item.Route = to[e]
		e.lane.route.leave(e)
		q.wait(e, item)
	}
	q.forget()
}

// wait puts an entry, which stands nowhere, where the item belongs.
func (q *Queue) wait(e *entry, item Item) {
	e.next, e.attempts = item.Next, item.Attempts
	r := q.route(item.Route)
	l := r.lanes[item.Identity]
	if l == nil {
		l = newLane(item.Identity, r, q.turn())
		r.lanes[item.Identity] = l
	}
	r.enter(l, e)
}

func (q *Queue) route(name string) *route {
	r := q.routes[name]
	if r == nil {
		r = newRoute(name, q.turn())
		q.routes[name] = r
	}
	return r
}

// forget drops the routes that a reload has left with nothing.
func (q *Queue) forget() {
	for name, r := range q.routes {
		if len(r.lanes) == 0 && r.paused.IsZero() {
			delete(q.routes, name)
		}
	}
}

func (q *Queue) turn() uint64 {
	q.turns++
	return q.turns
}

package queue

import (
	"cmp"
	"slices"
	"time"
)

type laneName struct{ route, identity string }

// naive is the queue as one would explain it: flat lists, looked through at each
// step. It has no order of its own that could be out of date.
type naive struct {
	workers                map[string]int
	waiting, active, again map[string]Item
	routes                 map[string]uint64 // turns
	lanes                  map[laneName]uint64
	paused                 map[string]time.Time
	turns                  uint64
	taken                  int
}

func newNaive(workers map[string]int) *naive {
	return &naive{
		workers: workers, waiting: map[string]Item{}, active: map[string]Item{}, again: map[string]Item{},
		routes: map[string]uint64{}, lanes: map[laneName]uint64{}, paused: map[string]time.Time{},
	}
}

func (n *naive) turn() uint64 {
	n.turns++
	return n.turns
}

func (n *naive) route(name string) {
	if _, ok := n.routes[name]; !ok {
		n.routes[name] = n.turn()
	}
}

func (n *naive) add(i Item) {
	if _, ok := n.active[i.ID]; ok {
		n.again[i.ID] = i
		return
	}
	if _, ok := n.waiting[i.ID]; ok {
		delete(n.waiting, i.ID)
		n.tidy()
	}
	n.waiting[i.ID] = i
	n.route(i.Route)
	if l := (laneName{i.Route, i.Identity}); n.lanes[l] == 0 {
		n.lanes[l] = n.turn()
	}
}

// tidy forgets the turns of lanes with nothing.
func (n *naive) tidy() {
	for l := range n.lanes {
		if n.count(n.waiting, l)+n.count(n.active, l) == 0 {
			delete(n.lanes, l)
		}
	}
}

func (n *naive) count(items map[string]Item, l laneName) (sum int) {
	for _, i := range items {
		if i.Route == l.route && i.Identity == l.identity {
			sum++
		}
	}
	return sum
}

func (n *naive) activeIn(route string) (sum int) {
	for _, i := range n.active {
		if i.Route == route {
			sum++
		}
	}
	return sum
}

// at is when an item may be taken if nothing else happens.
func (n *naive) at(i Item, now time.Time) (time.Time, bool) {
	workers := n.workers[i.Route]
	free := workers - n.activeIn(i.Route)
	if free <= 0 || free == 1 && workers >= 8 && n.count(n.active, laneName{i.Route, i.Identity}) > 0 {
		return time.Time{}, false
	}
	at := now
	for _, t := range []time.Time{i.Next, n.paused[i.Route]} {
		if t.After(at) {
			at = t
		}
	}
	return at, true
}

func (n *naive) order(a, b Item) int {
	return cmp.Or(
		cmp.Compare(n.routes[a.Route], n.routes[b.Route]),
		cmp.Compare(n.lanes[laneName{a.Route, a.Identity}], n.lanes[laneName{b.Route, b.Identity}]),
		a.Next.Compare(b.Next),
		cmp.Compare(a.ID, b.ID))
}

func (n *naive) take(now time.Time) (Item, bool) {
	var can []Item
	for _, i := range n.waiting {
		if at, ok := n.at(i, now); ok && at.Equal(now) {
			can = append(can, i)
		}
	}
	if len(can) == 0 {
		return Item{}, false
	}
	i := slices.MinFunc(can, n.order)
	delete(n.waiting, i.ID)
	n.active[i.ID] = i
	n.routes[i.Route] = n.turn()
	n.lanes[laneName{i.Route, i.Identity}] = n.turns
	n.taken++
	return i, true
}

func (n *naive) done(id string) {
	if _, ok := n.active[id]; !ok {
		return
	}
	delete(n.active, id)
	n.tidy()
	if i, ok := n.again[id]; ok {
		delete(n.again, id)
		n.add(i)
	}
}

func (n *naive) next(now time.Time) (first time.Time, ok bool) {
	for _, i := range n.waiting {
		if at, can := n.at(i, now); can && (!ok || at.Before(first)) {
			first, ok = at, true
		}
	}
	return first, ok
}

func (n *naive) remove(id string) (ok, active bool) {
	_, active = n.active[id]
	_, ok = n.waiting[id]
	delete(n.waiting, id)
	n.tidy()
	return ok, active
}

func (n *naive) retry(id string, now time.Time) bool {
	i, ok := n.waiting[id]
	if ok && i.Next.After(now) {
		i.Next = now
		n.waiting[id] = i
	}
	return ok
}

func (n *naive) reroute(route func(Item) string) {
	var moved []Item
	for _, i := range n.waiting {
		if route(i) != i.Route {
			moved = append(moved, i)
		}
	}
	slices.SortFunc(moved, func(a, b Item) int { return cmp.Or(a.Next.Compare(b.Next), cmp.Compare(a.ID, b.ID)) })
	for _, i := range moved {
		i.Route = route(i)
		n.add(i)
	}
	for id, i := range n.again {
		i.Route = route(i)
		n.again[id] = i
	}
	for name := range n.routes {
		empty := n.paused[name].IsZero() && n.activeIn(name) == 0
		for _, i := range n.waiting {
			empty = empty && i.Route != name
		}
		if empty {
			delete(n.routes, name)
		}
	}
}

func (n *naive) stats() []RouteStats {
	byName := map[string]*RouteStats{}
	of := func(name string) *RouteStats {
		if byName[name] == nil {
			byName[name] = &RouteStats{Route: name, PausedUntil: n.paused[name]}
		}
		return byName[name]
	}
	for _, i := range n.waiting {
		s := of(i.Route)
		if s.Waiting == 0 || i.Next.Before(s.OldestNext) {
			s.OldestNext = i.Next
		}
		s.Waiting++
	}
	for _, i := range n.active {
		of(i.Route).Active++
	}
	var all []RouteStats
	for _, s := range byName {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b RouteStats) int { return cmp.Compare(a.Route, b.Route) })
	return all
}

package queue

import (
	"strings"
	"time"
)

// entry is one item. Its identity and route are those of its lane, so that
// 100,000 items do not keep as many copies of a name.
type entry struct {
	id       string
	next     time.Time
	attempts int
	lane     *lane
	place    int   // in lane.waiting
	active   bool  // Take gave it, and it is not Done
	again    *Item // added while active: waits from Done on
}

func (e *entry) item() Item {
	return Item{ID: e.id, Identity: e.lane.identity, Route: e.lane.route.name, Next: e.next, Attempts: e.attempts}
}

// before orders what one identity has in one route.
func (e *entry) before(other *entry) bool {
	if c := e.next.Compare(other.next); c != 0 {
		return c < 0
	}
	return strings.Compare(e.id, other.id) < 0
}

// lane is what one identity has in one route.
type lane struct {
	identity string
	route    *route
	waiting  pile[*entry]
	active   int
	turn     uint64       // when it was served last, or made
	in       *pile[*lane] // where it stands, nil without waiting items
	place    int          // there
}

func newLane(identity string, r *route, turn uint64) *lane {
	return &lane{identity: identity, route: r, turn: turn, waiting: pile[*entry]{
		before: (*entry).before,
		place:  func(e *entry) *int { return &e.place },
	}}
}

func (l *lane) due(now time.Time) bool { return !l.waiting.first().next.After(now) }

// group is lanes of a route that are served alike. Only those whose first item
// is due take turns; the others wait aside, so that a thousand of them cost
// nothing.
type group struct {
	later pile[*lane] // by their first items
	ready pile[*lane] // by turn: who was served longest ago is next
}

func newGroup() group {
	place := func(l *lane) *int { return &l.place }
	return group{
		later: pile[*lane]{place: place, before: func(a, b *lane) bool { return a.waiting.first().before(b.waiting.first()) }},
		ready: pile[*lane]{place: place, before: func(a, b *lane) bool { return a.turn < b.turn }},
	}
}

// first is the lane whose turn it is, nil when nothing is due.
func (g *group) first(now time.Time) *lane {
	for l := g.later.first(); l != nil && l.due(now); l = g.later.first() {
		l.stand(&g.ready)
	}
	l := g.ready.first()
	for l != nil && !l.due(now) { // the caller's time went back
		l.stand(&g.later)
		l = g.ready.first()
	}
	return l
}

// next is when first may have something.
func (g *group) next(now time.Time) (time.Time, bool) {
	if g.first(now) != nil {
		return now, true
	}
	if l := g.later.first(); l != nil {
		return l.waiting.first().next, true
	}
	return time.Time{}, false
}

// stand takes the lane from where it stands and to where it shall, if anywhere.
func (l *lane) stand(where *pile[*lane]) {
	if l.in != nil {
		l.in.remove(l)
	}
	if l.in = where; where != nil {
		where.add(l)
	}
}

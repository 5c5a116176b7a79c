package queue

import "time"

// reserveFrom is with how many workers a route keeps the last free one for an
// identity that has none: however slow the messages of one identity are, the
// first of another finds a worker. With fewer, an idle one would cost too much.
const reserveFrom = 8

// A route's lanes stand in two groups: who has something under way, and who has
// not and may have the last worker.
const (
	idle = iota
	busy
)

// route is what waits for one relay, or is under way to it.
type route struct {
	name    string
	lanes   map[string]*lane // by identity; each has something waiting or active
	groups  [2]group
	waiting int
	active  int
	turn    uint64    // when it was served last, or made
	paused  time.Time // nothing is taken before
}

func newRoute(name string, turn uint64) *route {
	return &route{name: name, turn: turn, lanes: map[string]*lane{}, groups: [2]group{newGroup(), newGroup()}}
}

// open is the groups for which there is a worker.
func (r *route) open(workers int) []group {
	switch free := workers - r.active; {
	case free <= 0:
		return nil
	case free == 1 && workers >= reserveFrom:
		return r.groups[:busy]
	default:
		return r.groups[:]
	}
}

// first is the lane whose turn it is, nil if there is none.
func (r *route) first(now time.Time, workers int) (best *lane) {
	if now.Before(r.paused) {
		return nil
	}
	open := r.open(workers)
	for i := range open {
		if l := open[i].first(now); l != nil && (best == nil || l.turn < best.turn) {
			best = l
		}
	}
	return best
}

// next is when first may have something.
func (r *route) next(now time.Time, workers int) (at time.Time, ok bool) {
	open := r.open(workers)
	for i := range open {
		if t, some := open[i].next(now); some && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	if ok && at.Before(r.paused) {
		at = r.paused
	}
	return at, ok
}

// enter adds a waiting item to a lane.
func (r *route) enter(l *lane, e *entry) {
	e.lane = l
	l.waiting.add(e)
	r.waiting++
	r.settle(l)
}

// leave takes a waiting item out.
func (r *route) leave(e *entry) {
	e.lane.waiting.remove(e)
	r.waiting--
	r.settle(e.lane)
}

// start makes a lane's first item active, which is the lane's turn.
func (r *route) start(l *lane, turn uint64) *entry {
	l.turn, r.turn = turn, turn
	e := l.waiting.first()
	r.claim(e)
	return e
}

// claim makes a waiting item active.
func (r *route) claim(e *entry) {
	e.active = true
	e.lane.active++
	r.active++
	r.leave(e)
}

// finish makes an active item's worker free.
func (r *route) finish(e *entry) {
	e.active = false
	e.lane.active--
	r.active--
	r.settle(e.lane)
}

// settle lets a lane stand where it belongs after a change, and forgets it when
// it has nothing left.
func (r *route) settle(l *lane) {
	group := idle
	if l.active > 0 {
		group = busy
	}
	if l.waiting.Len() > 0 {
		l.stand(&r.groups[group].later)
		return
	}
	l.stand(nil)
	if l.active == 0 {
		delete(r.lanes, l.identity)
	}
}

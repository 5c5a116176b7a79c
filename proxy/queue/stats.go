package queue

import (
	"slices"
	"strings"
	"time"
)

// RouteStats is the state of one route.
type RouteStats struct {
	Route       string
	Waiting     int
	Active      int
	PausedUntil time.Time // zero unless paused; may have passed
	OldestNext  time.Time // when the first of the waiting ones is due, or was; zero if none waits
}

// Len counts the items.
func (q *Queue) Len() (waiting, active int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) - q.active, q.active
}

// Stats are those of the routes that have items, by name. It takes time with the
// number of identities, not of items.
func (q *Queue) Stats() []RouteStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []RouteStats
	for _, r := range q.routes {
		if len(r.lanes) > 0 {
			all = append(all, r.stats())
		}
	}
	slices.SortFunc(all, func(a, b RouteStats) int { return strings.Compare(a.Route, b.Route) })
	return all
}

func (r *route) stats() RouteStats {
	s := RouteStats{Route: r.name, Waiting: r.waiting, Active: r.active, PausedUntil: r.paused}
	var oldest *entry
	for _, l := range r.lanes {
		if e := l.waiting.first(); e != nil && (oldest == nil || e.before(oldest)) {
			oldest = e
		}
	}
	if oldest != nil {
		s.OldestNext = oldest.next
	}
	return s
}

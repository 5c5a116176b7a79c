package limit

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// entry is all that is counted under one key.
type entry struct {
	mu     sync.Mutex
	key    string
	order  uint64 // several are locked from the highest to the lowest: the oldest, which most share, last
	gone   bool   // dropped from the table: look it up again
	dirty  bool   // waits to be saved
	stored bool   // the store has, or will have, a record of it
	series []series
}

// mostSeries is how many windows a key has before those that are empty go.
const mostSeries = 16

// of gives the series of a limit, at the time t, and makes it where it is asked for the
// first time.
func (e *entry) of(limit *Limit, t int64) *series {
	for i := range e.series {
		if s := &e.series[i]; s.counted == limit.Counted && s.window == limit.Window {
			s.advance(t)
			return s
		}
	}
	fresh := series{counted: limit.Counted, window: limit.Window}
	fresh.advance(t)
	if from := e.source(limit); from != nil {
		fresh.inherit(from, t)
	}
	if len(e.series) >= mostSeries { // those of former configurations
		e.series = slices.DeleteFunc(e.series, func(s series) bool { return s.idle(t) })
	}
	e.series = append(e.series, fresh)
	return &e.series[len(e.series)-1]
}

// held gives the series of a limit of which something is claimed, so that it is there.
func (e *entry) held(limit *Limit) *series {
	for i := range e.series {
		if s := &e.series[i]; s.counted == limit.Counted && s.window == limit.Window {
			return s
		}
	}
	panic("limit: a claim holds what its entry does not know: " + e.key)
}

// source gives the series from which a new window inherits: the shortest that
// covers it, else the longest. None where that is so much longer that its slots do not
// tell what was in the new window: all that they have would seem to be of now.
func (e *entry) source(limit *Limit) *series {
	var found *series
	for i := range e.series {
		s := &e.series[i]
		switch covers := s.window >= limit.Window; {
		case s.counted != limit.Counted:
		case found == nil,
			covers && (s.window < found.window || found.window < limit.Window),
			!covers && s.window > found.window:
			found = s
		}
	}
	if found == nil || slotLength(found.window) > int64(limit.Window) {
		return nil
	}
	return found
}

// idle tells whether nothing is left of it. A series that is empty beside others
// stays: made anew, it would inherit what it knew and forgot.
func (e *entry) idle(t int64) bool {
	idle := true
	for i := range e.series {
		idle = e.series[i].idle(t) && idle
	}
	return idle
}

// weight is how much dropping it would forget; negative: it is in use.
func (e *entry) weight() int64 {
	sum := int64(0)
	for i := range e.series {
		if e.series[i].pending > 0 {
			return -1
		}
		sum += e.series[i].used + e.series[i].refused
	}
	return sum
}

// shardCount is how many parts the table has. Sessions of different keys
// seldom meet at one, and then for a look into a map.
const shardCount = 256

// shard is a part of the table. Its lock is never asked for by who holds an entry's.
type shard struct {
	mu      sync.RWMutex
	entries map[string]*entry
	seen    map[string]*circle

	dirtyMu sync.Mutex // taken by who holds an entry's or a circle's lock
	entry   []*entry
	circle  []*circle
}

func (l *Limiter) shard(key string) *shard {
	return &l.shards[maphash.String(l.hash, key)%shardCount]
}

// entry gives the entry of a key, and makes it where there is none.
func (l *Limiter) entry(key string) *entry {
	s := l.shard(key)
	s.mu.RLock()
	e := s.entries[key]
	s.mu.RUnlock()
	if e != nil {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e = s.entries[key]; e != nil {
		return e
	}
	if l.count.Add(1) > l.bounds.entries {
		l.makeRoom(s)
	}
	e = &entry{key: key, order: l.orders.Add(1)}
	s.entries[key] = e
	return e
}

// makeRoom drops the emptiest of some entries of the shard, whose lock is held.
func (l *Limiter) makeRoom(s *shard) {
	const sample = 16
	var emptiest *entry
	least, looked := int64(0), 0
	for _, e := range s.entries {
		if looked++; looked > sample {
			break
		}
		if !e.mu.TryLock() {
			continue
		}
		if weight := e.weight(); weight >= 0 && (emptiest == nil || weight < least) {
			emptiest, least = e, weight
		}
		e.mu.Unlock()
	}
	if emptiest != nil {
		l.drop(s, emptiest, func(e *entry) bool { return e.weight() >= 0 })
	}
}

// dropEmpty takes an entry out that knows nothing: keys that were only asked about
// must not wait for a sweep, since who makes up keys makes many.
func (l *Limiter) dropEmpty(e *entry) {
	if !e.mu.TryLock() {
		return
	}
	empty := e.weight() == 0 && !e.dirty && !e.gone
	e.mu.Unlock()
	if !empty {
		return
	}
	s := l.shard(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	l.drop(s, e, func(e *entry) bool { return e.weight() == 0 && !e.dirty })
}

// drop takes an entry out of the shard, whose lock is held, and out of the
// store, if it still may.
func (l *Limiter) drop(s *shard, e *entry, may func(*entry) bool) {
	if !e.mu.TryLock() {
		return
	}
	defer e.mu.Unlock()
	if e.gone || !may(e) {
		return
	}
	e.gone = true
	delete(s.entries, e.key)
	l.count.Add(-1)
	if e.stored { // else each key that was only asked about would leave a note
		l.forget(counterRecord + e.key)
	}
}

// touch has an entry saved; its lock is held.
func (l *Limiter) touch(e *entry) {
	if e.dirty || l.store == nil {
		return
	}
	e.dirty = true
	s := l.shard(e.key)
	s.dirtyMu.Lock()
	s.entry = append(s.entry, e)
	s.dirtyMu.Unlock()
}

// State gives how the limits of these budgets stand, in their order. The
// identity is who asks; its limits stand in the budgets like the others'.
func (l *Limiter) State(identity string, budgets []Budget, now time.Time) []State {
	t := l.clock.at(now)
	var states []State
	for i := range budgets {
		key := budgets[i].Key
		s := l.shard(key)
		s.mu.RLock()
		e := s.entries[key]
		s.mu.RUnlock()
		if e == nil {
			e = &entry{key: key} // it is asked, and not kept
		}
		e.mu.Lock()
		for j := range budgets[i].Limits {
			states = append(states, l.state(e, &budgets[i].Limits[j], t))
		}
		e.mu.Unlock()
	}
	return states
}

func (l *Limiter) state(e *entry, limit *Limit, t int64) State {
	s := e.of(limit, t)
	used := s.used + s.pending + l.spent(limit, s.head, t)
	state := State{Key: e.key, Limit: *limit, Used: used, Refused: s.refused}
	if used >= limit.Max {
		state.Opens = l.opens(s, limit, 1, t)
	}
	return state
}

// opens gives the host's time at which there is room for n.
func (l *Limiter) opens(s *series, limit *Limit, n, t int64) time.Time {
	at := s.opens(*limit, n, func(head int64) int64 { return l.spent(limit, head, t) })
	if at == 0 {
		return time.Time{}
	}
	return l.clock.wall(at)
}

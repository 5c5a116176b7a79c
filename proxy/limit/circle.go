package limit

import (
	"slices"
	"sync"
)

// seenDays is for how long a recipient is remembered after the last message.
const seenDays = 30

// acquaintance is a recipient by the upper 48 bits of its digest, and the day
// on which the last message went there, counted from 1970.
type acquaintance uint64

func acquainted(digest uint64, day int64) acquaintance {
	return acquaintance(digest&^0xffff | uint64(day)&0xffff)
}

func (a acquaintance) is(digest uint64) bool { return uint64(a)^digest < 1<<16 }
func (a acquaintance) day() int64            { return int64(a & 0xffff) }
func (a acquaintance) past(today int64) bool { return a.day() < today-seenDays }

// circle is the recipients to whom an identity has sent. They lie in rings by
// the first bits of their digest: what changes is saved by the ring.
type circle struct {
	mu       sync.Mutex
	identity string
	gone     bool // dropped: look it up again
	queued   bool // waits to be saved
	size     int64
	rings    []ring // a power of two
	swept    int64  // day
}

type ring struct {
	members []acquaintance
	dirty   bool
}

// ringSize is how many members a ring has on average when the rings are doubled.
const ringSize = 48

func dayOf(t int64) int64 { return t / int64(day) }

// digest is of a recipient in any case of letters. Its key keeps others from
// making an address that passes for one seen.
func digest(recipient string, key uint64) uint64 {
	h := key ^ 0xcbf29ce484222325
	for i := range len(recipient) {
		c := recipient[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	return h | 1<<16 // none is zero
}

// index is by bits above the 16 that the day takes.
func (c *circle) index(digest uint64) int { return int(digest >> 17 & uint64(len(c.rings)-1)) }

// find gives the member of this digest, or nil.
func (c *circle) find(digest uint64) *acquaintance {
	members := c.rings[c.index(digest)].members
	for i := range members {
		if members[i].is(digest) {
			return &members[i]
		}
	}
	return nil
}

// meet remembers a recipient, and tells by how many members the circle grew: 1,
// 0, or less if it made room.
func (c *circle) meet(digest uint64, today int64, most int64, full bool) int64 {
	if known := c.find(digest); known != nil {
		if known.day() < today {
			*known = acquainted(digest, today)
			c.rings[c.index(digest)].dirty = true
		}
		return 0
	}
	before := c.size
	if c.size >= most || full {
		if c.leave(today); c.size >= most || full && c.size == before {
			return c.size - before
		}
	}
	if c.size >= int64(len(c.rings))*ringSize {
		c.widen()
	}
	r := &c.rings[c.index(digest)]
	r.members, r.dirty = append(r.members, acquainted(digest, today)), true
	c.size++
	return c.size - before
}

// leave forgets the eighth that was seen the longest ago, and whoever is as old.
func (c *circle) leave(today int64) {
	days := make([]int64, 0, c.size)
	for _, r := range c.rings {
		for _, a := range r.members {
			days = append(days, a.day())
		}
	}
	if len(days) == 0 {
		return
	}
	slices.Sort(days)
	if oldest := days[len(days)/8]; oldest < today {
		c.drop(func(a acquaintance) bool { return a.day() <= oldest })
		return
	}
	// All were met today: a part goes by chance, which their digests are.
	c.drop(func(a acquaintance) bool { return a>>60&7 == acquaintance(len(days))&7 })
}

func (c *circle) drop(which func(acquaintance) bool) {
	for i := range c.rings {
		r := &c.rings[i]
		before := len(r.members)
		r.members = slices.DeleteFunc(r.members, which)
		if gone := before - len(r.members); gone > 0 {
			c.size -= int64(gone)
			r.dirty = true
		}
	}
}

func (c *circle) widen() {
	old := c.rings
	c.rings = make([]ring, max(2*len(old), 1))
	for _, r := range old {
		for _, a := range r.members {
			to := &c.rings[c.index(uint64(a))]
			to.members = append(to.members, a)
		}
	}
	for i := range c.rings {
		c.rings[i].dirty = true
	}
}

func (l *Limiter) hasSeen(identity string, digest uint64, t int64) bool {
	s := l.shard(identity)
	s.mu.RLock()
	c := s.seen[identity]
	s.mu.RUnlock()
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.find(digest)
	return known != nil && !known.past(dayOf(t))
}

// meet remembers recipients as seen.
func (l *Limiter) meet(identity string, met []recipient, t int64) {
	c := l.circle(identity)
	defer c.mu.Unlock()
	today := dayOf(t)
	for i := range met {
		full := l.seenAll.Load() >= l.bounds.seenAll
		if grown := c.meet(met[i].digest, today, l.bounds.seen, full); grown != 0 {
			l.seenAll.Add(grown)
		}
	}
	l.queue(c)
}

// queue has the changed rings saved; the circle's lock is held.
func (l *Limiter) queue(c *circle) {
	if c.queued || l.store == nil || !slices.ContainsFunc(c.rings, func(r ring) bool { return r.dirty }) {
		return
	}
	c.queued = true
	s := l.shard(c.identity)
	s.dirtyMu.Lock()
	s.circle = append(s.circle, c)
	s.dirtyMu.Unlock()
}

// circle gives an identity's circle, locked, and makes it where there is none.
func (l *Limiter) circle(identity string) *circle {
	s := l.shard(identity)
	for {
		s.mu.RLock()
		c := s.seen[identity]
		s.mu.RUnlock()
		if c == nil {
			s.mu.Lock()
			if c = s.seen[identity]; c == nil {
				c = &circle{identity: identity, rings: make([]ring, 1)}
				s.seen[identity] = c
			}
			s.mu.Unlock()
		}
		if c.mu.Lock(); !c.gone {
			return c
		}
		c.mu.Unlock()
	}
}

// sweepSeen forgets recipients of the shard that were not seen for long, once a day.
func (l *Limiter) sweepSeen(s *shard, t int64) {
	today := dayOf(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	for identity, c := range s.seen {
		if !c.mu.TryLock() {
			continue
		}
		if c.swept < today {
			c.swept = today
			before := c.size
			c.drop(func(a acquaintance) bool { return a.past(today) })
			l.seenAll.Add(c.size - before)
			l.queue(c)
		}
		if c.size == 0 && !c.queued { // what it forgot is saved
			c.gone = true
			delete(s.seen, identity)
		}
		c.mu.Unlock()
	}
}

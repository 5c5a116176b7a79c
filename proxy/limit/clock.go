package limit

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// grain is how far the time must have gone on before it is worth a write to
	// memory that all sessions read.
	grain = int64(10 * time.Millisecond)

	// patience is how much earlier than another's a session's time may be, because
	// it took a while to come here with it, before the clock is taken to be set back.
	patience = int64(10 * time.Second)
)

// clock makes of the times that callers pass in one that does not go back:
// nanoseconds since 1970, ahead of the host's by what that was set back. A clock set
// forward is believed.
type clock struct {
	last   atomic.Int64 // the latest time given, by the grain; 0 is none
	offset atomic.Int64 // how far this time is ahead of the host's

	mu     sync.Mutex
	before int64 // the offset before this one: sessions may still come with times from before the jump
}

// at gives the time for a caller's. Of two callers at once the later may get a
// time that is earlier by less than patience.
func (c *clock) at(now time.Time) int64 {
	wall := now.UnixNano()
	t, last := wall+c.offset.Load(), c.last.Load()
	if t < last-patience || t > last+patience {
		return c.jump(wall)
	}
	if t > last+grain {
		c.last.CompareAndSwap(last, t)
	}
	return t
}

func (c *clock) jump(wall int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	offset, last := c.offset.Load(), c.last.Load()
	t, former := wall+offset, wall+c.before
	switch {
	case t >= last-patience && t <= last+patience: // another session was here first
	case offset != c.before && former >= last-patience && former <= last+patience:
		// It belongs to the clock as it was before it was last set.
		c.offset.Store(c.before)
		c.before, t = offset, former
	case t < last:
		c.before = offset
		c.offset.Store(last - wall)
		t = last
	}
	c.last.Store(max(t, last))
	return t
}

// wall gives the host's time for one of this clock's.
func (c *clock) wall(t int64) time.Time { return time.Unix(0, t-c.offset.Load()) }

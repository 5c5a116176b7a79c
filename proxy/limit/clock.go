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
	// it took a while to come here with it.
	patience = int64(10 * time.Second)

	// notable is by how much the host's clock must have been set to be told from
	// the moment that passes between its two readings in a time.
	notable = int64(time.Second)
)

// clock makes of the times that callers pass in one that does not go back:
// nanoseconds since 1970. It runs as the monotonic readings in those times do,
// so that nothing is older for a clock that was set: set back, it is not moved, and set
// forward it is moved to what the host says, and no further. So it is the host's
// time, or ahead of it by what that was set back, and never ahead of the truth if
// the host's never was: not on a host that comes up in 1970 and is set later.
// What was counted before that is then taken to be as old as the stop was long.
type clock struct {
	last atomic.Int64 // the latest time given, by the grain; 0 is none. It outlives the process

	mu      sync.Mutex
	setting atomic.Pointer[setting]
}

// setting is how the host's clock is set, against the monotonic one.
type setting struct {
	origin time.Time // of the monotonic time
	since  int64     // monotonic time at which this was found
	host   int64     // the host's time at the origin, if it had been set so then
	ours   int64     // this clock's at the origin
}

// at gives the time for a caller's. Of two callers at once the later may get a
// time that is earlier by no more than patience.
func (c *clock) at(now time.Time) int64 {
	if s := c.setting.Load(); s != nil {
		mono := int64(now.Sub(s.origin))
		if off := now.UnixNano() - mono - s.host; -notable < off && off < notable {
			if t := mono + s.ours; c.near(t) || hasMonotonic(now) {
				return c.pass(t)
			}
		}
	}
	return c.set(now)
}

// hasMonotonic tells whether a time comes from time.Now, and no reading was taken away.
func hasMonotonic(t time.Time) bool { return t != t.Round(0) }

// near tells whether no clock was set if a time is t.
func (c *clock) near(t int64) bool {
	last := c.last.Load()
	return last-patience <= t && t <= last+patience
}

// pass goes on to t.
func (c *clock) pass(t int64) int64 {
	last := c.last.Load()
	if t > last+grain {
		c.last.CompareAndSwap(last, t)
	}
	return max(t, last-patience)
}

// set is at for a time that tells of another setting.
func (c *clock) set(now time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	host, last := now.UnixNano(), c.last.Load()
	s := c.setting.Load()
	if s == nil {
		return c.begin(now, last)
	}
	mono := s.monotonic(now, last)
	t := mono + s.ours
	if off := host - mono - s.host; -notable < off && off < notable || mono < s.since {
		return c.pass(t) // another session was here first, or it is from before
	}
	return c.keep(&setting{origin: s.origin, since: mono}, host, max(t, host))
}

// begin takes the host's time, unless the last one was later.
func (c *clock) begin(now time.Time, last int64) int64 {
	s, host := &setting{origin: time.Now()}, now.UnixNano() // which moment the origin is does not matter
	if hasMonotonic(now) {
		s.since = int64(now.Sub(s.origin))
	}
	if host < last-notable {
		return c.keep(s, host, last)
	}
	return c.keep(s, host, host)
}

// keep takes a setting that was found when the host's time was this, and ours t.
func (c *clock) keep(s *setting, host, t int64) int64 {
	s.host, s.ours = host-s.since, t-s.since
	c.setting.Store(s)
	c.last.Store(max(t, c.last.Load()))
	return t
}

// monotonic gives the monotonic time of now. Where that has none it is the least
// that can have passed since the last time: what the host's clock went on; nothing,
// if that went back, or if it was ahead of ours and was set since to a time after ours.
func (s *setting) monotonic(now time.Time, last int64) int64 {
	if hasMonotonic(now) {
		return int64(now.Sub(s.origin))
	}
	mono, before := now.UnixNano()-s.host, last-s.ours
	back := mono < before-patience
	ahead := mono > before+patience && s.ours > s.host && now.UnixNano() >= last
	if back || ahead {
		return before
	}
	return mono
}

// wall gives the host's time for one of this clock's.
func (c *clock) wall(t int64) time.Time {
	if s := c.setting.Load(); s != nil {
		t += s.host - s.ours
	}
	return time.Unix(0, t)
}

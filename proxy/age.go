package proxy

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
)

const (
	// clockSlack is how far the wall clock may stray from the monotonic one
	// before that counts as a jump.
	clockSlack = 5 * time.Minute
	// clockPatience is how long the clock must keep the time that it jumped to
	// before messages age by it.
	clockPatience = 24 * time.Hour
	// graceAfterStart is how long nothing expires after a start, so that a
	// message that is found to be old has a try.
	graceAfterStart = 10 * time.Minute
)

// calendar says how old messages are. A clock that jumps, by a wrong date at
// boot or a virtual machine that was asleep, must not make all of them expire at
// once.
type calendar struct {
	start time.Time // with the monotonic clock
	log   *zap.Logger

	mu      sync.Mutex
	trusted time.Duration // of the jumps since the start
	seen    time.Duration // all of them
	since   time.Duration // after the start, seen became so
}

func newCalendar(start time.Time, log *zap.Logger) *calendar {
	return &calendar{start: start, log: log}
}

// age is how long ago t was, a jump of the clock left out until it has lasted.
func (c *calendar) age(t, now time.Time) time.Duration {
	return now.Round(0).Sub(t.Round(0)) - c.untrusted(now.Sub(c.start), now.Round(0).Sub(c.start.Round(0)))
}

// untrusted is by how much the wall clock has jumped lately, from the time since
// the start by the monotonic clock and by the wall clock.
func (c *calendar) untrusted(monotonic, wall time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	jump := wall - monotonic
	if (jump - c.seen).Abs() > clockSlack {
		c.seen, c.since = jump, monotonic
		c.log.Warn("the clock has jumped, messages do not age by that for a day", zap.Duration(logfields.Delay, jump-c.trusted))
	}
	if monotonic-c.since > clockPatience {
		c.trusted = c.seen
	}
	return c.seen - c.trusted
}

// mayExpire says that what is old may be given up.
func (c *calendar) mayExpire(now time.Time) bool { return now.Sub(c.start) >= graceAfterStart }

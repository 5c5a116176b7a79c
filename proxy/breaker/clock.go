package breaker

import (
	"math"
	"sync/atomic"
	"time"
)

// tick is how finely ages are known where a slot is not coarser: 32 bits of
// ticks last for 17 years.
const tick = time.Second / 8

// moment is the time since a Watch was first asked.
type moment time.Duration

// clock turns readings into moments.
type clock struct {
	base atomic.Pointer[time.Time]
}

func (c *clock) moment(now time.Time) moment {
	base := c.base.Load()
	if base == nil {
		first := now
		c.base.CompareAndSwap(nil, &first)
		base = c.base.Load()
	}
	return moment(max(now.Sub(*base), 0))
}

func (m moment) tick() uint32 { return m.slot(tick) }

// slot numbers the stretches of the given length.
func (m moment) slot(length time.Duration) uint32 {
	return uint32(min(int64(m)/int64(length), math.MaxUint32))
}

// tickUp is the first tick that begins no sooner.
func (m moment) tickUp() uint32 {
	return moment(min(m, math.MaxInt64-moment(tick)) + moment(tick) - 1).tick()
}

// ticks is how many whole ticks a duration has.
func ticks(d time.Duration) uint32 { return moment(d).tick() }

// plus adds without passing the largest number: counts may stop, never wrap.
func plus(a, b uint32) uint32 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxUint32
}

func narrow(n int) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }

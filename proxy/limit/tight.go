package limit

import (
	"sync/atomic"
	"time"
)

// unresolved is damage at a time that nobody has told yet.
const unresolved = -1

// tight is the memory of a store that was damaged: whatever it counted is taken
// to be the maximum of every limit, evenly over the window before. So it holds for keys
// that nobody has seen yet, and costs nothing.
type tight struct {
	since   atomic.Int64 // when the store was found damaged, unresolved, or 0
	longest atomic.Int64 // window asked for since
}

// spent gives what counts as used by the damage, when head is the slot that is
// being filled. All of it at first, nothing when the window and a slot have passed.
func (l *Limiter) spent(limit *Limit, head, t int64) int64 {
	since := l.tight.since.Load()
	if since == 0 {
		return 0
	}
	if since == unresolved {
		since = l.resolve(t)
	}
	if longest := l.tight.longest.Load(); int64(limit.Window) > longest {
		l.tight.longest.CompareAndSwap(longest, int64(limit.Window))
	}
	left := min(max(since/slotLength(limit.Window)-head+slots+1, 0), slots)
	return limit.Max/slots*left + (limit.Max%slots*left+slots-1)/slots
}

// resolve dates the damage by the first time that is told.
func (l *Limiter) resolve(t int64) int64 {
	if l.tight.since.CompareAndSwap(unresolved, t) {
		l.note(tightRecord, encodeNumber(t))
		return t
	}
	return l.tight.since.Load()
}

// tightNow tells whether a limit that was asked for is still narrowed by damage.
func (l *Limiter) tightNow() bool {
	since := l.tight.since.Load()
	if since == 0 || since == unresolved {
		return since != 0
	}
	longest := max(l.tight.longest.Load(), int64(time.Second))
	return l.clock.last.Load() < since+longest+2*slotLength(time.Duration(longest))
}

// longestWindow is the longest that a limit may have.
const longestWindow = 30 * day

// endTight forgets the damage when no window reaches back to it.
func (l *Limiter) endTight(t int64) {
	since := l.tight.since.Load()
	if since > 0 && t > since+int64(longestWindow)+2*slotLength(longestWindow) && l.tight.since.CompareAndSwap(since, 0) {
		l.note(tightRecord, nil)
	}
}

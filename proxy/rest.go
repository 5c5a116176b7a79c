package proxy

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// restAfter is how long after a session's end memory is given back.
const restAfter = 3 * time.Second

// rest gives memory back to the host soon after activity: a password hash
// leaves tens of MiB of garbage, which Go by itself would keep for minutes on a
// daemon that is idle again. Nothing runs while nothing happens.
type rest struct{ due atomic.Bool }

// later arranges for one collection, at most one in restAfter however busy we
// are; it takes a few milliseconds.
func (r *rest) later() {
	if r.due.CompareAndSwap(false, true) {
		time.AfterFunc(restAfter, func() {
			r.due.Store(false)
			debug.FreeOSMemory()
		})
	}
}

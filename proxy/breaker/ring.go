package breaker

import "time"

// parts is into how many slots a ring cuts its window.
const parts = 8

// ring counts over a sliding window in eighths of it: the slot of this moment
// and the seven before. So nothing older than the window counts, and whatever
// lies within seven eighths of it counts together.
type ring struct {
	at    uint32 // slot of the latest count
	slots [parts]uint32
}

// add moves to the moment and counts n.
func (r *ring) add(m moment, window time.Duration, n uint32) {
	r.move(m.slot(window / parts))
	here := &r.slots[r.at%parts]
	*here = plus(*here, n)
}

func (r *ring) move(to uint32) {
	if to <= r.at {
		return
	}
	if to-r.at >= parts {
		r.slots = [parts]uint32{}
	} else {
		for slot := r.at + 1; slot != to+1; slot++ {
			r.slots[slot%parts] = 0
		}
	}
	r.at = to
}

// sum is what the window holds.
func (r *ring) sum() int64 {
	sum := int64(0)
	for _, n := range r.slots {
		sum += int64(n)
	}
	return sum
}

// clear forgets the counts and keeps the place in time.
func (r *ring) clear() { r.slots = [parts]uint32{} }

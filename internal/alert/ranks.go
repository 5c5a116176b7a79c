package alert

import "time"

// isCommon tells whether events of a kind can be made to happen by anybody, as
// often and under as many identities as he likes: by forged addresses, by failed logins.
func isCommon(kind string) bool {
	switch kind {
	case "blocked", "limit", "login":
		return true
	}
	return false
}

// ranks limits common events and all others apart, so that a flood of the former
// neither hides nor delays what the latter say and whom it is about.
type ranks struct {
	grave, common *limiter
}

func newRanks() *ranks { return &ranks{grave: newLimiter(), common: newLimiter()} }

func (r *ranks) raise(now time.Time, event Event) {
	if isCommon(event.Kind) {
		r.common.raise(now, event)
	} else {
		r.grave.raise(now, event)
	}
}

func (r *ranks) due(now time.Time) {
	r.grave.due(now)
	r.common.due(now)
}

// next is when due has something to do; zero is never.
func (r *ranks) next() time.Time {
	next, other := r.grave.next(), r.common.next()
	if next.IsZero() || !other.IsZero() && other.Before(next) {
		return other
	}
	return next
}

// pop takes the next alert to deliver: a common one if there is no other.
func (r *ranks) pop() (Alert, bool) {
	if alert, found := r.grave.pop(); found {
		return alert, true
	}
	return r.common.pop()
}

// flush ends all counting.
func (r *ranks) flush(now time.Time) {
	r.grave.flush(now)
	r.common.flush(now)
}

package limit

import (
	"fmt"
	"time"
)

// foundFor is for how long a store that was damaged is told of at least.
const foundFor = time.Hour

// Condition tells what is wrong with the store; "" is nothing. That it was
// damaged is told for an hour, and as long as limits are narrowed by it.
func (l *Limiter) Condition() string {
	l.condMu.Lock()
	defer l.condMu.Unlock()
	tight := l.tightNow()
	switch {
	case !l.failed.IsZero():
		return fmt.Sprintf("limits cannot be saved since %s: %v", l.failed.Format(time.RFC3339), l.why)
	case tight && l.found.IsZero():
		return "limits store was damaged before the last start: limits began as if used up"
	case tight:
		return fmt.Sprintf("limits store was damaged at %s%s: limits began as if used up", l.found.Format(time.RFC3339), aside(l.aside))
	case !l.found.IsZero() && time.Since(l.found) < foundFor:
		return fmt.Sprintf("limits store was damaged at %s%s: it is written anew, nothing was lost", l.found.Format(time.RFC3339), aside(l.aside))
	}
	return ""
}

func aside(name string) string {
	if name == "" {
		return ""
	}
	return " and set aside as " + name
}

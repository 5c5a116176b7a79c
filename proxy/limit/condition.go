package limit

import (
	"fmt"
	"time"
)

// Condition tells what is wrong with the store; "" is nothing. That it was
// damaged is told until no limit is narrowed by it any more.
func (l *Limiter) Condition() string {
	l.condMu.Lock()
	defer l.condMu.Unlock()
	switch {
	case !l.failed.IsZero():
		return fmt.Sprintf("limits cannot be saved since %s: %v", l.failed.Format(time.RFC3339), l.why)
	case !l.tightNow():
		return ""
	case l.aside != "":
		return fmt.Sprintf("limits store was damaged and set aside as %s at %s: limits began as if used up", l.aside, l.found.Format(time.RFC3339))
	}
	return "limits store was damaged before the last start: limits began as if used up"
}

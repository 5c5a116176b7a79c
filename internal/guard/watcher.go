package guard

import (
	"fmt"
	"sync"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// maxUnseen bounds the events that wait for one who watches.
const maxUnseen = 256

// watchers are those who want to hear of events as they happen. Telling them
// waits for nobody.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]struct{}
}

type watcher struct {
	events chan audit.Event
	missed int // since the last that found room; the mutex of watchers guards it
}

func (w *watchers) join() *watcher {
	one := &watcher{events: make(chan audit.Event, maxUnseen)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[*watcher]struct{}{}
	}
	w.all[one] = struct{}{}
	return one
}

func (w *watchers) leave(one *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one)
}

// tell gives the event to all. Who has no room for it misses it, and is told by
// the next one.
func (w *watchers) tell(e *audit.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		copied := *e
		if one.missed > 0 {
			copied.Reason = appendReason(e.Reason, fmt.Sprintf("%d events before it were too fast to be told", one.missed))
		}
		select {
		case one.events <- copied:
			one.missed = 0
		default:
			one.missed++
		}
	}
}

func appendReason(reason, more string) string {
	if reason == "" {
		return more
	}
	return reason + "; " + more
}

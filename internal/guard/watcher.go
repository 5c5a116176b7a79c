package guard

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

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

// watch sends events until the client leaves or ctx is done. It has nothing more
// to say to us: whatever comes from it ends the watch, as its leaving does.
func (s *socketServer) watch(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	one := s.guard.watchers.join()
	defer s.guard.watchers.leave(one)
	if err := reply(conn, response{}); err != nil { // from here on it misses nothing
		return err
	}
	conn.SetReadDeadline(time.Time{})
	gone := make(chan struct{})
	go func() { // ends with the connection, which is closed below; waited for
		defer close(gone)
		conn.Read(make([]byte, 1))
		cancel()
	}()
	defer func() {
		conn.Close()
		<-gone
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-one.events:
			if err := reply(conn, response{Event: &e}); err != nil {
				return err
			}
		}
	}
}

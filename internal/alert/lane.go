package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
)

// firstPause is how long after a failure it is tried again; each further pause
// is four times as long: 1 s, 4 s, 16 s, 64 s, 256 s.
const firstPause = time.Second

// lane brings alerts to one target, one after the other. Its goroutine is run.
type lane struct {
	name   string
	host   string
	logger *zap.Logger
	wake   chan struct{} // room for one: there may be something to do
	quit   chan struct{} // closed by finish

	mu       sync.Mutex
	target   Target
	sender   sender
	ranks    *ranks
	finished bool
	failed   string // what the last delivery failed with
	since    time.Time
}

func (l *lane) raise(now time.Time, event Event) {
	l.mu.Lock()
	if !l.finished && l.target.wants(event.Kind) {
		l.ranks.raise(now, event)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// change gives the target another secret or other roots.
func (l *lane) change(target Target, sender sender) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target, l.sender = target, sender
}

// finish makes run deliver what there is, each alert with one try more at most,
// and return.
func (l *lane) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.finished {
		l.finished = true
		l.ranks.flush(time.Now())
		close(l.quit)
	}
}

// run delivers until it is finished. From abort on, every delivery fails.
func (l *lane) run(abort <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // ends with run
		select {
		case <-abort:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		alert, next, found := l.take()
		if found {
			l.deliver(ctx, alert)
			continue
		}
		if l.isFinished() { // and nothing comes any more
			return
		}
		l.rest(next)
	}
}

// take is the next alert, or when to look again.
func (l *lane) take() (alert Alert, next time.Time, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ranks.due(time.Now())
	alert, found = l.ranks.pop()
	return alert, l.ranks.next(), found
}

func (l *lane) isFinished() bool {
	select {
	case <-l.quit:
		return true
	default:
		return false
	}
}

// rest waits until there may be something to do.
func (l *lane) rest(next time.Time) {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
	case <-l.wake:
	case <-l.quit:
	}
}

// deliver tries until the target has the alert, or is not to be had.
func (l *lane) deliver(ctx context.Context, alert Alert) {
	alert.Host = l.host
	body, err := json.Marshal(alert)
	if err != nil { // strings, numbers and times of this century
		panic("alert: " + err.Error())
	}
	pause := firstPause
	for try := 0; ; try++ {
		l.mu.Lock()
		sender := l.sender
		l.mu.Unlock()
		err := sender.send(ctx, body)
		l.note(err)
		if err == nil {
			return
		}
		_, final := errors.AsType[finalError](err)
		if final || try >= sender.retries() || l.isFinished() {
			l.drop(alert, err)
			return
		}
		l.pause(pause)
		pause *= 4
	}
}

// pause waits before another try: not once the lane is finished.
func (l *lane) pause(length time.Duration) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.quit:
	}
}

// note keeps what the condition says.
func (l *lane) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.failed, l.since = "", time.Time{}
		return
	}
	if l.failed == "" {
		l.since = time.Now()
	}
	l.failed = err.Error()
}

func (l *lane) drop(alert Alert, err error) {
	l.logger.Warn("alert dropped", zap.String("target", l.name), zap.String(logfields.Kind, alert.Kind),
		zap.String(logfields.Identity, alert.Identity), zap.Int(logfields.Count, alert.Count), zap.Error(err))
}

// condition is "" or what is wrong, and since when.
func (l *lane) condition() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == "" {
		return ""
	}
	return fmt.Sprintf("alerts do not reach %s since %s: %s", l.name, l.since.Format(time.RFC3339), l.failed)
}

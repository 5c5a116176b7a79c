package proxy

import (
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/breaker"
	"github.com/smtpwall/smtpwall/proxy/limit"
)

// Warden knows how much each identity sent, how it behaves, and who is
// suspended. Sessions and the Runner ask and tell it. A nil Warden limits
// nobody.
type Warden struct {
	limits  *limit.Limiter
	watch   *breaker.Watch
	events  EventLog
	alarm   func(Alarm)
	changed func([]limit.Suspension)
	log     *zap.Logger

	mu     sync.Mutex
	server *Server     // whose sessions it ends
	runner *Runner     // whose messages it stops
	expiry *time.Timer // of the suspension that ends first
	closed bool
	orders sync.WaitGroup // suspensions that ladders have ordered
}

// WardenOptions are what a Warden is made of.
type WardenOptions struct {
	Limits   *limit.Limiter
	Breakers *breaker.Watch
	Events   EventLog
	// Alarm hears of what somebody should look at. It must not block.
	Alarm func(Alarm)
	// Changed hears of all suspensions after each change. It must not block.
	Changed func([]limit.Suspension)
	Logger  *zap.Logger
}

// Alarm is something that somebody should look at.
type Alarm struct {
	Kind     string // Alarm…
	Identity string // the key of the sender
	Text     string // a sentence
}

// The kinds of alarm.
const (
	AlarmLimit      = "limit"
	AlarmBreaker    = "breaker"
	AlarmSuspension = "suspension"
	AlarmLogin      = "login"
)

// NewWarden makes a warden; Close ends it.
func NewWarden(o WardenOptions) *Warden {
	w := &Warden{limits: o.Limits, watch: o.Breakers, events: o.Events, alarm: o.Alarm, changed: o.Changed, log: o.Logger.Named("warden")}
	if w.alarm == nil {
		w.alarm = func(Alarm) {}
	}
	if w.changed == nil {
		w.changed = func([]limit.Suspension) {}
	}
	return w
}

// oversee makes server's sessions and runner's messages those that a suspension
// stops.
func (w *Warden) oversee(server *Server, runner *Runner) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if server != nil {
		w.server = server
	}
	if runner != nil {
		w.runner = runner
	}
}

// overseen are they.
func (w *Warden) overseen() (*Server, *Runner) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.server, w.runner
}

func (w *Warden) tell(a Alarm) {
	if w != nil {
		w.alarm(a)
	}
}

// sent hears of a message that somebody took.
func (w *Warden) sent(identity string, now time.Time, m breaker.Message) {
	if w != nil && w.watch != nil {
		w.trip(w.watch.Sent(identity, now, m), now)
	}
}

// answered hears what relays said of an identity's recipients for good.
func (w *Warden) answered(identity string, now time.Time, accepted, refused int) {
	if w != nil && w.watch != nil && accepted+refused > 0 {
		w.trip(w.watch.Results(identity, now, accepted, refused), now)
	}
}

// trip acts on breakers that have tripped: the ladders of their identities begin
// higher, unless they are to be reported only.
func (w *Warden) trip(trips []breaker.Trip, now time.Time) {
	for _, trip := range trips {
		event := &audit.Event{
			Time: now, Kind: audit.KindBreaker, Outcome: audit.OutcomeReported, Identity: trip.Identity,
			Reason: trip.Why, By: "breaker " + string(trip.Kind),
		}
		text := fmt.Sprintf("breaker %s: %s", trip.Kind, trip.Why)
		if !trip.Report {
			event.Outcome, event.Until = audit.OutcomeRaised, now.Add(trip.For)
			w.limits.Raise(trip.Identity, trip.Why, event.Until, now)
		}
		w.log.Warn("breaker tripped", zap.String(logfields.Identity, trip.Identity), zap.String(logfields.Reason, trip.Why))
		w.write(event)
		w.tell(Alarm{Kind: AlarmBreaker, Identity: trip.Identity, Text: text})
	}
}

func (w *Warden) write(event *audit.Event) {
	if err := w.events.Write(event); err != nil {
		w.log.Error("audit event not written", zap.String(logfields.Identity, event.Identity), zap.Error(err))
	}
}

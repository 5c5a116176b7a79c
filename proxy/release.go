package proxy

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// releaseInterval is how long held messages wait after a relay did not take them.
const releaseInterval = time.Minute

// releaseGrace is how long a delivery under way may take to end when the
// Releaser is stopped: sessions, which are stopped after it, need time too.
const releaseGrace = 3 * time.Second

// releaseHolder is who holds the relay connections of held messages.
const releaseHolder = "spool"

// Releaser delivers held messages once a relay is configured: at each new
// configuration, at the start, and again each minute what met a transient
// failure. A message leaves the spool only after the relay took custody for
// every recipient; what it refused for good stays, for a person to see.
type Releaser struct {
	spool    *spool.Spool
	events   EventLog
	log      *zap.Logger
	settings atomic.Pointer[Settings]
	wake     chan struct{}

	stopping context.Context // ends when nothing more shall be begun
	stop     context.CancelFunc
	working  context.Context // ends when the delivery under way is cut off
	cut      context.CancelFunc
	ended    chan struct{}

	// What the goroutine alone uses.
	asked   *Settings
	refused map[string]bool // messages that asked does not let go, not tried again with it
}

// NewReleaser starts the goroutine that delivers; Stop waits for it. It does
// nothing before Apply.
func NewReleaser(from *spool.Spool, events EventLog, log *zap.Logger) *Releaser {
	r := newReleaser(from, events, log)
	go r.run()
	return r
}

func newReleaser(from *spool.Spool, events EventLog, log *zap.Logger) *Releaser {
	r := &Releaser{
		spool: from, events: events, log: log.Named("release"),
		wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	r.stopping, r.stop = context.WithCancel(context.Background())
	r.working, r.cut = context.WithCancel(context.Background())
	return r
}

// Apply puts new settings in force and tries all held messages with them.
func (r *Releaser) Apply(settings *Settings) {
	r.settings.Store(settings)
	select {
	case r.wake <- struct{}{}:
	default: // a wake-up is waiting already
	}
}

// Stop waits for the delivery under way, a few seconds and no longer than ctx,
// and then cuts it off: its message stays held.
func (r *Releaser) Stop(ctx context.Context) error {
	r.stop()
	defer r.cut()
	ctx, cancel := context.WithTimeout(ctx, releaseGrace)
	defer cancel()
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
	}
	r.cut()
	<-r.ended
	return nil
}

func (r *Releaser) run() {
	defer close(r.ended)
	again := time.NewTicker(releaseInterval)
	defer again.Stop()
	for {
		select {
		case <-r.stopping.Done():
			return
		case <-r.wake:
		case <-again.C:
		}
		r.pass()
	}
}

// pass tries every held message, the oldest first, but for those of relays that
// are found to be away. It ends early when there are new settings to begin anew
// with.
func (r *Releaser) pass() {
	settings := r.settings.Load()
	if settings == nil || settings.Relays.empty() {
		return
	}
	if settings != r.asked {
		r.asked, r.refused = settings, map[string]bool{}
	}
	entries, err := r.spool.List()
	if err != nil {
		r.log.Error("held messages cannot all be read", zap.Error(err))
	}
	away := map[string]bool{}
	for _, entry := range entries {
		if r.stopping.Err() != nil || r.settings.Load() != settings {
			return
		}
		if !r.refused[entry.ID] {
			r.release(&releaseAttempt{settings: settings, entry: entry, away: away, began: time.Now()})
		}
	}
}

// release delivers one message, if it can be delivered now. A panic is a
// programmer's error: the message is left alone from then on.
func (r *Releaser) release(a *releaseAttempt) {
	defer func() {
		if failure := recover(); failure != nil {
			r.refused[a.entry.ID] = true
			r.log.Error("release panicked", zap.String(logfields.Txn, a.entry.ID),
				zap.String("panic", fmt.Sprint(failure)), zap.ByteString("stack", debug.Stack()))
		}
	}()
	message, err := r.spool.Read(a.entry.ID)
	if err != nil {
		r.log.Error("held message cannot be read", zap.String(logfields.Txn, a.entry.ID), zap.Error(err))
		return
	}
	defer func() { _ = message.Close() }()
	a.keepAll(true)
	a.err = a.deliver(r.working, message)
	switch {
	case errors.Is(a.err, errAway):
		return // it was not tried
	case a.err != nil:
		a.keepAll(false)
		r.log.Warn("held message stays", zap.String(logfields.Txn, a.entry.ID), zap.Error(a.err))
	}
	r.settle(a)
	r.writeEvent(a)
}

// settle removes what was delivered, and the recipients that were served from
// what was delivered in part. A crash before it repeats a delivery, which is
// better than losing one.
func (r *Releaser) settle(a *releaseAttempt) {
	var err error
	switch len(a.kept) {
	case 0:
		err = r.spool.Remove(a.entry.ID)
	case len(a.entry.Envelope.Recipients):
	default:
		err = r.spool.Rewrite(a.entry.ID, func(entry *spool.Entry) {
			entry.Reason, entry.Envelope.Recipients = a.refusal.String(), a.kept
		})
	}
	if err != nil {
		r.log.Error("delivered message could not be taken from the spool, it may be sent again",
			zap.String(logfields.Txn, a.entry.ID), zap.Error(err))
	}
	if len(a.kept) > 0 && a.permanent {
		r.refused[a.entry.ID] = true
	}
}

func (r *Releaser) writeEvent(a *releaseAttempt) {
	event := &audit.Event{
		Time: time.Now(), Kind: audit.KindTransaction, Txn: a.entry.ID, Listener: a.entry.Identity.Listener,
		PeerUser: a.entry.Identity.User, PeerUnit: a.entry.Identity.Unit, PeerContainer: a.entry.Identity.Container,
		AuthID: a.entry.Identity.Account, ReversePath: a.entry.Envelope.ReversePath, Recipients: a.offered,
		RcptCount: len(a.entry.Envelope.Recipients), Size: a.entry.Size, Decision: a.decision.Result.String(),
		Reason: a.decision.Reason, Rule: a.decision.Rule, Relay: a.relay,
		Custody: a.custody(), Duration: time.Since(a.began),
	}
	if event.ReversePath == "" {
		event.ReversePath = audit.NullReversePath
	}
	if uid := a.entry.Identity.UID; uid != nil {
		event.PeerUID = audit.KnownUID(*uid)
	}
	if a.reply.Code != 0 {
		event.RelayReply = a.reply.String()
	}
	if a.err != nil {
		event.Error = a.err.Error()
	}
	if err := r.events.Write(event); err != nil {
		r.log.Error("audit event not written", zap.String(logfields.Txn, event.Txn), zap.Error(err))
	}
}

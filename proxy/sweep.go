package proxy

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/dsn"
	"github.com/smtpwall/smtpwall/proxy/queue"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// sweep sees to messages by their age: those that wait for a relay are not
// tried, and yet expire, and their senders may want to hear of the delay.
func (r *Runner) sweep(now time.Time) {
	settings := r.settings.Load()
	defer r.sendDigest(settings, now)
	old := min(delayTold, settings.Expire)
	if oldest := r.spool.Usage().Oldest; !oldest.IsZero() && now.Sub(oldest) < old {
		return
	}
	for item, err := range r.spool.All(spool.Deferred) {
		if r.stopping.Err() != nil {
			return
		}
		if err != nil || r.calendar.age(item.Time, now) < old {
			continue
		}
		if ok, _ := r.queue.Remove(item.ID); ok {
			r.age(item, now)
		}
	}
}

// age gives up a message that is too old, or tells its sender of the delay.
func (r *Runner) age(item spool.Item, now time.Time) {
	a := newAttempt(r, queue.Item{ID: item.ID, Identity: item.Identity.Key(), Route: r.route(item), Next: item.Progress.Next, Attempts: item.Progress.Attempts})
	again := true
	defer func() {
		if again {
			r.queue.Add(a.next)
			r.signal()
		}
	}()
	if r.isDone(item.ID) {
		return
	}
	message, err := r.spool.Read(item.ID)
	if err != nil {
		again = a.unreadable(err)
		return
	}
	defer func() { _ = message.Close() }()
	a.open(message)
	switch {
	case a.tooOld(now):
		a.err = errExpired
		again = a.settle(now)
	case a.wantsDelayNotice():
		a.tellDelay(now)
	}
}

var errExpired = errors.New("the message has waited for too long")

func (a *attempt) wantsDelayNotice() bool {
	return !a.item.Progress.DelayTold && slices.ContainsFunc(a.due, func(d due) bool { return dsn.Wanted(d.Params.Notify, dsn.Delayed) })
}

// tellDelay sends the notice and notes that it was sent.
func (a *attempt) tellDelay(now time.Time) {
	a.tell(later, dsn.Delayed, now)
	p := a.item.Progress
	p.Time, p.DelayTold = now.UTC(), true
	if err := a.runner.spool.Settle(a.item.ID, p, a.item.State); err != nil {
		a.runner.log.Error("delay notice not noted, it may be sent again", zap.String(logfields.Txn, a.item.ID), zap.Error(err))
	}
}

package proxy

import (
	"errors"
	"slices"
	"time"

	"github.com/smtpwall/smtpwall/proxy/dsn"
	"github.com/smtpwall/smtpwall/proxy/queue"
	"github.com/smtpwall/smtpwall/proxy/smtp"
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
		if err != nil || r.calendar.age(item.Time, now) < old || !r.agesNow(settings, item, now) {
			continue
		}
		if claimed, ok := r.queue.Claim(item.ID); ok {
			r.age(claimed, now)
		}
	}
}

// agesNow says that something is to be done about a message's age.
func (r *Runner) agesNow(settings *Settings, item spool.Item, now time.Time) bool {
	return r.tooOld(settings, item, now) || wantsDelayNotice(item)
}

// age gives up a message that is too old, or tells its sender of the delay.
func (r *Runner) age(claimed queue.Item, now time.Time) {
	a := newAttempt(r, claimed)
	again := true
	defer func() { r.done(a.next, again) }()
	if ready, _ := a.settleFirst(); !ready {
		return
	}
	message, err := r.spool.Read(claimed.ID)
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
	case wantsDelayNotice(a.item):
		a.tellDelay(now)
	}
}

var errExpired = errors.New("the message has waited for too long")

func wantsDelayNotice(item spool.Item) bool {
	return !item.Progress.DelayTold && slices.ContainsFunc(item.Recipients(), func(rcpt smtp.Recipient) bool {
		return dsn.Wanted(rcpt.Params.Notify, dsn.Delayed)
	})
}

// tellDelay sends the notice, if the sender may have one, and notes that.
func (a *attempt) tellDelay(now time.Time) {
	if !a.tellDelayed(now) {
		return // another time
	}
	p := a.item.Progress
	p.Time, p.DelayTold = now.UTC(), true
	a.write(settlement{progress: p, to: a.item.State})
}

package proxy

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
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
	r.expireHeld(settings, now)
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
			r.look(claimed, func(a *attempt) bool { return a.age(now) })
		}
	}
}

// expireHeld gives up what nobody has released in time. What waits for the first
// relay waits on.
func (r *Runner) expireHeld(settings *Settings, now time.Time) {
	if settings.HoldExpire <= 0 || !r.calendar.mayExpire(now) {
		return
	}
	for _, id := range r.spool.TakenBefore(now.Add(-settings.HoldExpire), spool.Hold) {
		if r.stopping.Err() != nil {
			return
		}
		r.giveUpHeld(id, settings, now)
	}
}

// giveUpHeld tells the sender, if that may be, and else leaves the message to
// the digest; the next time it is dropped.
func (r *Runner) giveUpHeld(id string, settings *Settings, now time.Time) {
	after, postmaster := settings.HoldExpire, settings.Postmaster
	r.ordering.Lock()
	defer r.ordering.Unlock()
	_, active := r.queue.Remove(id)
	if active { // it may go by now, and goes
		return
	}
	a := newAttempt(r, queue.Item{ID: id})
	if ready, again := a.settleFirst(); !ready {
		if again {
			r.queue.Add(a.next)
		}
		return
	}
	message, err := r.spool.Read(id)
	if err != nil {
		if a.unreadable(err) { // for the moment
			r.queue.Add(a.next)
		}
		return
	}
	defer func() { _ = message.Close() }()
	switch item := message.Item; {
	case item.State != spool.Hold || item.Progress.Hold == spool.HoldNoRelay || r.calendar.age(item.Time, now) <= after:
		r.Add(item)
	case item.Progress.Hold == spool.HoldUndeliverable:
		if postmaster != "" && r.calendar.age(item.Progress.Time, now) <= after {
			return // the digest tells of it first
		}
		if err := r.drop(item, reasonUnreleased); err != nil {
			r.log.Error("message could not be taken from the spool", zap.String(logfields.Txn, id), zap.Error(err))
		}
	default:
		a.open(message)
		for i := range a.due {
			a.due[i].fate, a.due[i].expired, a.due[i].Reply = failed, true, reasonUnreleased+" (held: "+item.Progress.Reason+")"
		}
		a.settle(now)
	}
}

const reasonUnreleased = "nobody released it in time"

// agesNow says that something is to be done about a message's age.
func (r *Runner) agesNow(settings *Settings, item spool.Item, now time.Time) bool {
	return r.tooOld(settings, item, now) || wantsDelayNotice(item)
}

// age gives up a message that is too old, or tells its sender of the delay; true
// if it goes back into the queue.
func (a *attempt) age(now time.Time) (again bool) {
	switch {
	case a.tooOld(now):
		a.err = errExpired
		return a.settle(now)
	case wantsDelayNotice(a.item):
		a.tellDelay(now)
	}
	return true
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

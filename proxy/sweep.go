package proxy

import (
	"errors"
	"slices"
	"time"

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
		if claimed, ok := r.queue.Claim(item.ID); ok {
			r.age(claimed, now)
		}
	}
}

// age gives up a message that is too old, or tells its sender of the delay.
func (r *Runner) age(claimed queue.Item, now time.Time) {
	a := newAttempt(r, claimed)
	again := true
	defer func() {
		r.queue.Done(claimed.ID)
		if again {
			r.queue.Add(a.next)
			r.signal()
		}
	}()
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
	a.write(settlement{progress: p, to: a.item.State})
}

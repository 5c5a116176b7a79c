package proxy

import (
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// settle writes down what the try came to, after it told whom it concerns; true
// if the message goes back into the queue. A crash before it repeats a delivery
// or a notice, which is better than losing one.
func (a *attempt) settle(now time.Time) (again bool) {
	if a.tooOld(now) {
		a.expire()
	}
	a.tellWarden()
	a.tellFailures(now)
	p, to := a.progress(now), spool.Deferred
	switch {
	case len(p.Rest) == 0:
		a.writeEvent(p)
		return a.write(settlement{gone: true})
	case a.waits() && a.tooManyAtOnce():
		p.Next, p.Attempts = now, a.item.Progress.Attempts // the others go in a transaction of their own
	case a.waits():
		p.Next = now.Add(a.runner.retryAfter(p.Attempts))
	default:
		p.Hold, to = spool.HoldUndeliverable, spool.Hold
	}
	// The event comes first: a crash in between may repeat the try, and must not
	// leave it without one.
	a.writeEvent(p)
	a.next.Next, a.next.Attempts = p.Next, p.Attempts
	return a.write(settlement{progress: p, to: to}) || to == spool.Deferred
}

// tellWarden passes on what the relay said for good.
func (a *attempt) tellWarden() {
	accepted, refused := 0, 0
	for _, d := range a.due {
		switch {
		case d.fate == served:
			accepted++
		case d.fate == failed && !d.expired:
			refused++
		}
	}
	if !a.item.Identity.Notice {
		a.runner.warden.answered(a.item.Identity.Key(), time.Now(), accepted, refused)
	}
}

// progress is the message's state after this try.
func (a *attempt) progress(now time.Time) spool.Progress {
	p := a.item.Progress
	p.Time, p.Hold, p.Reason = now.UTC(), "", a.reason()
	p.Attempts++
	if a.relay != "" {
		p.Relay = a.relay
	}
	p.PossibleDuplicate = p.PossibleDuplicate || a.unknown()
	p.Rest = append([]spool.Due{}, a.stuck...)
	for _, d := range a.due {
		if d.fate == later {
			p.Rest = append(p.Rest, d.Due)
		}
	}
	return p
}

// reason is why the message is still here.
func (a *attempt) reason() string {
	switch {
	case a.err != nil:
		return a.err.Error()
	case a.reply.Code != 0 && !a.reply.Positive():
		return a.reply.String()
	}
	for _, d := range a.due {
		if d.fate != served && d.Reply != "" {
			return d.Reply
		}
	}
	return ""
}

// unknown says that the relay may have the message.
func (a *attempt) unknown() bool {
	failure := asRelayError(a.err)
	return failure != nil && failure.Unknown
}

// waits says that there is somebody to try again.
func (a *attempt) waits() bool {
	for _, d := range a.due {
		if d.fate == later {
			return true
		}
	}
	return false
}

// tooManyAtOnce says that the relay took some recipients, and put the others off
// for their number alone (RFC 5321 section 4.5.3.1.10).
func (a *attempt) tooManyAtOnce() bool {
	some := false
	for _, d := range a.due {
		some = some || d.fate == served
		if d.fate == later && !isTooMany(d.code) {
			return false
		}
	}
	return some
}

func isTooMany(code int) bool { return code == 452 }

// tooOld says that the message has waited for as long as it may.
func (a *attempt) tooOld(now time.Time) bool { return a.runner.tooOld(a.settings, a.item, now) }

func (r *Runner) tooOld(settings *Settings, item spool.Item, now time.Time) bool {
	return r.calendar.mayExpire(now) && r.calendar.age(item.Time, now) > settings.Expire
}

// expire gives up those that still wait (RFC 3463 code 4.4.7).
func (a *attempt) expire() {
	for i := range a.due {
		d := &a.due[i]
		if d.fate != later {
			continue
		}
		words := "not delivered within " + a.settings.Expire.String()
		if d.Reply != "" {
			words += "; the relay's last reply: " + d.Reply
		} else if a.err != nil {
			words += "; no relay could be used"
		}
		d.fate, d.expired, d.Reply = failed, true, words
	}
}

// write brings the outcome into the spool. It is true where that must be tried
// again.
func (a *attempt) write(s settlement) (again bool) {
	if a.runner.settle(a.item.ID, s) {
		return false
	}
	a.next.Next = a.began.Add(restTime)
	return true
}

// hold parks the message until somebody or other settings let it go; true if
// that must be tried again.
func (a *attempt) hold(why, reason string) (again bool) {
	if a.item.State == spool.Hold && a.item.Progress.Hold == why {
		return false
	}
	p := a.item.Progress
	p.Time, p.Next, p.Hold, p.Reason, p.Relay = time.Now().UTC(), time.Time{}, why, reason, "" // due at once when it may go
	a.runner.log.Warn("message held", zap.String(logfields.Txn, a.item.ID), zap.String(logfields.Reason, reason))
	a.writeEvent(p)
	return a.write(settlement{progress: p, to: spool.Hold})
}

// custody is who is responsible for the message after this try.
func (a *attempt) custody(p spool.Progress) string {
	if len(p.Rest) > 0 || p.Rest == nil {
		return audit.CustodySpool
	}
	for _, d := range a.due {
		if d.fate == failed {
			return audit.CustodyBounced
		}
	}
	return audit.CustodyRelay
}

// writeEvent writes the one event of the try.
func (a *attempt) writeEvent(p spool.Progress) {
	event := eventOf(a.item)
	event.Duration, event.Custody, event.Attempt = time.Since(a.began), a.custody(p), p.Attempts
	event.Decision, event.Reason, event.Rule = a.decision.Result.String(), a.decision.Reason, a.decision.Rule
	event.Relay, event.PossibleDuplicate = a.relay, p.PossibleDuplicate
	if event.Custody == audit.CustodySpool && p.Hold == "" {
		event.Next = p.Next
	}
	for _, d := range a.due[:min(len(a.due), audit.MaxRecipients)] {
		event.Recipients = append(event.Recipients, audit.Recipient{Address: d.Address, ReplyCode: d.code})
	}
	event.RcptCount = len(a.due)
	if a.reply.Code != 0 {
		event.RelayReply = a.reply.String()
	}
	if a.err != nil {
		event.Error = a.err.Error()
	}
	a.runner.writeEvent(event)
}

// eventOf is what an event says of a message of the spool.
func eventOf(item spool.Item) *audit.Event {
	id := item.Identity
	event := &audit.Event{
		Time: time.Now(), Kind: audit.KindDelivery, Txn: item.ID, Listener: id.Listener, Identity: id.Key(),
		PeerUser: id.User, PeerUnit: id.Unit, PeerContainer: id.Container, AuthID: id.Account,
		ReversePath: item.Envelope.ReversePath, Size: item.Size,
	}
	if event.ReversePath == "" {
		event.ReversePath = audit.NullReversePath
	}
	if id.UID != nil {
		event.PeerUID = audit.KnownUID(*id.UID)
	}
	return event
}

func (r *Runner) writeEvent(event *audit.Event) {
	if err := r.events.Write(event); err != nil {
		r.log.Error("audit event not written", zap.String(logfields.Txn, event.Txn), zap.Error(err))
	}
}

// status is the enhanced status code of a recipient that was given up.
func (d due) status() smtp.EnhancedCode {
	if d.expired {
		return smtp.EnhancedCode{4, 4, 7}
	}
	return d.enhanced
}

package proxy

import (
	"strconv"
	"time"

	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// meter is what one transaction has claimed of its budgets. What was claimed is
// given back unless somebody took the message. A session uses its one again and
// again.
type meter struct {
	own     *Allotment
	claim   limit.Claim
	budgets [maxBudgets]limit.Budget
	bytes   int64         // claimed by the declared size
	delay   time.Duration // before the reply that is due
	waited  time.Duration // in this transaction
}

// openMeter begins to count a transaction, by what policy decided at MAIL.
func (s *session) openMeter() (refusal smtp.Reply) {
	t, w := s.transaction, s.server.warden
	if w == nil {
		return smtp.Reply{}
	}
	m, quota, k := &s.meter, &s.settings.Quota, s.keys()
	t.meter, m.delay, m.waited = m, 0, 0
	m.own = quota.allotment(t.decision.Rule)
	w.limits.Begin(&m.claim, k.Identity, quota.budgets(m.budgets[:0], m.own, k, t.envelope.ReversePath))
	m.bytes = max(t.envelope.Params.Size, 0)
	return s.measure(limit.Amount{Messages: 1, Bytes: m.bytes}, t.began)
}

// measure claims room for a part of the transaction and does what the ladder
// says where there is little. A reply that it gives is the refusal, and the part
// has taken nothing.
func (s *session) measure(amount limit.Amount, now time.Time) (refusal smtp.Reply) {
	m := s.transaction.meter
	if m == nil {
		return smtp.Reply{}
	}
	answer := m.claim.Take(now, amount)
	raised, why, until := s.server.warden.limits.Raised(s.keys().Identity, now)
	action := m.own.Ladder.For(answer, raised)
	if !answer.Room && answer.Others <= 100 && m.own.isSoft() && m.own.Ladder.At(answer.Percent, raised) == limit.Slow {
		action = limit.Slow
		m.claim.Force(now, amount)
	}
	if action <= limit.Slow {
		if action == limit.Slow && (raised > 0 || m.own.isSlow(answer, amount)) {
			m.delay = max(m.delay, slowness(answer.Use)-m.waited)
		}
		return smtp.Reply{}
	}
	if !answer.Room && answer.Opens.IsZero() && action != limit.Hold {
		return s.tooMuch(answer)
	}
	if answer.Room {
		m.claim.Return(amount)
		m.claim.Refuse(now, amount)
	}
	var reason limitReason
	switch {
	case !answer.Room:
		reason = fullReason(answer)
	case raised > 0 && m.own.Ladder.For(answer, 0) < action:
		reason = limitReason{text: "sending is restricted after: " + why, opens: until}
	default:
		share := m.own.share(action)
		reason = fullReason(answer)
		reason.text = strconv.Itoa(share) + "% of the " + reason.text
		reason.opens = m.claim.Clears(now, answer, amount, share)
	}
	s.transaction.full, s.transaction.opens = reason.full, reason.opens
	return s.atLimit(action, reason)
}

// tooMuch refuses what is more than a whole limit, for good: waiting does not
// help, and it is no reason to suspend anybody.
func (s *session) tooMuch(answer limit.Answer) smtp.Reply {
	t := s.transaction
	d := policy.Decision{Result: policy.Deny, Reason: "message larger than the whole limit of " + answer.Limit.String(), Rule: t.decision.Rule}
	t.denied, t.full = &d, fullReason(answer).full
	return smtp.NewReply(552, smtp.EnhancedCode{5, 3, 4}, ruled(d))
}

// limitReason is why a ladder acts.
type limitReason struct {
	text  string
	full  string // the limit without room and its budget, for the event
	opens time.Time
}

func fullReason(a limit.Answer) limitReason {
	return limitReason{text: "limit of " + a.Limit.String() + " reached", full: a.Limit.String() + " of " + a.Key, opens: a.Opens}
}

// atLimit is what happens on a rung above slow.
func (s *session) atLimit(action limit.Action, reason limitReason) (refusal smtp.Reply) {
	t, k := s.transaction, s.keys()
	d := policy.Decision{Result: policy.Defer, Reason: reason.text, Rule: t.decision.Rule}
	s.server.warden.tell(Alarm{Kind: AlarmLimit, Identity: k.Identity, Text: action.String() + ": " + ruled(d)})
	switch action {
	case limit.Hold:
		s.park(spool.HoldLimit, ruled(d))
		return smtp.Reply{}
	case limit.Suspend:
		suspension := limit.Suspension{Key: k.Identity, Reason: reason.text, By: ladderOf(d.Rule), Since: time.Now()}
		if t.meter.own.SuspendFor > 0 {
			suspension.Until = suspension.Since.Add(t.meter.own.SuspendFor)
		}
		s.server.warden.suspendLater(suspension)
		return s.suspended(suspension)
	}
	t.denied = &d
	return smtp.NewReply(450, smtp.EnhancedCode{4, 7, 1}, ruled(d)+", try again "+opening(reason.opens))
}

func ladderOf(rule string) string {
	if rule == "" {
		return "ladder of [policy]"
	}
	return "ladder of rule " + rule
}

// opening says when waiting helps.
func opening(opens time.Time) string {
	if opens.IsZero() {
		return "later"
	}
	return "after " + opens.UTC().Truncate(time.Second).Add(time.Second).Format(time.RFC3339)
}

// The replies to one transaction of who is slowed come so late.
const (
	slowest = 10 * time.Second
	slowed  = time.Second
)

// slowness grows by a second with each tenth of the limit beyond its half.
func slowness(percent float64) time.Duration {
	return min(slowest, max(slowed, time.Duration((percent-50)/10*float64(time.Second))))
}

// slowDown waits as the ladder says, before the replies that are due; false if
// the session was cut off.
func (s *session) slowDown() bool {
	t := s.transaction
	if t == nil || t.meter == nil || t.meter.delay == 0 || s.closing {
		return true
	}
	delay := t.meter.delay
	t.meter.delay, t.meter.waited = 0, t.meter.waited+delay
	return s.pause(delay)
}

// penance lets who goes on after refusals for now wait before the next, longer
// each time: trying again at once must not pay.
func (s *session) penance() bool {
	s.deferrals++
	return s.pause(min(slowest, time.Duration(s.deferrals-1)*slowed))
}

// measureSize claims what the message is longer than it was said to be.
func (s *session) measureSize(size int64) (refusal smtp.Reply) {
	m := s.transaction.meter
	switch {
	case m == nil || size == m.bytes || !m.claim.Counts(limit.Bytes):
		return smtp.Reply{}
	case size < m.bytes:
		m.claim.Return(limit.Amount{Bytes: m.bytes - size})
		m.bytes = size
		return smtp.Reply{}
	}
	return s.measure(limit.Amount{Bytes: size - m.bytes}, time.Now())
}

// giveBack returns what a recipient has claimed whom the relay does not take.
func (m *meter) giveBack(address string) {
	if m != nil {
		m.claim.Return(limit.Amount{Recipients: 1, Recipient: address})
	}
}

// closeMeter keeps what was claimed for a message that somebody took, or may
// have taken, and gives back all of another.
func (t *transaction) closeMeter(now time.Time) {
	switch {
	case t.meter == nil:
	case t.outcome.taken():
		t.meter.claim.Commit(now)
	default:
		t.meter.claim.Cancel()
	}
}

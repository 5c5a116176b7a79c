package proxy

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// rcpt is RFC 5321 section 4.1.1.3. Recipients that the client pipelines go to
// the relay in one flight: see resolveRecipients.
func (s *session) rcpt(c smtp.Command) {
	t := s.transaction
	rcpt, err := smtp.ParseRcpt(c.Arg, s.mailCapabilities(), t.envelope.Params.UTF8)
	var syntax *smtp.SyntaxError
	if errors.As(err, &syntax) {
		t.waiting = append(t.waiting, waitingRcpt{reply: syntax.Reply})
		return
	}
	t.waiting = append(t.waiting, waitingRcpt{rcpt: rcpt, reply: s.judgeRcpt(rcpt)})
	if len(t.waiting) >= maxWaiting {
		s.resolveRecipients()
	}
}

// maxWaiting bounds the recipients of one flight.
const maxWaiting = 100

// judgeRcpt is what we have against a recipient ourselves; the zero reply is
// nothing.
func (s *session) judgeRcpt(rcpt smtp.Recipient) smtp.Reply {
	t := s.transaction
	if len(t.envelope.Recipients)+len(t.waiting) >= s.settings.Limits.MaxRecipients {
		// RFC 5321 section 4.5.3.1.10: 452, so that the client sends the rest
		// in another transaction.
		return s.mark(smtp.NewReply(452, smtp.EnhancedCode{4, 5, 3}, "too many recipients, send the rest in another transaction"))
	}
	switch decision := s.judgeRecipient(rcpt.Address); decision.Result {
	case policy.Allow, policy.Hold: // which MAIL has seen to
	default:
		t.denied = &decision
		return s.denial(decision)
	}
	if refusal := s.measure(limit.Amount{Recipients: 1, Recipient: rcpt.Address}, time.Now()); refusal.Code != 0 {
		return s.mark(refusal)
	}
	return smtp.Reply{}
}

// resolveRecipients brings the waiting recipients to where the message goes,
// and queues all their replies in order.
func (s *session) resolveRecipients() {
	t := s.transaction
	if t == nil || len(t.waiting) == 0 {
		return
	}
	var rcpts []smtp.Recipient
	for _, w := range t.waiting {
		if w.reply.Code == 0 {
			rcpts = append(rcpts, w.rcpt)
		}
	}
	deferred := slices.ContainsFunc(t.waiting, func(w waitingRcpt) bool { return w.reply.Code == 450 })
	if !s.slowDown() || deferred && !s.penance() {
		return
	}
	replies := s.offer(rcpts)
	for i, w := range t.waiting {
		if s.closing { // after too many errors
			t.waiting = t.waiting[i:]
			return
		}
		if w.reply.Code == 0 {
			s.answerRcpt(w.rcpt, replies[0])
			replies = replies[1:]
			continue
		}
		t.note(w.rcpt, w.reply.Code)
		t.outcome.reply = w.reply
		s.refuseWith(w.reply)
	}
	t.waiting = t.waiting[:0]
}

// answerRcpt passes on what became of a recipient.
func (s *session) answerRcpt(rcpt smtp.Recipient, reply smtp.Reply) {
	t := s.transaction
	s.out = reply.AppendTo(s.out)
	t.outcome.reply = reply
	t.note(rcpt, reply.Code)
	if !reply.Positive() {
		t.meter.giveBack(rcpt.Address)
		if reply.Permanent() && t.delivery != nil { // else no relay has said so
			t.refused++
		}
		return
	}
	t.envelope.Recipients = append(t.envelope.Recipients, rcpt)
	if s.state = stateRcpt; t.expires.IsZero() {
		t.expires = time.Now().Add(s.settings.Limits.DataTimeout)
	}
}

// note keeps a recipient for the event. One that could not be parsed has no
// address.
func (t *transaction) note(rcpt smtp.Recipient, code int) {
	if rcpt.Address == "" {
		return
	}
	if t.count++; len(t.offered) < audit.MaxRecipients {
		t.offered = append(t.offered, audit.Recipient{Address: rcpt.Address, ReplyCode: code})
	}
}

// offer gives the recipients to the delivery, which it begins with the first. A
// relay that fails, or takes none of them now, is followed by the next one, as
// long as the client was promised nothing; and the last one by the spool.
func (s *session) offer(rcpts []smtp.Recipient) []smtp.Reply {
	t := s.transaction
	if len(rcpts) == 0 {
		return nil
	}
	if t.delivery == nil {
		t.untried = s.settings.Relays.route(t.decision.Relay)
	}
	for {
		if t.delivery == nil {
			if refusal := s.openDelivery(); refusal.Code != 0 {
				return slices.Repeat([]smtp.Reply{refusal}, len(rcpts))
			}
		}
		replies, err := t.delivery.recipients(s.ctx, rcpts, s.dataIsNext())
		if err == nil && !s.nextIsBetter() {
			return s.marked(replies)
		}
		if t.failure = err; err == nil {
			t.failure = t.delivery.(*relayDelivery).lastWord()
		}
		t.delivery.abort()
		if t.delivery = nil; len(t.envelope.Recipients) > 0 {
			t.untried = nil // another relay might refuse whom we promised something
		}
	}
}

// nextIsBetter says that the relay takes nobody now and another one may.
func (s *session) nextIsBetter() bool {
	t := s.transaction
	d, streams := t.delivery.(*relayDelivery)
	return streams && d.useless() && len(t.untried) > 0 && len(t.envelope.Recipients) == 0
}

// dataIsNext says that the client has pipelined DATA behind its recipients, and
// that nothing of ours stands between.
func (s *session) dataIsNext() bool {
	next := s.reader.Unread()
	return len(next) >= len(dataLine) && strings.EqualFold(string(next[:len(dataLine)]), dataLine) &&
		!s.settings.looksFirst(s.transaction.decision)
}

const dataLine = "DATA\r\n"

// marked puts the transaction's id into refusals.
func (s *session) marked(replies []smtp.Reply) []smtp.Reply {
	for i, reply := range replies {
		if !reply.Positive() {
			replies[i] = s.mark(reply)
		}
	}
	return replies
}

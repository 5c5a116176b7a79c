package proxy

import (
	"errors"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// transaction is one message, from MAIL to the end of data or a reset. It ends
// in exactly one audit event.
type transaction struct {
	id       string
	began    time.Time
	envelope smtp.Envelope // the recipients are the accepted ones
	decision policy.Decision
	denied   *policy.Decision  // a recipient that policy refused
	relay    string            // the name of the one that has the transaction
	offered  []audit.Recipient // all that the client named, with their replies
	count    int               // of them, where offered is cut
	waiting  []waitingRcpt     // RCPT commands whose replies are due
	delivery delivery          // nil before the first recipient
	intake   *intake           // nil before data
	failed   *smtp.Reply       // the delivery was lost: the reply for what follows
	outcome  result            // what the client was told last
}

// waitingRcpt is a recipient that goes to the relay with those behind it, or a
// reply that must wait for its turn.
type waitingRcpt struct {
	rcpt  smtp.Recipient
	reply smtp.Reply // if judged here already
}

// mail is RFC 5321 section 4.1.1.2. Policy judges the sender; the relay hears
// of it with the first recipient.
func (s *session) mail(c smtp.Command) {
	path, params, err := smtp.ParseMail(c.Arg, s.mailCapabilities())
	if err != nil {
		s.refuseSyntax(err)
		return
	}
	s.begin(path, params)
	t := s.transaction
	if t.decision = s.judgeSender(path); t.decision.Result != policy.Allow {
		s.endRefused(s.denial(t.decision))
		return
	}
	s.state = stateMail
	s.reply(250, smtp.EnhancedCode{2, 1, 0}, "sender ok")
}

// mailCapabilities are those that were announced: none after HELO (RFC 5321
// section 4.1.1.1), where only SIZE is still honoured.
func (s *session) mailCapabilities() smtp.Capabilities {
	caps := s.settings.capabilities()
	if !s.extended {
		return smtp.Capabilities{MaxSize: caps.MaxSize}
	}
	return caps
}

func (s *session) begin(path string, params smtp.MailParams) {
	now := time.Now()
	s.transaction = &transaction{
		id: newID(now), began: now,
		envelope: smtp.Envelope{ReversePath: path, Params: params},
	}
}

// ruled is the reason with the rule that gave it.
func ruled(d policy.Decision) string {
	if d.Rule == "" {
		return d.Reason
	}
	return d.Reason + " (rule " + strconv.Quote(d.Rule) + ")"
}

// mark puts the transaction's id behind the text, so that the reply leads to
// the event.
func (s *session) mark(reply smtp.Reply) smtp.Reply {
	lines := append([]string(nil), reply.Lines...)
	last := "[smtpwall " + s.transaction.id + "]"
	if n := len(lines); n > 0 {
		lines[n-1] += " " + last
	} else {
		lines = []string{last}
	}
	reply.Lines = lines
	return reply
}

func (s *session) refuseSyntax(err error) {
	var syntax *smtp.SyntaxError
	if errors.As(err, &syntax) {
		s.out = syntax.Reply.AppendTo(s.out)
	}
	s.countError()
}

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
	if decision := s.judgeRecipient(rcpt.Address); decision.Result != policy.Allow {
		t.denied = &decision
		return s.denial(decision)
	}
	if t.failed != nil {
		return *t.failed
	}
	return smtp.Reply{}
}

// resolveRecipients brings the waiting recipients to where the message goes,
// and queues all their replies in order.
func (s *session) resolveRecipients() {
	t := s.transaction
	var rcpts []smtp.Recipient
	for _, w := range t.waiting {
		if w.reply.Code == 0 {
			rcpts = append(rcpts, w.rcpt)
		}
	}
	replies := s.offer(rcpts)
	for _, w := range t.waiting {
		reply := w.reply
		if reply.Code == 0 {
			reply, replies = replies[0], replies[1:]
		}
		s.answerRcpt(w.rcpt, reply)
	}
	t.waiting = t.waiting[:0]
}

func (s *session) answerRcpt(rcpt smtp.Recipient, reply smtp.Reply) {
	t := s.transaction
	s.out = reply.AppendTo(s.out)
	t.outcome.reply = reply
	if rcpt.Address != "" {
		if t.count++; len(t.offered) < audit.MaxRecipients {
			t.offered = append(t.offered, audit.Recipient{Address: rcpt.Address, ReplyCode: reply.Code})
		}
	}
	if reply.Positive() {
		t.envelope.Recipients = append(t.envelope.Recipients, rcpt)
		s.state = stateRcpt
	}
	if rcpt.Address == "" {
		// A list with dead addresses is no attack: what the relay or policy
		// refuses is answered and not held against the session.
		s.countError()
	}
}

// offer gives the recipients to the delivery, which it begins with the first.
func (s *session) offer(rcpts []smtp.Recipient) []smtp.Reply {
	t := s.transaction
	if len(rcpts) == 0 {
		return nil
	}
	if t.delivery == nil && t.failed == nil {
		delivery, refusal := s.deliveryFor(t)
		if delivery == nil {
			return s.sameReply(refusal, len(rcpts))
		}
		t.delivery = delivery
	}
	if t.failed != nil {
		return s.sameReply(*t.failed, len(rcpts))
	}
	replies, err := t.delivery.recipients(s.ctx, rcpts)
	if err != nil {
		t.lose(s.mark(relayFailure(err)), err)
		return s.sameReply(*t.failed, len(rcpts))
	}
	for i, reply := range replies {
		if replies[i] = relay.ForClient(reply); !reply.Positive() {
			replies[i] = s.mark(replies[i])
		}
	}
	return replies
}

func (s *session) sameReply(reply smtp.Reply, n int) []smtp.Reply {
	replies := make([]smtp.Reply, n)
	for i := range replies {
		replies[i] = reply
	}
	return replies
}

// lose gives the delivery up; the client hears reply until it starts anew.
func (t *transaction) lose(reply smtp.Reply, err error) {
	t.delivery.abort()
	t.delivery = nil
	t.failed = &reply
	t.outcome = result{reply: reply, custody: audit.CustodyClient, err: err}
}

// deliveryFor opens the way that the message takes, or says why there is none.
func (s *session) deliveryFor(t *transaction) (delivery, smtp.Reply) {
	if s.settings.Relays.empty() {
		return newHoldDelivery(s), smtp.Reply{}
	}
	var failure error
	for _, pool := range s.settings.Relays.route(t.decision.Relay) {
		begun, err := pool.Begin(s.ctx, s.peerKey, t.envelope.ReversePath, t.envelope.Params)
		if err != nil {
			failure = err
			continue
		}
		if reply, bad := unfit(t.envelope.Params, begun.Capabilities()); bad {
			begun.Abort()
			return nil, s.mark(reply)
		}
		t.relay = pool.Name()
		return relayDelivery{begun}, smtp.Reply{}
	}
	t.outcome.err = failure
	return nil, s.mark(relayFailure(failure))
}

// unfit says what the relay cannot carry. It was not announced before, but a
// relay may change, and one of several may differ.
func unfit(params smtp.MailParams, caps relay.Capabilities) (smtp.Reply, bool) {
	switch {
	case params.UTF8 && !caps.UTF8: // RFC 6531 section 3.5
		return smtp.NewReply(550, smtp.EnhancedCode{5, 6, 7}, "the relay does not support SMTPUTF8"), true
	case params.Body == "8BITMIME" && !caps.EightBitMIME: // RFC 6152 section 3
		return smtp.NewReply(554, smtp.EnhancedCode{5, 6, 3}, "the relay does not support 8BITMIME"), true
	}
	return smtp.Reply{}, false
}

func asRelayError(err error) *relay.Error {
	var failure *relay.Error
	if errors.As(err, &failure) {
		return failure
	}
	return nil
}

// relayFailure is the reply when no relay takes the message now.
func relayFailure(err error) smtp.Reply {
	if failure := asRelayError(err); failure != nil {
		return failure.ClientReply()
	}
	return smtp.NewReply(451, smtp.EnhancedCode{4, 3, 5}, "no relay is available for this message, try again later")
}

// endRefused ends the transaction with a refusal of ours.
func (s *session) endRefused(reply smtp.Reply) {
	s.out = reply.AppendTo(s.out)
	s.transaction.outcome.reply = reply
	s.dropTransaction()
	s.countError()
}

// dropTransaction ends the transaction, if there is one, without a message,
// and writes its event.
func (s *session) dropTransaction() {
	t := s.transaction
	if t == nil {
		return
	}
	if t.delivery != nil {
		t.delivery.abort()
	}
	if t.outcome.custody == "" {
		t.outcome.custody = audit.CustodyClient
	}
	s.writeTransactionEvent(t)
	s.transaction = nil
	if s.state != stateConnected {
		s.state = stateGreeted
	}
}

// newHoldDelivery keeps the message until a relay is approved.
func newHoldDelivery(s *session) delivery {
	t := s.transaction
	s.log.Debug("no relay is configured, message will be held", zap.String(logfields.Txn, t.id))
	return &holdDelivery{spool: s.settings.Spool, entry: func() spool.Entry { return s.spoolEntry(t) }}
}

package relay

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Transaction is one message on its way to the relay, on a connection lent for
// it. It ends with exactly one Finish or Abort.
type Transaction struct {
	pool        *Pool
	c           *conn
	reversePath string
	params      smtp.MailParams
	patience    time.Duration // of who waits for replies to the envelope; 0: as the pool's
	phase       phase
	flight      flight
	refusal     smtp.Reply // of MAIL
	accepted    bool       // a recipient was
	body        body
}

type phase uint8

const (
	phaseNew      phase = iota // nothing sent yet
	phaseEnvelope              // MAIL was accepted
	phaseRefused               // MAIL was refused
	phaseData                  // DATA or BDAT was sent
	phaseBroken                // the connection is not in a known state
	phaseEnded                 // the relay gave its reply, or we gave up
)

func newTransaction(p *Pool, c *conn, reversePath string, params smtp.MailParams) *Transaction {
	t := &Transaction{pool: p, c: c, reversePath: reversePath, params: params}
	t.body.last = '\n'
	return t
}

// Relay is the name of the relay that has the transaction.
func (t *Transaction) Relay() string { return t.pool.options.Name }

// Capabilities are those of this connection.
func (t *Transaction) Capabilities() Capabilities { return t.c.capabilities }

// maxFlight bounds the commands of one write, so that neither side's buffers
// fill while both wait (RFC 2920 section 3.1).
const maxFlight = 100

// Recipients hands over recipients, with MAIL before the first, and gives the
// relay's own reply for each. A refusal of MAIL is every recipient's reply. The
// error is an *Error; the transaction can then only be aborted.
func (t *Transaction) Recipients(ctx context.Context, recipients []smtp.Recipient) ([]smtp.Reply, error) {
	return t.handOver(ctx, recipients, false)
}

// LastRecipients is Recipients for those behind which the data will follow at
// once and will not be refused by us: DATA goes in the same flight where that
// saves a round trip (RFC 2920).
func (t *Transaction) LastRecipients(ctx context.Context, recipients []smtp.Recipient) ([]smtp.Reply, error) {
	return t.handOver(ctx, recipients, t.c.capabilities.Pipelining && !t.c.capabilities.Chunking)
}

func (t *Transaction) handOver(ctx context.Context, recipients []smtp.Recipient, withData bool) ([]smtp.Reply, error) {
	if t.phase == phaseData || t.phase == phaseBroken {
		// Another RCPT would be taken for a line of the message.
		return nil, t.pool.fail(StepEnvelope, errDataBegun)
	}
	replies := make([]smtp.Reply, 0, len(recipients))
	for len(recipients) > 0 {
		n := min(len(recipients), maxFlight)
		part, err := t.recipientFlight(ctx, recipients[:n], withData && n == len(recipients))
		if err != nil {
			t.phase = phaseBroken
			return nil, err
		}
		replies = append(replies, part...)
		recipients = recipients[n:]
	}
	return replies, nil
}

func (t *Transaction) recipientFlight(ctx context.Context, recipients []smtp.Recipient, withData bool) ([]smtp.Reply, error) {
	if t.phase == phaseRefused {
		return slices.Repeat([]smtp.Reply{t.refusal}, len(recipients)), nil
	}
	kept := t.phase == phaseNew && t.c.kept
	replies, err := t.sendEnvelope(recipients, withData)
	if err != nil && kept && ctx.Err() == nil {
		// The relay closed a kept connection: nothing of the message was
		// handed over, so a new one may try.
		t.phase, t.accepted = phaseNew, false // MAIL may have been taken there
		if failure := t.replaceConnection(ctx); failure != nil {
			return nil, failure
		}
		replies, err = t.sendEnvelope(recipients, withData)
	}
	if err != nil {
		return nil, t.envelopeFailure(err)
	}
	return replies, nil
}

// envelopeFailure is why the envelope could not be handed over.
func (t *Transaction) envelopeFailure(err error) *Error {
	var r *refusal
	if errors.As(err, &r) {
		return t.refused(r.reply)
	}
	return t.pool.fail(StepEnvelope, err)
}

// refused is the failure that a reply about us amounts to. Who is turned away at
// MAIL goes more slowly: it may be for its address, and says nothing about the
// number of connections. A kept connection may just have been idle too long, or
// its login; but not one that took MAIL.
func (t *Transaction) refused(reply smtp.Reply) *Error {
	step, stale := stepOf(reply), t.c.kept && t.phase == phaseNew
	switch {
	case stale:
	case step == StepAuth:
		step = t.pool.denied(t.c)
	case reply.Code == 421 && t.phase == phaseNew:
		t.pool.slowDown(t.c)
	}
	failure := t.pool.fail(step, &refusal{reply})
	if failure.Away() && !stale {
		t.pool.away(failure, false)
	}
	return failure
}

// replaceConnection dials in place of a connection that went away. The slot
// stays ours.
func (t *Transaction) replaceConnection(ctx context.Context) *Error {
	old := t.c
	t.c = nil
	old.takeBack()
	_ = old.Close()
	c, failure := t.pool.connectWithin(ctx, t.patience, false)
	if failure != nil {
		t.pool.slots.release(old.holder)
		return failure
	}
	c.lendTo(ctx, old.holder)
	t.c, c.raises = c, old.raises
	if !c.capabilities.cover(old.capabilities) {
		return t.pool.fail(StepEnvelope, errLess) // the message was taken for what the old one offered
	}
	return nil
}

// sendEnvelope sends what is due of RSET, MAIL, RCPT and DATA in one flight.
func (t *Transaction) sendEnvelope(recipients []smtp.Recipient, withData bool) ([]smtp.Reply, error) {
	t.flight.start()
	mail := t.phase == phaseNew
	reset := mail && t.c.needsReset
	if reset {
		t.flight.add(append(t.flight.line(), "RSET\r\n"...))
	}
	if mail {
		t.flight.add(appendMail(t.flight.line(), t.reversePath, t.params, t.c.capabilities))
	}
	for _, rcpt := range recipients {
		t.flight.add(appendRcpt(t.flight.line(), rcpt, t.c.capabilities))
	}
	if withData {
		t.flight.add(append(t.flight.line(), dataCommand...))
	}
	replies, err := t.flight.send(t.c, within(t.pool.options.Timeouts.Command, t.patience))
	if err != nil {
		return nil, err
	}
	if reset {
		if !replies[0].Positive() {
			return nil, &refusal{replies[0]}
		}
		t.c.needsReset, replies = false, replies[1:]
	}
	if !withData {
		return t.envelopeReplies(mail, replies)
	}
	last := len(replies) - 1
	taken, err := t.envelopeReplies(mail, replies[:last])
	if err == nil {
		t.dataReply(replies[last])
	}
	return taken, err
}

// envelopeReplies reads the replies to MAIL, if it was in the flight, and RCPT.
func (t *Transaction) envelopeReplies(mail bool, replies []smtp.Reply) ([]smtp.Reply, error) {
	if mail {
		return t.mailReply(replies[0], replies[1:])
	}
	return t.asRecipientReplies(replies)
}

// dataReply is the answer to a DATA that went with the recipients. Where it is
// no, the relay keeps the envelope. Where it is yes for a recipient of whom it
// said no, only closing takes it back: RFC 2920 section 3.1 would send an empty
// message.
func (t *Transaction) dataReply(reply smtp.Reply) {
	switch {
	case reply.Code == 354 && t.accepted:
		t.phase = phaseData
	case reply.Code == 354, aboutUs(reply) && t.accepted:
		t.phase = phaseBroken
	case t.accepted && (reply.Transient() || reply.Permanent()):
		t.body.reply = &reply
	}
}

func (t *Transaction) mailReply(mail smtp.Reply, rest []smtp.Reply) ([]smtp.Reply, error) {
	t.c.needsReset = true // until the end of data is answered
	switch {
	case aboutUs(mail):
		return nil, &refusal{mail}
	case !mail.Positive():
		if complains(mail) {
			t.pool.slowDown(t.c)
		}
		t.phase, t.refusal = phaseRefused, mail
		return slices.Repeat([]smtp.Reply{mail}, len(rest)), nil
	}
	t.phase = phaseEnvelope
	return t.asRecipientReplies(rest)
}

// asRecipientReplies refuses what is no answer to RCPT.
func (t *Transaction) asRecipientReplies(replies []smtp.Reply) ([]smtp.Reply, error) {
	for _, reply := range replies {
		if complainsAtRcpt(reply, !t.accepted) {
			t.pool.slowDown(t.c)
		}
		if aboutUs(reply) {
			return nil, &refusal{reply}
		}
		t.accepted = t.accepted || reply.Positive()
	}
	return replies, nil
}

// Abort gives the transaction up. It may be called after Finish, and does
// nothing then.
func (t *Transaction) Abort() {
	t.body.free()
	c := t.c
	t.c = nil
	switch {
	case c == nil:
	case t.phase == phaseData || t.phase == phaseBroken:
		// Data cannot be taken back: only a closed connection says that there
		// is no message (RFC 5321 section 4.1.1.4).
		t.pool.discard(c)
	default:
		t.pool.giveBack(c)
	}
	t.phase = phaseEnded
}

// end gives the connection back after the relay's reply to the message.
func (t *Transaction) end(reply smtp.Reply) {
	if reply.Code != 421 {
		t.pool.answered(t.c, reply.Positive())
	}
	if reply.Code == 421 || len(t.c.reader.Unread()) > 0 {
		t.phase = phaseBroken
	} else if t.phase == phaseData {
		// After a BDAT that it refused the relay may wait for RSET (RFC 3030 section 2).
		t.phase, t.c.needsReset = phaseEnded, t.body.whole && !reply.Positive()
	}
	t.Abort()
}

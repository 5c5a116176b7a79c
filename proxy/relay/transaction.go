package relay

import (
	"context"
	"errors"
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
	phase       phase
	flight      flight
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
	c.uses++
	t := &Transaction{pool: p, c: c, reversePath: reversePath, params: params}
	t.flight.refusal = smtp.NewReply(451, smtp.EnhancedCode{4, 4, 2}, "the relay did not take the sender")
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
	replies := make([]smtp.Reply, 0, len(recipients))
	for len(recipients) > 0 {
		n := min(len(recipients), maxFlight)
		part, err := t.recipientFlight(ctx, recipients[:n])
		if err != nil {
			t.phase = phaseBroken
			return nil, err
		}
		replies = append(replies, part...)
		recipients = recipients[n:]
	}
	return replies, nil
}

func (t *Transaction) recipientFlight(ctx context.Context, recipients []smtp.Recipient) ([]smtp.Reply, error) {
	if t.phase == phaseRefused {
		return repeat(t.flight.refusal, len(recipients)), nil
	}
	kept := t.phase == phaseNew && t.c.kept
	replies, err := t.sendEnvelope(recipients)
	if err != nil && kept && ctx.Err() == nil {
		// The relay closed a kept connection: nothing of the message was
		// handed over, so a new one may try.
		if err = t.replaceConnection(ctx); err != nil {
			return nil, err
		}
		replies, err = t.sendEnvelope(recipients)
	}
	if err != nil {
		return nil, t.pool.fail(StepEnvelope, err)
	}
	return replies, nil
}

func (t *Transaction) replaceConnection(ctx context.Context) error {
	t.pool.discard(t.c)
	t.c = nil
	c, err := t.pool.lend(ctx, true)
	if err != nil {
		return err
	}
	c.uses++
	t.c = c
	return nil
}

// sendEnvelope sends what is due of RSET, MAIL and RCPT in one flight.
func (t *Transaction) sendEnvelope(recipients []smtp.Recipient) ([]smtp.Reply, error) {
	t.flight.start()
	reset, mail := t.c.needsReset, t.phase == phaseNew
	if reset {
		t.flight.add(append(t.flight.line(), "RSET\r\n"...))
	}
	if mail {
		t.flight.add(appendMail(t.flight.line(), t.reversePath, t.params, t.c.capabilities))
	}
	for _, rcpt := range recipients {
		t.flight.add(appendRcpt(t.flight.line(), rcpt, t.c.capabilities))
	}
	replies, err := t.flight.send(t.c, t.pool.options.Timeouts.Command)
	if err != nil {
		return nil, err
	}
	if reset {
		if !replies[0].Positive() {
			return nil, &refusal{replies[0]}
		}
		t.c.needsReset, replies = false, replies[1:]
	}
	if mail {
		return t.mailReply(replies[0], replies[1:])
	}
	return asRecipientReplies(replies)
}

func (t *Transaction) mailReply(mail smtp.Reply, rest []smtp.Reply) ([]smtp.Reply, error) {
	t.c.needsReset = true // until the end of data is answered
	switch {
	case mail.Code == 421, mail.Intermediate():
		return nil, &refusal{mail}
	case !mail.Positive():
		t.phase, t.flight.refusal = phaseRefused, mail
		return repeat(mail, len(rest)), nil
	}
	t.phase = phaseEnvelope
	return asRecipientReplies(rest)
}

// asRecipientReplies refuses what is no answer to RCPT. A 421 is the relay's
// farewell to us, not ours to the client (RFC 5321 section 3.8).
func asRecipientReplies(replies []smtp.Reply) ([]smtp.Reply, error) {
	for _, reply := range replies {
		if reply.Code == 421 || reply.Intermediate() {
			return nil, &refusal{reply}
		}
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
	if reply.Code == 421 || len(t.c.reader.Unread()) > 0 {
		t.phase = phaseBroken
	} else if t.phase == phaseData {
		t.phase, t.c.needsReset = phaseEnded, false
	}
	t.Abort()
}

func repeat(reply smtp.Reply, n int) []smtp.Reply {
	replies := make([]smtp.Reply, n)
	for i := range replies {
		replies[i] = reply
	}
	return replies
}

// appendMail writes MAIL with the parameters that this relay knows.
func appendMail(dst []byte, reversePath string, params smtp.MailParams, caps Capabilities) []byte {
	dst = append(dst, "MAIL FROM:<"...)
	dst = append(dst, reversePath...)
	dst = append(dst, '>')
	if params.Body != "" && caps.EightBitMIME {
		dst = append(append(dst, " BODY="...), params.Body...)
	}
	if params.UTF8 {
		dst = append(dst, " SMTPUTF8"...)
	}
	if params.Ret != "" && caps.DSN {
		dst = append(append(dst, " RET="...), params.Ret...)
	}
	if params.EnvID != "" && caps.DSN {
		dst = append(append(dst, " ENVID="...), params.EnvID...)
	}
	return append(dst, '\r', '\n')
}

func appendRcpt(dst []byte, rcpt smtp.Recipient, caps Capabilities) []byte {
	dst = append(dst, "RCPT TO:<"...)
	dst = append(dst, rcpt.Address...)
	dst = append(dst, '>')
	if rcpt.Params.Notify != "" && caps.DSN {
		dst = append(append(dst, " NOTIFY="...), rcpt.Params.Notify...)
	}
	if rcpt.Params.ORcpt != "" && caps.DSN {
		dst = append(append(dst, " ORCPT="...), rcpt.Params.ORcpt...)
	}
	return append(dst, '\r', '\n')
}

// flight is the commands that go out together.
type flight struct {
	commands []byte
	ends     []int      // of each command, in commands
	refusal  smtp.Reply // of MAIL
}

func (f *flight) start() { f.commands, f.ends = f.commands[:0], f.ends[:0] }

// line is where the next command is appended; add takes the result.
func (f *flight) line() []byte { return f.commands }

func (f *flight) add(commands []byte) {
	f.commands = commands
	f.ends = append(f.ends, len(commands))
}

// send writes the commands, at once where the relay allows it (RFC 2920), and
// reads a reply for each. More replies than commands is an error: the next
// transaction would take them for its own.
func (f *flight) send(c *conn, timeout time.Duration) ([]smtp.Reply, error) {
	_ = c.SetDeadline(time.Now().Add(timeout))
	replies := make([]smtp.Reply, 0, len(f.ends))
	from := 0
	for i, end := range f.ends {
		if c.capabilities.Pipelining {
			end = len(f.commands)
		}
		if from < end {
			if _, err := c.Write(f.commands[from:end]); err != nil {
				return nil, err
			}
			from = end
		}
		reply, err := smtp.ReadReply(c.reader)
		if err != nil {
			return nil, closedIfEOF(err)
		}
		replies = append(replies, reply)
		if i == len(f.ends)-1 && len(c.reader.Unread()) > 0 {
			return nil, errExtraReply
		}
	}
	return replies, nil
}

var errExtraReply = errors.New("the relay sent more replies than there were commands")

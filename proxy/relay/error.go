package relay

import (
	"errors"
	"fmt"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Error is a relay that could not be used: it was not reached, not verified,
// refused us, or went away; Lent, it could not be used for one message. The
// relay's word on a message is a Reply, never an Error.
type Error struct {
	Relay string // its name
	Step  Step
	// Unknown says that the end of data was sent and its reply never came, so
	// that the relay may have the message (RFC 5321 section 4.5.3.2.6, RFC 1047).
	Unknown bool
	Cause   error
	crowded bool // others of our connections stay, and this one may wait for one of them
}

// Step is where in a connection's life something failed.
type Step string

// The steps, as they stand in logs and events.
const (
	StepBreaker  Step = "leaving alone for now the relay"
	StepPace     Step = "waiting for a turn at the pace of the relay"
	StepResolve  Step = "resolving the relay's name"
	StepConnect  Step = "connecting to the relay"
	StepGreeting Step = "reading the relay's greeting"
	StepHello    Step = "greeting the relay"
	StepTLS      Step = "starting TLS with the relay"
	StepAuth     Step = "logging in to the relay"
	StepTurn     Step = "waiting for the sender's own turn at the relay"
	StepWait     Step = "waiting for a free connection to the relay"
	StepEnvelope Step = "handing the envelope to the relay"
	StepDenied   Step = "sending this message under our login to the relay"
	StepData     Step = "sending data to the relay"
	StepDataEnd  Step = "waiting for the relay's reply to the end of data"
)

func (e *Error) Error() string { return fmt.Sprintf("%s %q: %v", e.Step, e.Relay, e.Cause) }

// Lent says that the failure is this transaction's: its connection was lost, or
// the relay does not take it from this sender. Another transaction may go well.
func (e *Error) Lent() bool {
	switch e.Step {
	case StepTurn, StepDenied, StepEnvelope, StepData, StepDataEnd:
		return true
	}
	return false
}

// Away says that no transaction can be begun with the relay now, whatever the
// message: another relay may take it, or the queue later.
func (e *Error) Away() bool { return !e.Lent() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// ClientReply is what the client is told: always transient, since another time
// or another administrator may change it, and never with an inner host, an
// address or the relay's words to us about our own login.
func (e *Error) ClientReply() smtp.Reply {
	switch e.Step {
	case StepBreaker: // as it was told to those who found out
		var failure *Error
		if errors.As(e.Cause, &failure) {
			return failure.ClientReply()
		}
	case StepPace, StepTurn:
		return smtp.NewReply(451, smtp.EnhancedCode{4, 4, 5}, "the relay takes messages slowly now, try again soon")
	case StepTLS:
		return smtp.NewReply(451, smtp.EnhancedCode{4, 7, 5}, "the relay's TLS could not be verified; the administrator of this host can see why")
	case StepAuth, StepHello:
		return smtp.NewReply(451, smtp.EnhancedCode{4, 3, 5}, "the relay does not accept this host now; the administrator of this host can see why")
	case StepDenied:
		return smtp.NewReply(451, smtp.EnhancedCode{4, 7, 0}, "the relay does not accept this message from this host now; the administrator of this host can see why")
	case StepWait:
		return smtp.NewReply(451, smtp.EnhancedCode{4, 4, 5}, "all connections to the relay are busy, try again soon")
	case StepEnvelope, StepData, StepDataEnd:
		return smtp.NewReply(451, smtp.EnhancedCode{4, 4, 2}, "the connection to the relay was lost, try again")
	}
	return smtp.NewReply(451, smtp.EnhancedCode{4, 4, 1}, "the relay cannot be reached, try again later")
}

// aboutUs says that a reply is about our connection or our login and not about
// the client's message: 220, 221 and 235 answer what we did not ask, 421 closes
// the connection (RFC 5321 section 3.8), 503 is about the order of commands, 530,
// 535 and 538 ask for or refuse a login (RFC 4954 section 6), and 3yz answers
// nothing that we sent.
func aboutUs(reply smtp.Reply) bool {
	switch reply.Code {
	case 220, 221, 235, 421, 503, 530, 535, 538:
		return true
	}
	return reply.Intermediate()
}

// Transient says that a reply to MAIL, RCPT or data is no last word on a
// message: it is a 4yz, or about us and then not about the message at all.
func Transient(reply smtp.Reply) bool { return reply.Transient() || aboutUs(reply) }

// ForClient makes the relay's reply one that the client can be given. What is
// about us becomes transient: neither the client nor its message is at fault.
func ForClient(reply smtp.Reply) smtp.Reply {
	if aboutUs(reply) {
		return (&Error{Step: stepOf(reply)}).ClientReply()
	}
	if reply.Enhanced == (smtp.EnhancedCode{}) {
		reply.Enhanced[0] = reply.Code / 100 // RFC 2034 section 4: each reply has one
	}
	return reply
}

// stepOf is the step that a reply about us belongs to.
func stepOf(reply smtp.Reply) Step {
	switch reply.Code {
	case 530, 535, 538:
		return StepAuth
	}
	return StepEnvelope
}

// turnedAway says that the relay closed the connection with 421, which is how
// it says that there are too many of them, or that it is closing down.
func turnedAway(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.reply.Code == 421
}

// refusal is a reply that ended an attempt, as the cause of an Error.
type refusal struct{ reply smtp.Reply }

func (r *refusal) Error() string { return fmt.Sprintf("relay replied %.200q", r.reply.String()) }

var (
	errNoSTARTTLS  = errors.New("the relay does not offer STARTTLS")
	errNoAuth      = errors.New("the relay offers no AUTH mechanism that we may use")
	errPin         = errors.New("no public key of the relay's chain is pinned")
	errEarly       = errors.New("the relay sent something before the TLS handshake")
	errClosed      = errors.New("the relay closed the connection")
	errNoEndpoints = errors.New("the relay's name has no address")
	errAlone       = errors.New("the relay has failed too often")
	errPaced       = errors.New("others wait for their turn already")
	errSlowed      = errors.New("the relay takes this sender's messages slowly now, and those of others")
	errBusy        = errors.New("all connections were busy for too long")
	errExtraReply  = errors.New("the relay sent more replies than there were commands")
	errLess        = errors.New("the relay offers less than it did before")
	errDataBegun   = errors.New("the relay waits for data or is gone")
)

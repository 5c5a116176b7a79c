package dsn

import (
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Action is what became of a message for one recipient (RFC 3464 section 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"    // it is not tried again
	Delayed   Action = "delayed"   // it is tried again
	Relayed   Action = "relayed"   // it went to a system that confirms nothing
	Delivered Action = "delivered" // it is in the mailbox
	Expanded  Action = "expanded"  // it was delivered to a list, which goes on from there
)

// Wanted says whether a recipient's NOTIFY parameter, empty if there was none,
// asks for a notice of that action (RFC 3461 section 4.1). Without NOTIFY
// failures are told and nothing else: notices of delay would then be at our choice,
// and who did not ask for them does not expect them.
func Wanted(notify string, action Action) bool {
	words := strings.Split(strings.ToUpper(notify), ",")
	switch action {
	case Failed:
		return notify == "" || slices.Contains(words, "FAILURE")
	case Delayed:
		return slices.Contains(words, "DELAY")
	case Relayed, Delivered, Expanded:
		return slices.Contains(words, "SUCCESS")
	}
	return false
}

// MaxReturned is the size in octets up to which a message goes back whole with
// its notice, and up to which its header section does.
const MaxReturned = 100 << 10

// HeadersOnly says whether a notice of failure returns the header section alone
// for the RET parameter, empty if there was none, and the size of the message.
// Which of the two no RET means is ours to choose (RFC 3461 section 4.3).
func HeadersOnly(ret string, size int64) bool {
	return !strings.EqualFold(ret, "FULL") || size > MaxReturned
}

// Heading is what every mail of ours begins with. It comes from the
// configuration, but for To: what is not valid in it is an error.
type Heading struct {
	Host string    // our name, or an address literal: the Reporting-MTA, and the right side of the Message-ID
	From string    // mailbox of the From field; empty is postmaster@Host
	To   string    // the only recipient: local@domain
	ID   string    // letters and digits that no other mail of ours has: a new transaction id
	Date time.Time // now
}

// Notice is one notice about one message, for some of its recipients.
type Notice struct {
	Heading // To is the message's reverse-path

	EnvID   string    // as sent, xtext
	Ret     string    // as sent: "", "FULL" or "HDRS"
	Txn     string    // the message's transaction id, for people and as Final-Log-ID
	Arrival time.Time // when we took the message
	UTF8    bool      // the message came with SMTPUTF8

	// SevenBit says that the notice may meet a relay without 8BITMIME. A
	// message with octets above 127 is then returned as header section alone.
	SevenBit bool

	// Recipients need not all want a notice: Compose leaves out who does not.
	Recipients []Recipient

	// Original is the message from its first octet, without transparency; nil
	// returns nothing of it. At most MaxReturned+1 octets are read.
	Original     io.Reader
	OriginalSize int64 // octets
}

// Recipient is what became of the message for one recipient.
type Recipient struct {
	Address string // forward-path, without angle brackets
	ORcpt   string // as sent: addr-type;xtext
	Notify  string // as sent, or empty
	Action  Action

	// Status is the reason in numbers. If it is zero or does not suit the
	// action, it is taken from Diagnostic, else it is that of the action alone.
	// A message that became too old has 4.4.7, with the last reply.
	Status smtp.EnhancedCode
	// Diagnostic is the last reply about the recipient, on one line with its
	// code, or else our own words on why.
	Diagnostic  string
	RemoteMTA   string // name of the host that said it; empty if nobody did
	LastAttempt time.Time
	RetryUntil  time.Time // for Delayed
}

// Why Compose makes no mail.
var (
	// ErrNullReversePath: a notice never answers a notice (RFC 5321 section 4.5.5).
	ErrNullReversePath = errors.New("null reverse-path: no notice may be sent")
	// ErrUnwanted: no recipient has an action of which its NOTIFY wants to hear.
	ErrUnwanted = errors.New("no recipient wants a notice")
)

// Compose makes the mail. The error is ErrNullReversePath, ErrUnwanted, one that
// names what is not valid in Heading, or one of reading Original.
func (n *Notice) Compose() (*Message, error) {
	if n.To == "" {
		return nil, ErrNullReversePath
	}
	var told []Recipient
	for _, r := range n.Recipients {
		if Wanted(r.Notify, r.Action) {
			r.Status = r.status()
			told = append(told, r)
		}
	}
	if len(told) == 0 {
		return nil, ErrUnwanted
	}
	l, err := newLetter(n.Heading)
	if err != nil {
		return nil, err
	}
	returned, err := n.readOriginal(told)
	if err != nil {
		return nil, err
	}
	l.header(subject(told), "auto-replied") // RFC 3834 section 5.1
	l.answers(returned.messageID)
	parts := []part{
		l.textPart("Notification", n.explain(told, returned)),
		n.statusPart(told, l.utf8),
	}
	if returned.kind != nothing {
		parts = append(parts, returned.part(l.utf8))
	}
	return l.report(parts), nil
}

// status is the code to print: Status, else that of the reply, else the
// action's own (RFC 3464 section 2.3.4).
func (r *Recipient) status() smtp.EnhancedCode {
	if r.Action.suits(r.Status) {
		return r.Status
	}
	if reply, ok := r.reply(); ok {
		if r.Action.suits(reply.Enhanced) {
			return reply.Enhanced
		}
		if code := (smtp.EnhancedCode{reply.Code / 100, 0, 0}); r.Action.suits(code) {
			return code
		}
	}
	switch r.Action {
	case Failed:
		return smtp.EnhancedCode{5, 0, 0}
	case Delayed:
		return smtp.EnhancedCode{4, 0, 0}
	}
	return smtp.EnhancedCode{2, 0, 0}
}

// suits says whether a code can stand beside the action. What failed may have
// a transient code: it was tried until it was too old.
func (a Action) suits(code smtp.EnhancedCode) bool {
	for _, n := range code {
		if n < 0 || n > 999 { // RFC 3463 section 2
			return false
		}
	}
	switch a {
	case Failed:
		return code[0] == 5 || code[0] == 4
	case Delayed:
		return code[0] == 4
	}
	return code[0] == 2
}

// reply reads Diagnostic as the reply that it may be.
func (r *Recipient) reply() (smtp.Reply, bool) {
	line := clean(r.Diagnostic, maxDiagnostic) + "\r\n"
	reply, err := smtp.ReadReply(smtp.NewReader(strings.NewReader(line), nil))
	return reply, err == nil
}

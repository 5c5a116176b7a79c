package filter

import (
	"io"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Action is what a filter wants done with a message.
type Action uint8

// The actions.
const (
	Accept     Action = iota // it goes on, changed or not
	Reject                   // Reply says so, 5yz
	Defer                    // Reply says so, 4yz
	Discard                  // the client hears 250 and nobody gets the message
	Quarantine               // accepted, changed or not, and put on hold
)

var actionNames = [...]string{"accept", "reject", "defer", "discard", "quarantine"}

// String is the name in lower case.
func (a Action) String() string { return actionNames[a] }

// Verdict is what became of a message. The zero value lets it pass unchanged.
type Verdict struct {
	Action Action
	Reply  smtp.Reply // of Reject and Defer: printable ASCII, never 421
	Reason string     // the filter's or ours, for logs and the hold; printable ASCII

	// Changed says that the message is another now, for Accept and Quarantine.
	Changed bool
	// Header is the whole header section where Changed, what ends it included.
	Header []byte
	// Body is the new one, of BodySize octets, to be closed; nil is the old one.
	Body     io.ReadCloser
	BodySize int64
}

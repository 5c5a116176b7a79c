package spool

import (
	"fmt"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Why a message is in hold, for Progress.Hold.
const (
	HoldNoRelay       = "no-relay"      // none is configured
	HoldPolicy        = "policy"        // policy refuses it by now
	HoldRule          = "rule"          // a rule says that a person shall look at it
	HoldUndeliverable = "undeliverable" // and nobody may be told
	HoldPerson        = "person"        // somebody put it there
	HoldLimit         = "limit"         // the sender's limit, whose ladder says hold
	HoldSuspended     = "suspended"     // the sender is suspended
	HoldFilter        = "filter"        // a content filter wants it looked at
)

// Progress is what was tried and what is left to do. Each try leaves a new one.
type Progress struct {
	Time     time.Time `json:"time"`          // when this was written
	Attempts int       `json:"attempts"`      // tries so far
	Next     time.Time `json:"next,omitzero"` // not before this; zero is at once
	Reason   string    `json:"reason,omitempty"`
	Relay    string    `json:"relay,omitempty"` // of the last try
	// Rest are the recipients that are not served yet. Nil is all of them,
	// as in the envelope.
	Rest []Due `json:"rest"`
	// PossibleDuplicate says that a try was cut short when the relay may
	// have had the message.
	PossibleDuplicate bool   `json:"possible_duplicate,omitempty"`
	DelayTold         bool   `json:"delay_told,omitempty"` // the delay notice is sent
	Hold              string `json:"hold,omitempty"`       // why it is in hold, Hold…
	// Released says that a person let it go: a decision to hold it does not hold
	// it again.
	Released bool `json:"released,omitempty"`
}

// Due is one recipient that is not served yet.
type Due struct {
	Rcpt  int    `json:"rcpt"`            // index in the envelope's recipients
	Reply string `json:"reply,omitempty"` // the relay's last words about it, one line
	// Failed says that it was refused for good, and that nobody could be told
	// of it yet.
	Failed bool `json:"failed,omitempty"`
}

// Item is a message without its text.
type Item struct {
	Entry
	State    State    `json:"state"`
	Progress Progress `json:"progress"`
	Stored   int64    `json:"stored"` // length of the file in bytes
}

// Recipients are those that are not served yet.
func (i Item) Recipients() []smtp.Recipient {
	if i.Progress.Rest == nil {
		return i.Envelope.Recipients
	}
	due := make([]smtp.Recipient, 0, len(i.Progress.Rest))
	for _, d := range i.Progress.Rest {
		due = append(due, i.Envelope.Recipients[d.Rcpt])
	}
	return due
}

// DueReplies are the relay's last words about each of Recipients, by the same
// index; empty where it has said nothing yet.
func (i Item) DueReplies() []string {
	if i.Progress.Rest == nil {
		return make([]string, len(i.Envelope.Recipients))
	}
	replies := make([]string, 0, len(i.Progress.Rest))
	for _, d := range i.Progress.Rest {
		replies = append(replies, d.Reply)
	}
	return replies
}

// checkRest makes sure that Rest names recipients of the envelope.
func (i Item) checkRest() error {
	for _, d := range i.Progress.Rest {
		if d.Rcpt < 0 || d.Rcpt >= len(i.Envelope.Recipients) {
			return fmt.Errorf("%w: the progress names recipient %d of %d", ErrDamaged, d.Rcpt, len(i.Envelope.Recipients))
		}
	}
	return nil
}

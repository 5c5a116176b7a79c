package dsn

import (
	"fmt"
	"strings"
)

// maxExplained is how many recipients the text for people names; the delivery
// report has all.
const maxExplained = 100

// subject names the first recipient, and the worst that happened.
func subject(told []Recipient) string {
	words := "Mail handed on"
	switch worst(told) {
	case Failed:
		words = "Mail not delivered"
	case Delayed:
		words = "Mail delayed"
	}
	words += ": " + clean(told[0].Address, maxAddress)
	if more := len(told) - 1; more > 0 {
		words += fmt.Sprintf(" and %d more", more)
	}
	return words
}

func worst(told []Recipient) Action {
	found := told[0].Action
	for _, r := range told {
		switch {
		case r.Action == Failed:
			return Failed
		case r.Action == Delayed:
			found = Delayed
		}
	}
	return found
}

// explain is the part for people (RFC 6522 section 3): who, what, why, and what
// to do.
func (n *Notice) explain(told []Recipient, returned original) string {
	var p prose
	p.paragraph("", "This is the mail system of "+n.Host+". "+opening(told))
	p.empty()
	n.describe(&p, returned)
	left := maxExplained
	for _, section := range []struct {
		action Action
		title  string
	}{
		{Failed, "Not delivered, and not tried again:"},
		{Delayed, "Not delivered yet:"},
		{Relayed, "Handed on to a system that confirms nothing:"},
		{Delivered, "Delivered:"},
		{Expanded, "Delivered to a list:"},
	} {
		left = explainSection(&p, section.action, section.title, told, left)
	}
	if left < 0 {
		p.line("And " + plural(-left, "more recipient") + ", named in the delivery report below.")
		p.empty()
	}
	n.closing(&p, returned)
	return p.String()
}

func opening(told []Recipient) string {
	switch worst(told) {
	case Failed:
		failed := 0
		for _, r := range told {
			if r.Action == Failed {
				failed++
			}
		}
		return "A message that you sent could not be delivered to " + plural(failed, "recipient") + "."
	case Delayed:
		return "A message that you sent is late. It is kept here and tried again; you need not send it again."
	}
	return "You asked to be told what becomes of a message. This is not about a failure."
}

// describe says which message it is.
func (n *Notice) describe(p *prose, returned original) {
	p.line("The message:")
	p.empty()
	detail := func(name, value string) {
		if value != "" {
			p.line("    " + name + strings.Repeat(" ", 13-len(name)) + value)
		}
	}
	detail("Subject", returned.subject)
	detail("Message-ID", returned.messageID)
	if !n.Arrival.IsZero() {
		detail("Accepted", n.Arrival.Format(dateForm))
	}
	detail("Transaction", clean(n.Txn, 100))
	p.empty()
}

// explainSection names the recipients of one action. left is how many may still be
// named; below zero it counts those that were not.
func explainSection(p *prose, action Action, title string, told []Recipient, left int) int {
	titled := false
	for i := range told {
		if told[i].Action != action {
			continue
		}
		if left--; left < 0 {
			continue
		}
		if !titled {
			p.line(title)
			p.empty()
			titled = true
		}
		told[i].explain(p)
		p.empty()
	}
	return left
}

func (r *Recipient) explain(p *prose) {
	const indent = "    "
	p.line("<" + clean(r.Address, maxAddress) + ">")
	if words := clean(r.Diagnostic, maxDiagnostic); strings.TrimSpace(words) != "" {
		if _, ok := r.reply(); ok && validHost(r.RemoteMTA) {
			words = r.RemoteMTA + " said: " + words
		}
		p.paragraph(indent, words)
	}
	if text := r.advice(); text != "" {
		p.paragraph(indent, text)
	}
	if r.Action == Delayed && !r.RetryUntil.IsZero() {
		p.paragraph(indent, "It is tried until "+r.RetryUntil.Format(dateForm)+"; then you are told that it failed.")
	}
}

// closing says whom to ask, and what follows.
func (n *Notice) closing(p *prose, returned original) {
	help := "If you need help, ask the administrator of " + n.Host
	if n.Txn != "" {
		help += " and name the transaction " + clean(n.Txn, 100)
	}
	p.paragraph("", help+".")
	p.empty()
	follows := "A delivery report for programs follows."
	switch returned.kind {
	case headerSection:
		follows = "A delivery report for programs follows, and the header section of your message."
	case wholeMessage:
		follows = "A delivery report for programs follows, and your message."
	}
	p.paragraph("", follows)
}

// advice says what the sender can do, where the status tells (RFC 3463, and
// the registry of RFC 5248).
func (r *Recipient) advice() string {
	switch r.Action {
	case Failed:
		return r.failureAdvice()
	case Relayed:
		return "You will hear no more from here, unless that system reports a failure."
	}
	return ""
}

func (r *Recipient) failureAdvice() string {
	subject, detail := r.Status[1], r.Status[2]
	at := func(s int, details ...int) bool {
		for _, d := range details {
			if subject == s && detail == d {
				return true
			}
		}
		return false
	}
	switch {
	case at(1, 1, 3, 6):
		return "There is no such address there, or no longer. Check how it is spelt."
	case at(1, 2, 10), at(4, 4):
		return "The domain of the address takes no mail, or does not exist. Check how it is spelt."
	case at(2, 1):
		return "The mailbox is closed. Reach the recipient in another way."
	case at(2, 2):
		return "The mailbox is full. Send the message again when the recipient has made room."
	case at(2, 3), at(3, 4):
		return "The message is too large for them. Send less at a time, or a link."
	case at(4, 7):
		return "It was tried again and again until it was too old. Send it anew if it still matters."
	case at(4, 6):
		return "The message goes in circles. The administrator of the recipient's domain must mend that."
	case at(6, 7):
		return "A system on the way cannot carry addresses in this script. Use another address of the recipient, if there is one."
	case subject == 6:
		return "A system on the way cannot carry a message of this form. Send it in a simpler one."
	case subject == 7:
		return "It was refused by a rule; the words above say by which. Sending it again unchanged will not help."
	case r.Status[0] == 4:
		return "The trouble may pass. Send it again later if it still matters."
	}
	return "Sending it again unchanged will not help."
}

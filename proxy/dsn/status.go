package dsn

import (
	"strings"
	"time"
)

// Octets of what is quoted in a status field or beside it.
const (
	maxDiagnostic = 1500
	maxEnvID      = 300
)

// statusPart is what programs read (RFC 3464 section 2). It becomes RFC 6533's
// message/global-delivery-status where an address or a reply needs it and the
// message came with SMTPUTF8; else what is not ASCII is escaped.
func (n *Notice) statusPart(told []Recipient, utf8 bool) part {
	p := part{description: "Delivery report", contentType: "message/delivery-status"}
	if n.UTF8 {
		p.body = n.status(told, true)
		if !isASCII(string(p.body)) {
			p.contentType = "message/global-delivery-status"
			return encodePart(p, utf8)
		}
	}
	p.body, p.encoding = n.status(told, false), sevenBit // RFC 3464 section 2.1.1 allows no other
	return p
}

// status writes the fields: a group for the message, then one for each
// recipient, empty lines between them.
func (n *Notice) status(told []Recipient, unicode bool) []byte {
	var b []byte
	if n.EnvID != "" { // RFC 3464 section 2.2.1
		b = appendWhole(b, "Original-Envelope-Id", printable(clean(decodeXtext(n.EnvID), maxEnvID), unicode))
	}
	b = appendField(b, "Reporting-MTA", "dns; "+n.Host)
	b = appendDate(b, "Arrival-Date", n.Arrival)
	for i := range told {
		b = append(b, "\r\n"...)
		b = n.appendRecipient(b, &told[i], unicode)
	}
	return b
}

// appendRecipient is RFC 3464 section 2.3.
func (n *Notice) appendRecipient(b []byte, r *Recipient, unicode bool) []byte {
	if address := originalAddress(r.ORcpt, unicode); address != "" { // RFC 3461 section 6.3
		b = appendWhole(b, "Original-Recipient", address)
	}
	b = appendWhole(b, "Final-Recipient", typedAddress(r.Address, unicode))
	b = appendField(b, "Action", string(r.Action))
	b = appendField(b, "Status", r.Status.String())
	if validHost(r.RemoteMTA) {
		b = appendField(b, "Remote-MTA", "dns; "+r.RemoteMTA)
	}
	if words := clean(r.Diagnostic, maxDiagnostic); strings.TrimSpace(words) != "" {
		// The type says whose words they are: a reply, or our own (section 2.3.6).
		kind := "x-smtpwall; "
		if _, ok := r.reply(); ok {
			kind = "smtp; "
		}
		b = appendField(b, "Diagnostic-Code", kind+printable(words, unicode))
	}
	b = appendDate(b, "Last-Attempt-Date", r.LastAttempt)
	if id := clean(n.Txn, 100); id != "" {
		b = appendField(b, "Final-Log-ID", printable(id, unicode))
	}
	if r.Action == Delayed {
		b = appendDate(b, "Will-Retry-Until", r.RetryUntil)
	}
	return b
}

func appendDate(b []byte, name string, date time.Time) []byte {
	if date.IsZero() {
		return b
	}
	return appendField(b, name, date.Format(dateForm))
}

// printable is clean text as a part may hold it.
func printable(text string, unicode bool) string {
	if unicode {
		return text
	}
	return escapeUnicode(text, false)
}

package audit

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/smtpwall/smtpwall/internal/logfields"
)

// timeFormat is RFC 3339 with milliseconds always written, so that lines sort.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// ellipsis marks a string that was cut at MaxText.
const ellipsis = "…"

// AppendJSON appends e as one JSON object, without a line feed, and returns the
// longer slice. The result is ASCII control free whatever the strings hold.
func (e *Event) AppendJSON(dst []byte) []byte {
	j := encoder{buf: append(dst, '{')}
	j.time(logfields.Time, e.Time)
	j.text(logfields.Kind, string(e.Kind))
	e.appendPeer(&j)
	e.appendEnvelope(&j)
	e.appendResult(&j)
	return append(j.buf, '}')
}

// MarshalJSON is AppendJSON for encoding/json.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

func (e *Event) appendPeer(j *encoder) {
	j.text(logfields.Session, e.Session)
	j.text(logfields.Txn, e.Txn)
	j.text(logfields.Listener, e.Listener)
	if uid, known := e.PeerUID.Get(); known {
		j.key(logfields.PeerUID)
		j.buf = strconv.AppendUint(j.buf, uint64(uid), 10)
	}
	j.text(logfields.PeerUser, e.PeerUser)
	j.number(logfields.PeerPID, int64(e.PeerPID))
	j.text(logfields.PeerExe, e.PeerExe)
	j.text(logfields.PeerUnit, e.PeerUnit)
	j.text(logfields.PeerContainer, e.PeerContainer)
	j.address(logfields.Source, e.Source)
	j.address(logfields.Destination, e.Destination)
	j.address(logfields.OrigDst, e.OrigDst)
}

func (e *Event) appendEnvelope(j *encoder) {
	j.text(logfields.TLSVersion, e.TLSVersion)
	j.text(logfields.TLSName, e.TLSName)
	j.text(logfields.ClientCertificate, e.ClientCertificate)
	j.text(logfields.AuthID, e.AuthID)
	j.text(logfields.ReversePath, e.ReversePath)
	j.recipients(logfields.Recipients, e.Recipients)
	j.number(logfields.RcptCount, int64(e.RcptCount))
	j.number(logfields.Size, e.Size)
}

func (e *Event) appendResult(j *encoder) {
	j.text(logfields.Decision, e.Decision)
	j.text(logfields.Reason, e.Reason)
	j.text(logfields.Rule, e.Rule)
	j.text(logfields.Identity, e.Identity)
	j.text(logfields.Limit, e.Limit)
	if !e.Until.IsZero() {
		j.time(logfields.Until, e.Until)
	}
	j.text(logfields.By, e.By)
	j.text(logfields.Relay, e.Relay)
	j.text(logfields.RelayReply, e.RelayReply)
	j.number(logfields.ReplyCode, int64(e.ReplyCode))
	j.text(logfields.EnhancedCode, e.EnhancedCode)
	j.text(logfields.Custody, e.Custody)
	j.text(logfields.Outcome, e.Outcome)
	j.number(logfields.Attempt, int64(e.Attempt))
	if !e.Next.IsZero() {
		j.time(logfields.Next, e.Next)
	}
	if e.PossibleDuplicate {
		j.key(logfields.PossibleDuplicate)
		j.buf = append(j.buf, "true"...)
	}
	if e.Count != 0 {
		j.key(logfields.Count)
		j.buf = strconv.AppendUint(j.buf, e.Count, 10)
	}
	j.millis(logfields.DurationMS, e.Duration)
	j.text(logfields.Error, e.Error)
}

// encoder appends the members of one object; a zero value is left out.
type encoder struct{ buf []byte }

// key begins a member. Keys are our own constants and need no escaping.
func (j *encoder) key(name string) {
	if last := j.buf[len(j.buf)-1]; last != '{' {
		j.buf = append(j.buf, ',')
	}
	j.buf = append(j.buf, '"')
	j.buf = append(j.buf, name...)
	j.buf = append(j.buf, '"', ':')
}

func (j *encoder) text(name, value string) {
	if value == "" {
		return
	}
	j.key(name)
	j.buf = appendString(j.buf, value)
}

func (j *encoder) number(name string, value int64) {
	if value == 0 {
		return
	}
	j.key(name)
	j.buf = strconv.AppendInt(j.buf, value, 10)
}

func (j *encoder) time(name string, value time.Time) {
	j.key(name)
	j.buf = append(j.buf, '"')
	j.buf = value.UTC().AppendFormat(j.buf, timeFormat)
	j.buf = append(j.buf, '"')
}

// millis writes milliseconds with three decimals: a hand-over takes well
// under one.
func (j *encoder) millis(name string, value time.Duration) {
	if value <= 0 {
		return
	}
	j.key(name)
	j.buf = strconv.AppendFloat(j.buf, float64(value.Microseconds())/1000, 'f', -1, 64)
}

func (j *encoder) address(name string, value netip.AddrPort) {
	if !value.IsValid() {
		return
	}
	j.key(name)
	if value.Addr().Zone() != "" { // an interface name is not ours to vouch for
		j.buf = appendString(j.buf, value.String())
		return
	}
	j.buf = append(j.buf, '"')
	j.buf = value.AppendTo(j.buf)
	j.buf = append(j.buf, '"')
}

func (j *encoder) recipients(name string, list []Recipient) {
	if len(list) == 0 {
		return
	}
	j.key(name)
	j.buf = append(j.buf, '[')
	for i, r := range list[:min(len(list), MaxRecipients)] {
		if i > 0 {
			j.buf = append(j.buf, ',')
		}
		j.buf = append(j.buf, '{')
		j.key(logfields.Address)
		j.buf = appendString(j.buf, r.Address)
		j.number(logfields.ReplyCode, int64(r.ReplyCode))
		j.buf = append(j.buf, '}')
	}
	j.buf = append(j.buf, ']')
}

// appendString appends s as a JSON string: cut at MaxText, invalid UTF-8
// replaced, and everything that could steer a terminal or end a line escaped.
func appendString(dst []byte, s string) []byte {
	s, cut := bound(s)
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		size := 1
		dst = append(dst, s[start:i]...)
		if c < utf8.RuneSelf {
			dst = appendEscape(dst, rune(c))
		} else {
			var r rune
			r, size = utf8.DecodeRuneInString(s[i:])
			dst = appendRune(dst, r)
		}
		i += size
		start = i
	}
	dst = append(dst, s[start:]...)
	if cut {
		dst = append(dst, ellipsis...)
	}
	return append(dst, '"')
}

// bound cuts s at MaxText octets, between two characters.
func bound(s string) (string, bool) {
	if len(s) <= MaxText {
		return s, false
	}
	end := MaxText
	for end > MaxText-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end], true
}

// appendRune writes a character outside ASCII. An invalid octet arrives as
// U+FFFD and is written as that.
func appendRune(dst []byte, r rune) []byte {
	if steers(r) {
		return appendEscape(dst, r)
	}
	return utf8.AppendRune(dst, r)
}

// steers tells the characters outside ASCII that change how the rest of a line
// is shown: C1 controls (0x9b is CSI to some terminals), separators of lines,
// and marks of writing direction (CVE-2021-42574).
func steers(r rune) bool {
	switch {
	case r < 0xa0, r == 0x061c, r == 0xfeff:
		return true
	case r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	}
	return false
}

const hexDigits = "0123456789abcdef"

// appendEscape writes r, which is in the basic plane, by RFC 8259 section 7.
func appendEscape(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

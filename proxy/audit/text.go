package audit

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// shownRecipients is how many Text lists before it only counts.
const shownRecipients = 3

// Text is an event for people: what happened on the first line, who did it on a
// second, indented one. Whatever came from the wire is quoted unless it is
// plain visible ASCII, so that it cannot steer the terminal.
func Text(event Event) string {
	var b strings.Builder
	b.WriteString(event.Time.UTC().Format(timeFormat))
	b.WriteByte(' ')
	switch event.Kind {
	case KindTransaction:
		b.WriteString(transactionText(&event))
	case KindDelivery:
		b.WriteString(deliveryText(&event))
	case KindAttempt:
		b.WriteString(attemptText(&event))
	default:
		b.WriteString(otherText(&event))
	}
	if who := peerText(&event); who != "" {
		b.WriteString("\n    ")
		b.WriteString(who)
	}
	return b.String()
}

func transactionText(e *Event) string {
	var p phrases
	p.add(orElse(e.Decision, "transaction"), " ", pathsText(e))
	if e.Size > 0 {
		p.add(sizeText(e.Size))
	}
	if e.Relay != "" {
		p.add("relay ", visible(e.Relay))
	}
	if e.ReplyCode != 0 {
		p.add(replyText(e))
	}
	if e.Custody != "" {
		p.add("custody ", visible(e.Custody))
	}
	if e.PossibleDuplicate {
		p.add("possible duplicate")
	}
	p.addResult(e)
	return p.String()
}

func deliveryText(e *Event) string {
	var p phrases
	what := "delivery"
	if e.Attempt > 0 {
		what += " " + strconv.Itoa(e.Attempt)
	}
	p.add(what, " ", pathsText(e))
	if e.Relay != "" {
		p.add("relay ", visible(e.Relay))
	}
	if e.RelayReply != "" {
		p.add(strconv.Quote(e.RelayReply))
	}
	p.add("custody ", visible(orElse(e.Custody, "unknown")))
	if e.PossibleDuplicate {
		p.add("possible duplicate")
	}
	if !e.Next.IsZero() {
		p.add("next try " + e.Next.UTC().Format(timeFormat))
	}
	p.addResult(e)
	return p.String()
}

func attemptText(e *Event) string {
	var p phrases
	what := orElse(e.Outcome, "attempt")
	if e.Count > 1 {
		what += " " + strconv.FormatUint(e.Count, 10) + " attempts"
	}
	if e.Destination.IsValid() {
		what += " to " + visible(e.Destination.String())
	}
	p.add(what)
	p.addResult(e)
	return p.String()
}

// otherText serves what has no message and no destination, and kinds that this
// version does not know.
func otherText(e *Event) string {
	var p phrases
	p.add(orElse(string(e.Kind), "event"))
	if e.Outcome != "" {
		p.add(visible(e.Outcome))
	}
	if e.ReplyCode != 0 {
		p.add(replyText(e))
	}
	p.addResult(e)
	return p.String()
}

func pathsText(e *Event) string {
	var b strings.Builder
	b.WriteString(pathText(e.ReversePath))
	b.WriteString(" -> ")
	shown := e.Recipients[:min(len(e.Recipients), shownRecipients)]
	for i, r := range shown {
		if i > 0 {
			b.WriteString(" ")
		}
		b.WriteString(pathText(r.Address))
		if r.ReplyCode >= 400 {
			b.WriteString("(" + strconv.Itoa(r.ReplyCode) + ")")
		}
	}
	switch more := max(e.RcptCount, len(e.Recipients)) - len(shown); {
	case len(shown) == 0:
		b.WriteString("nobody")
	case more > 0:
		b.WriteString(" and " + strconv.Itoa(more) + " more")
	}
	return b.String()
}

// pathText sets an address in angle brackets; a path not known is "-".
func pathText(address string) string {
	switch address {
	case "":
		return "-"
	case NullReversePath:
		return NullReversePath
	}
	return "<" + visible(address) + ">"
}

func replyText(e *Event) string {
	text := strconv.Itoa(e.ReplyCode)
	if e.EnhancedCode != "" {
		text += " " + visible(e.EnhancedCode)
	}
	if e.RelayReply != "" {
		text += " " + strconv.Quote(e.RelayReply)
	}
	return text
}

func peerText(e *Event) string {
	var p phrases
	if who := userText(e); who != "" {
		p.add(who)
	}
	p.addNamed("unit ", e.PeerUnit)
	p.addNamed("container ", e.PeerContainer)
	if e.PeerPID != 0 {
		p.add("pid ", strconv.Itoa(e.PeerPID))
	}
	p.addNamed("exe ", e.PeerExe)
	p.addAddress("from ", e.Source)
	p.addAddress("meant for ", e.OrigDst)
	p.addNamed("listener ", e.Listener)
	p.addNamed("", e.TLSVersion)
	p.addNamed("auth ", e.AuthID)
	p.addNamed("certificate ", e.ClientCertificate)
	p.addNamed("session ", e.Session)
	p.addNamed("txn ", e.Txn)
	return p.String()
}

func userText(e *Event) string {
	if _, known := e.PeerUID.Get(); !known {
		if !e.Kind.isSomebodys() {
			return ""
		}
		return "uid unknown"
	}
	text := "uid " + e.PeerUID.String()
	if e.PeerUser != "" {
		text += " (" + visible(e.PeerUser) + ")"
	}
	return text
}

// isSomebodys says that an event of the kind has a peer, known or not.
func (k Kind) isSomebodys() bool {
	switch k {
	case KindDrift, KindMode, KindSuspension, KindBreaker:
		return false
	}
	return true
}

// phrases are joined by commas.
type phrases struct{ b strings.Builder }

func (p *phrases) String() string { return p.b.String() }

func (p *phrases) add(parts ...string) {
	if p.b.Len() > 0 {
		p.b.WriteString(", ")
	}
	for _, part := range parts {
		p.b.WriteString(part)
	}
}

func (p *phrases) addNamed(name, value string) {
	if value != "" {
		p.add(name, visible(value))
	}
}

func (p *phrases) addAddress(name string, value netip.AddrPort) {
	if value.IsValid() {
		p.add(name, visible(value.String()))
	}
}

// addResult says why, by which rule, what went wrong and how long it took.
func (p *phrases) addResult(e *Event) {
	if e.Reason != "" {
		p.add("reason ", strconv.Quote(e.Reason))
	}
	if e.Rule != "" {
		p.add("rule ", strconv.Quote(e.Rule))
	}
	p.addNamed("identity ", e.Identity)
	if e.Limit != "" {
		p.add("limit ", strconv.Quote(e.Limit))
	}
	if !e.Until.IsZero() {
		p.add("until " + e.Until.UTC().Format(timeFormat))
	}
	p.addNamed("by ", e.By)
	if e.Error != "" {
		p.add("error ", strconv.Quote(e.Error))
	}
	if e.Duration > 0 {
		p.add(e.Duration.Round(10 * time.Microsecond).String())
	}
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return visible(value)
}

// visible returns s as it is if that is visible ASCII without spaces and
// quotes, else as a Go string literal, which escapes what cannot be seen.
func visible(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' {
			return strconv.Quote(s)
		}
	}
	return s
}

// sizeText is a size in the unit in which it has at most four digits.
func sizeText(octets int64) string {
	switch {
	case octets < 10<<10:
		return strconv.FormatInt(octets, 10) + " B"
	case octets < 10<<20:
		return strconv.FormatInt(octets>>10, 10) + " KiB"
	}
	return strconv.FormatInt(octets>>20, 10) + " MiB"
}

package filter

import (
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-milter"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Bounds of what a filter says to a client; more is cut off.
const (
	maxReplyLines = 16
	maxReplyText  = 400 // octets of a line
)

// outright is the verdict of an action that needs no more of the message.
func (f *Filter) outright(act *milter.Action) (Verdict, error) {
	switch act.Code {
	case milter.ActAccept, milter.ActContinue:
		return Verdict{Action: Accept}, nil
	case milter.ActDiscard:
		return Verdict{Action: Discard, Reason: "discarded by filter"}, nil
	case milter.ActReject:
		reply := smtp.NewReply(550, smtp.EnhancedCode{5, 7, 1}, fmt.Sprintf("message refused by filter %q", f.options.Name))
		return Verdict{Action: Reject, Reply: reply, Reason: "refused by filter"}, nil
	case milter.ActTempFail:
		reply := smtp.NewReply(451, smtp.EnhancedCode{4, 7, 1}, fmt.Sprintf("message deferred by filter %q, try again later", f.options.Name))
		return Verdict{Action: Defer, Reply: reply, Reason: "deferred by filter"}, nil
	case milter.ActReplyCode:
		return worded(act.SMTPCode, act.SMTPText)
	}
	return Verdict{}, fmt.Errorf("unexpected action %q", byte(act.Code))
}

// worded is a refusal in the filter's own words.
func worded(code int, text string) (Verdict, error) {
	reply, err := parseReply(code, text)
	if err != nil {
		return Verdict{}, err
	}
	verdict := Verdict{Action: Reject, Reply: reply, Reason: reply.String()}
	if reply.Transient() {
		verdict.Action = Defer
	}
	return verdict, nil
}

// parseReply takes a filter's reply as strictly as a relay's. In the milter
// protocol it comes without its first code, lines after the first have theirs,
// and a percent sign is doubled.
func parseReply(code int, text string) (smtp.Reply, error) {
	if code < 400 || code > 599 {
		return smtp.Reply{}, fmt.Errorf("reply code %d refuses nothing", code)
	}
	separator := " "
	if text = strings.TrimSuffix(text, "\r\n"); strings.Contains(text, "\n") {
		separator = "-"
	}
	wire := fmt.Sprintf("%03d%s%s\r\n", code, separator, strings.ReplaceAll(text, "%%", "%"))
	reader := smtp.NewReader(strings.NewReader(wire), make([]byte, len(wire)+1))
	reply, err := smtp.ReadReply(reader)
	if err != nil {
		return smtp.Reply{}, err
	}
	if len(reader.Unread()) > 0 || reader.Fill() != io.EOF {
		return smtp.Reply{}, fmt.Errorf("%w: something after the last line", smtp.ErrBadReply)
	}
	return tidy(reply), nil
}

// tidy makes a reply one that we may give: printable, of some size, and not the
// 421 that closes the channel (RFC 5321 section 3.8), which is ours to say.
func tidy(reply smtp.Reply) smtp.Reply {
	if len(reply.Lines) > maxReplyLines {
		reply.Lines = reply.Lines[:maxReplyLines]
	}
	for i, line := range reply.Lines {
		reply.Lines[i] = printable(line, maxReplyText)
	}
	if reply.Code == 421 {
		reply.Code = 451
	}
	if reply.Enhanced == (smtp.EnhancedCode{}) {
		reply.Enhanced = smtp.EnhancedCode{reply.Code / 100, 7, 1}
	}
	return reply
}

// printable is at most max octets of ASCII without control characters.
func printable(s string, max int) string {
	clean := []byte(s[:min(len(s), max)])
	for i, c := range clean {
		if c < ' ' || c > '~' {
			clean[i] = '?'
		}
	}
	return string(clean)
}

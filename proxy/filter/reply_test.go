package filter

import (
	"strings"
	"testing"
)

func TestParseReply(t *testing.T) {
	for _, c := range []struct {
		code int
		text string
		want string // lines joined by |
	}{
		{550, "5.7.1 no", "550 5.7.1 no"},
		{550, "no", "550 5.7.1 no"},
		{450, "later", "450 4.7.1 later"},
		{550, "", "550 5.7.1 "},
		{550, "4.7.1 class of another", "550 5.7.1 4.7.1 class of another"},
		{554, "5.6.0 one\r\n554-5.6.0 two\r\n554 5.6.0 three", "554 5.6.0 one|two|three"},
		{554, "5.6.0 one\r\n554 5.6.0 two\r\n", "554 5.6.0 one|two"},
		{421, "4.7.0 go away", "451 4.7.0 go away"},
		{550, "5.7.1 100%% spam, 50% sure", "550 5.7.1 100% spam, 50% sure"},
		{550, "5.7.1 tab\tbell\aumlaut\xfc", "550 5.7.1 tab?bell?umlaut?"},
		{550, strings.Repeat("x", 500), "550 5.7.1 " + strings.Repeat("x", maxReplyText)},
		{554, "a" + strings.Repeat("\r\n554-b", 20) + "\r\n554 c", "554 5.7.1 a" + strings.Repeat("|b", maxReplyLines-1)},
	} {
		reply, err := parseReply(c.code, c.text)
		if err != nil {
			t.Errorf("%d %q: %v", c.code, c.text, err)
			continue
		}
		got := strings.TrimSuffix(reply.String(), reply.Text()) + strings.Join(reply.Lines, "|")
		if got != c.want {
			t.Errorf("%d %q: %q, want %q", c.code, c.text, got, c.want)
		}
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add(550, "5.7.1 no\r\n550 really")
	f.Add(421, "%%%")
	f.Add(200, "")
	f.Fuzz(func(t *testing.T, code int, text string) {
		reply, err := parseReply(code, text)
		if err != nil {
			return
		}
		if !reply.Transient() && !reply.Permanent() || reply.Code == 421 || reply.Enhanced[0] != reply.Code/100 {
			t.Errorf("%d %q: %v", code, text, reply)
		}
		if len(reply.Lines) == 0 || len(reply.Lines) > maxReplyLines {
			t.Errorf("%d lines", len(reply.Lines))
		}
		for _, line := range reply.Lines {
			if len(line) > maxReplyText || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("line %q", line)
			}
		}
	})
}

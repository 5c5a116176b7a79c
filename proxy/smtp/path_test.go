package smtp

import (
	"errors"
	"strings"
	"testing"
)

var everything = Capabilities{EightBitMIME: true, UTF8: true, DSN: true, MaxSize: 1000}

func TestParseMail(t *testing.T) {
	for _, test := range []struct{ arg, want string }{
		{"FROM:<a@example.com>", "a@example.com"},
		{"from:<a@example.com>", "a@example.com"},
		{"FROM: <a@example.com>", "a@example.com"},
		{"FROM:<>", ""},
		{"FROM:<@relay.test,@b.test:a@example.com>", "a@example.com"},
		{`FROM:<"a b"@example.com>`, `"a b"@example.com`},
		{`FROM:<"a>b"@example.com>`, `"a>b"@example.com`},
		{"FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"},
		{"FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"},
		{"FROM:<a@example.com> SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=x+2B1 SMTPUTF8 AUTH=<>", "a@example.com"},
		{"FROM:<ä@example.com> SMTPUTF8", "ä@example.com"},
		{"FROM:<ä@example.com>", "!553 5.6.7"},
		{"FROM:<a@example.com> SIZE=1001", "!552 5.3.4"},
		{"FROM:<a@example.com> SIZE=-1", "!501 5.5.4"},
		{"FROM:<a@example.com> SIZE=x", "!501 5.5.4"},
		{"FROM:<a@example.com> BODY=BINARYMIME", "!501 5.5.4"},
		{"FROM:<a@example.com> WHAT=ever", "!555 5.5.4"},
		{"FROM:<a@example.com>SIZE=1", "!501 5.1.7"},
		{"FROM:a@example.com", "!501 5.1.7"},
		{"FROM:<root>", "!501 5.1.7"},
		{"FROM:<a@b@>", "!501 5.1.7"},
		{"FROM:<a b@example.com>", "!501 5.1.7"},
		{"FROM:<a@exa mple.com>", "!501 5.1.7"},
		{"FROM:<a@-x.com>", "!501 5.1.7"},
		{"FROM:<a@[192.0.2.256]>", "!501 5.1.7"},
		{"FROM:<a@[::1]>", "!501 5.1.7"},
		{"FROM:<a..b@example.com>", "!501 5.1.7"},
		{"FROM:<" + strings.Repeat("a", 65) + "@example.com>", "!501 5.1.7"},
		{"FROM:<a@\xff.com> SMTPUTF8", "!501 5.1.7"},
		{"FROM:<<a@example.com>>", "!501 5.1.7"},
		{"FROM:<a@example.com", "!501 5.1.7"},
		{"TO:<a@example.com>", "!501 5.5.4"},
		{"", "!501 5.5.4"},
	} {
		path, _, err := ParseMail(test.arg, everything)
		if got := outcome(path, err); got != test.want {
			t.Errorf("%q: %q, want %q", test.arg, got, test.want)
		}
	}
}

func outcome(path string, err error) string {
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		return "!" + syntax.Reply.String()[:9]
	}
	return path
}

func TestParametersOfExtensionsNotOffered(t *testing.T) {
	for _, parameter := range []string{"BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "ENVID=x"} {
		_, _, err := ParseMail("FROM:<a@example.com> "+parameter, Capabilities{})
		if got := outcome("", err); got != "!555 5.5.4" {
			t.Errorf("%s: %q", parameter, got)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	for _, test := range []struct{ arg, want string }{
		{"TO:<a@example.com>", "a@example.com"},
		{"TO:<Postmaster>", "Postmaster"},
		{"TO:<a@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2B@example.com", "a@example.com"},
		{"TO:<>", "!501 5.1.3"},
		{"TO:<root>", "!501 5.1.3"},
		{"TO:<a@example.com> NOTIFY=NEVER,DELAY", "!501 5.5.4"},
		{"TO:<a@example.com> ORCPT=rfc822", "!501 5.5.4"},
		{"TO:<a@example.com> ORCPT=;a", "!501 5.5.4"},
		{"TO:<a@example.com> ORCPT=rf\x00c822;a", "!501 5.5.4"},
		{"TO:<a@example.com> ORCPT=rfc822>;a", "!501 5.5.4"},
		{"TO:<a@example.com> ORCPT=rfc822;a+zz", "!501 5.5.4"},
		{"TO:<ä@example.com>", "!553 5.6.7"},
		{"TO:<a@example.com> X=1", "!555 5.5.4"},
	} {
		rcpt, err := ParseRcpt(test.arg, everything, false)
		if got := outcome(rcpt.Address, err); got != test.want {
			t.Errorf("%q: %q, want %q", test.arg, got, test.want)
		}
	}
}

// FuzzParseMail holds that a path which was accepted can be written between
// angle brackets and be read again, and can end no line and no bracket.
func FuzzParseMail(f *testing.F) {
	f.Add(`FROM:<"a\"b"@example.com> SIZE=1`)
	f.Add("FROM:<@a,@b:c@[IPv6:::1]>")
	f.Fuzz(func(t *testing.T, arg string) {
		path, _, err := ParseMail(arg, everything)
		if err != nil {
			return
		}
		if strings.ContainsAny(path, "\r\n\x00") {
			t.Fatalf("control characters in %q", path)
		}
		again, _, err := ParseMail("FROM:<"+path+"> SMTPUTF8", everything)
		if err != nil || again != path {
			t.Fatalf("%q became %q, %v", path, again, err)
		}
	})
}

package filter

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// stages are the commands that a filter answers.
const stages = "CHMRLNBE"

func TestEachActionAtEachStage(t *testing.T) {
	refused := smtp.NewReply(550, smtp.EnhancedCode{5, 7, 1}, `message refused by filter "fake"`)
	deferred := smtp.NewReply(451, smtp.EnhancedCode{4, 7, 1}, `message deferred by filter "fake", try again later`)
	for _, c := range []struct {
		answer packet
		action Action
		reply  smtp.Reply
	}{
		{packet{'a', ""}, Accept, smtp.Reply{}},
		{packet{'d', ""}, Discard, smtp.Reply{}},
		{packet{'r', ""}, Reject, refused},
		{packet{'t', ""}, Defer, deferred},
		{packet{'y', "554 5.6.9 spam\x00"}, Reject, smtp.NewReply(554, smtp.EnhancedCode{5, 6, 9}, "spam")},
		{packet{'y', "450 4.7.7 greylisted\x00"}, Defer, smtp.NewReply(450, smtp.EnhancedCode{4, 7, 7}, "greylisted")},
	} {
		for _, stage := range []byte(stages) {
			t.Run(fmt.Sprintf("%c at %c", c.answer.code, stage), func(t *testing.T) {
				f := newFake(t)
				f.answers[stage] = []packet{c.answer}
				verdict, _, err := check(t, f.start().filter(nil), testMessage())
				if err != nil || verdict.Action != c.action || verdict.Reply.String() != c.reply.String() || verdict.Changed {
					t.Errorf("%+v, error %v", verdict, err)
				}
				if (verdict.Action == Accept) != (verdict.Reason == "") {
					t.Errorf("reason %q", verdict.Reason)
				}
			})
		}
	}
}

// change is what a filter says when it has the whole message, and what comes of it.
type change struct {
	name    string
	answers []packet
	header  string // "" is unchanged
	body    string
}

// The header section has four fields: From, Subject in two lines, X-Twice twice.
var headerChanges = []change{
	{"none", nil, "", ""},
	{"add", []packet{{'h', "X-New\x00value\x00"}}, strings.TrimSuffix(testHeader, "\r\n") + "X-New: value\r\n\r\n", ""},
	{"add folded by LF", []packet{{'h', "X-New\x00one\n\ttwo\n three\n\x00"}},
		strings.TrimSuffix(testHeader, "\r\n") + "X-New: one\r\n\ttwo\r\n three\r\n\r\n", ""},
	{"add folded by CRLF", []packet{{'h', "X-New\x00one\r\n two\x00"}}, strings.TrimSuffix(testHeader, "\r\n") + "X-New: one\r\n two\r\n\r\n", ""},
	{"add with an empty folded line", []packet{{'h', "X-New\x00one\n \n two\x00"}}, strings.TrimSuffix(testHeader, "\r\n") + "X-New: one\r\n two\r\n\r\n", ""},
	{"add empty", []packet{{'h', "X-New\x00\x00"}}, strings.TrimSuffix(testHeader, "\r\n") + "X-New: \r\n\r\n", ""},
	{"insert at the top", []packet{{'i', index(0) + "X-New\x00v\x00"}}, "X-New: v\r\n" + testHeader, ""},
	{"insert in between", []packet{{'i', index(1) + "X-New\x00v\x00"}}, strings.Replace(testHeader, "Subject", "X-New: v\r\nSubject", 1), ""},
	{"insert beyond the end", []packet{{'i', index(1<<32-1) + "X-New\x00v\x00"}}, strings.TrimSuffix(testHeader, "\r\n") + "X-New: v\r\n\r\n", ""},
	{"change", []packet{{'m', index(1) + "SUBJECT\x00other\x00"}}, strings.Replace(testHeader, "Subject: one\r\n two", "SUBJECT: other", 1), ""},
	{"change the second", []packet{{'m', index(2) + "X-Twice\x003\x00"}}, strings.Replace(testHeader, "X-Twice: 2", "X-Twice: 3", 1), ""},
	{"change what is not there", []packet{{'m', index(3) + "X-Twice\x003\x00"}}, strings.TrimSuffix(testHeader, "\r\n") + "X-Twice: 3\r\n\r\n", ""},
	{"delete", []packet{{'m', index(1) + "Subject\x00\x00"}}, strings.Replace(testHeader, "Subject: one\r\n two\r\n", "", 1), ""},
	{"delete both from the end", []packet{{'m', index(2) + "X-Twice\x00\x00"}, {'m', index(1) + "X-Twice\x00\x00"}},
		strings.Replace(testHeader, "X-Twice: 1\r\nX-Twice: 2\r\n", "", 1), ""},
	{"delete both from the front", []packet{{'m', index(1) + "X-Twice\x00\x00"}, {'m', index(1) + "X-Twice\x00\x00"}},
		strings.Replace(testHeader, "X-Twice: 1\r\nX-Twice: 2\r\n", "", 1), ""},
	{"delete what is not there", []packet{{'m', index(3) + "X-Twice\x00\x00"}}, "", ""},
	{"change what was added", []packet{{'h', "X-New\x001\x00"}, {'m', index(1) + "X-New\x002\x00"}},
		strings.TrimSuffix(testHeader, "\r\n") + "X-New: 2\r\n\r\n", ""},
	{"new body", []packet{{'b', "other\r\n"}}, testHeader, "other\r\n"},
	{"new body in parts", []packet{{'b', "one\r"}, {'p', ""}, {'h', "X-New\x00v\x00"}, {'b', "\ntwo\nthr"}, {'b', ""}, {'b', "ee"}},
		strings.TrimSuffix(testHeader, "\r\n") + "X-New: v\r\n\r\n", "one\r\ntwo\r\nthree\r\n"},
	{"no body any more", []packet{{'b', ""}}, testHeader, ""},
	{"fields and envelope", []packet{{'+', "<x@example.org>\x00"}, {'h', "X-New\x00v\x00"}, {'-', "<b@example.net>\x00"},
		{'e', "<other@example.com>\x00SIZE=1\x00"}}, strings.TrimSuffix(testHeader, "\r\n") + "X-New: v\r\n\r\n", ""},
}

func TestChanges(t *testing.T) {
	for _, c := range headerChanges {
		for _, last := range "ac" {
			t.Run(c.name+" then "+string(last), func(t *testing.T) {
				f := newFake(t)
				f.answers['E'] = append(c.answers[:len(c.answers):len(c.answers)], packet{byte(last), ""})
				verdict, body, err := check(t, f.start().filter(nil), testMessage())
				if err != nil || verdict.Action != Accept || verdict.Changed != (c.header != "") {
					t.Fatalf("%+v, error %v", verdict, err)
				}
				if string(verdict.Header) != c.header || body != c.body {
					t.Errorf("header\n%q, want\n%q\nbody %q, want %q", verdict.Header, c.header, body, c.body)
				}
			})
		}
	}
}

// A filter that asks for it is told of the space after a colon, and says where
// it wants one.
func TestLeadingSpace(t *testing.T) {
	f := newFake(t)
	f.steps = 1 << 20
	f.answers['E'] = []packet{{'h', "X-Tight\x00v\x00"}, {'h', "X-Wide\x00  v\x00"}, {'c', ""}}
	m := testMessage()
	m.Header = []byte("A:tight\r\nB: usual\r\nC:\twide\r\nD:\r\n folded\r\n\r\n")
	verdict, _, err := check(t, f.start().filter(nil), m)
	if want := strings.TrimSuffix(string(m.Header), "\r\n") + "X-Tight:v\r\nX-Wide:  v\r\n\r\n"; err != nil || string(verdict.Header) != want {
		t.Errorf("%q, error %v, want %q", verdict.Header, err, want)
	}
	if got, want := strings.Join(f.heard('L'), "|"), "A\x00tight\x00|B\x00 usual\x00|C\x00\twide\x00|D\x00\n folded\x00"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestQuarantine(t *testing.T) {
	f := newFake(t)
	f.answers['E'] = []packet{{'q', "virus\r\nwith \xff\x00"}, {'h', "X-Virus\x00yes\x00"}, {'a', ""}}
	verdict, _, err := check(t, f.start().filter(nil), testMessage())
	if err != nil || verdict.Action != Quarantine || verdict.Reason != "virus??with ?" || !verdict.Changed {
		t.Errorf("%+v, error %v", verdict, err)
	}
}

func TestARefusalWeighsMoreThanChanges(t *testing.T) {
	f := newFake(t)
	f.answers['E'] = []packet{{'q', "virus\x00"}, {'h', "X-Virus\x00yes\x00"}, {'b', strings.Repeat("x", 1<<20-1)}, {'b', "more"}, {'r', ""}}
	verdict, _, err := check(t, f.start().filter(nil), testMessage())
	if err != nil || verdict.Action != Reject || verdict.Changed || verdict.Body != nil {
		t.Errorf("%+v, error %v", verdict, err)
	}
}

func TestTheEnvelopeIsNotTheFilters(t *testing.T) {
	core, logged := observer.New(zap.DebugLevel)
	f := newFake(t)
	f.answers['E'] = []packet{{'+', "<x@example.org>\x00"}, {'-', "<b@example.net>\x00"}, {'e', "<c@example.com>\x00"}, {'c', ""}}
	verdict, _, err := check(t, f.start().filter(func(o *Options) { o.Logger = zap.New(core) }), testMessage())
	if err != nil || verdict.Action != Accept || verdict.Changed {
		t.Errorf("%+v, error %v", verdict, err)
	}
	var said []string
	for _, entry := range logged.All() {
		said = append(said, fmt.Sprint(entry.Message, " ", entry.ContextMap()["change"], " ", entry.ContextMap()["address"]))
	}
	const ignored = "filter wants another envelope, which is not followed "
	want := ignored + "add recipient <x@example.org>\n" + ignored + "remove recipient <b@example.net>\n" + ignored + "change sender <c@example.com>"
	if got := strings.Join(said, "\n"); got != want {
		t.Errorf("logged\n%s\nwant\n%s", got, want)
	}
}

package dsn

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

var update = flag.Bool("update", false, "write the golden files anew; read the difference before committing it")

var (
	arrival = time.Date(2026, 11, 16, 9, 30, 0, 0, time.UTC)
	attempt = time.Date(2026, 11, 21, 9, 14, 3, 0, time.UTC)
	now     = time.Date(2026, 11, 21, 9, 30, 1, 0, time.UTC)
)

const (
	txn      = "01KAFDMNE8Q2Z6W0Y5T1R3V7XB"
	noticeID = "01KAVPZ3C9M4H8J2N6P0S5T7VW"

	message = "Received: from shop.example.com (local process)\r\n" +
		"\tby vps1.example.net (smtpwall) with ESMTP id " + txn + ";\r\n" +
		"\tMon, 16 Nov 2026 09:30:00 +0000\r\n" +
		"From: Shop <shop@example.com>\r\n" +
		"To: b@example.net\r\n" +
		"Subject: =?utf-8?q?Rechnung_f=C3=BCr?=\r\n =?utf-8?q?_November?=\r\n" +
		"Message-ID: <4711@shop.example.com>\r\n" +
		"\r\n" +
		"Dear customer,\r\n" +
		".\r\n" +
		"your invoice.\r\n"
)

// failure is the notice that most tests vary.
func failure() Notice {
	return Notice{
		Heading: Heading{Host: "vps1.example.net", To: "shop@example.com", ID: noticeID, Date: now},
		Txn:     txn, Arrival: arrival,
		Recipients: []Recipient{{
			Address: "b@example.net", Action: Failed, Status: smtp.EnhancedCode{5, 1, 1},
			Diagnostic: "550 5.1.1 <b@example.net>: user unknown", RemoteMTA: "smtp.relay.example", LastAttempt: attempt,
		}},
		Original: strings.NewReader(message), OriginalSize: int64(len(message)),
	}
}

func compose(t testing.TB, n Notice) *Message {
	t.Helper()
	m, err := n.Compose()
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, m)
	return m
}

// golden compares with testdata/name, where lines end with LF.
func golden(t *testing.T, name string, m *Message) {
	t.Helper()
	file := filepath.Join("testdata", name)
	got := bytes.ReplaceAll(m.Data, []byte("\r\n"), []byte("\n"))
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got\n%s", file, got)
	}
}

func TestGoldens(t *testing.T) {
	for name, n := range map[string]Notice{
		"failed.eml":       failure(),
		"full.eml":         full(),
		"mixed.eml":        mixed(),
		"delayed.eml":      delayed(),
		"relayed.eml":      relayed(),
		"expired.eml":      expired(),
		"unicode7.eml":     unicodeRecipient(),
		"unicode8.eml":     unicodeSender(),
		"eightbit.eml":     eightBitHeader(),
		"no-original.eml":  bare(),
		"own-mailbox.eml":  ownMailbox(),
		"many.eml":         many(),
		"unicode-full.eml": unicodeFull(),
	} {
		t.Run(name, func(t *testing.T) {
			m := compose(t, n)
			golden(t, name, m)
			parseBack(t, m.Data)
		})
	}
}

// full has every parameter of RFC 3461.
func full() Notice {
	n := failure()
	n.Ret, n.EnvID = "FULL", "QQ+2B314159"
	n.Recipients[0].Notify = "SUCCESS,FAILURE"
	n.Recipients[0].ORcpt = "rfc822;b+2Blist@example.net"
	return n
}

// mixed has one recipient who wants nothing, and one who was reached.
func mixed() Notice {
	n := failure()
	n.Ret = "HDRS"
	n.Recipients = append(n.Recipients,
		Recipient{Address: "never@example.net", Notify: "NEVER", Action: Failed, Diagnostic: "550 5.1.1 no"},
		Recipient{Address: "late@example.net", Notify: "DELAY", Action: Delayed, Diagnostic: "450 4.2.0 greylisted", RemoteMTA: "smtp.relay.example",
			LastAttempt: attempt, RetryUntil: arrival.Add(120 * time.Hour)},
		Recipient{Address: "full@example.net", Action: Failed, Diagnostic: "552 5.2.2 over quota", RemoteMTA: "smtp.relay.example", LastAttempt: attempt},
		Recipient{Address: "ok@example.net", Notify: "SUCCESS", Action: Relayed, Diagnostic: "250 2.0.0 queued as 4711", RemoteMTA: "old.relay.example", LastAttempt: attempt},
		Recipient{Address: "quiet@example.net", Action: Relayed, Diagnostic: "250 ok"},
	)
	return n
}

func delayed() Notice {
	n := failure()
	n.Ret = "FULL" // is about failures only
	n.Recipients = []Recipient{{
		Address: "b@example.net", Notify: "FAILURE,DELAY", Action: Delayed, Diagnostic: "no relay can be reached: main: connection refused",
		LastAttempt: attempt, RetryUntil: arrival.Add(120 * time.Hour),
	}}
	return n
}

func relayed() Notice {
	n := failure()
	n.Recipients = []Recipient{{
		Address: "b@example.net", Notify: "SUCCESS", Action: Relayed, Diagnostic: "250 2.0.0 queued as 4711", RemoteMTA: "smtp.relay.example", LastAttempt: attempt,
	}}
	return n
}

func expired() Notice {
	n := failure()
	n.Recipients[0].Status = smtp.EnhancedCode{4, 4, 7}
	n.Recipients[0].Diagnostic = "451 4.3.0 try again later"
	return n
}

const unicodeMessage = "From: Käthe <käthe@example.com>\r\nTo: jürgen@exämple.net\r\nSubject: Grüße\r\nMessage-ID: <1@shop.example.com>\r\n\r\nHallo, schöne Grüße\r\n"

// unicodeRecipient goes to an ASCII address, so it must pass any relay.
func unicodeRecipient() Notice {
	n := failure()
	n.UTF8 = true
	n.Recipients[0].Address = "jürgen@exämple.net"
	n.Recipients[0].ORcpt = `utf-8;j\x{FC}rgen@ex\x{E4}mple.net`
	n.Recipients[0].Diagnostic = "550 5.1.1 <jürgen@exämple.net>: unbekannt"
	n.Original = strings.NewReader(unicodeMessage)
	return n
}

// unicodeSender needs SMTPUTF8 anyway.
func unicodeSender() Notice {
	n := unicodeRecipient()
	n.To = "käthe@example.com"
	return n
}

// unicodeFull returns all of it.
func unicodeFull() Notice {
	n := unicodeRecipient()
	n.Ret = "FULL"
	return n
}

// eightBitHeader is illegal, and common.
func eightBitHeader() Notice {
	n := failure()
	n.Ret = "FULL"
	n.Recipients[0].Diagnostic = "550 5.7.1 accès refusé"
	n.Original = strings.NewReader("From: shop@example.com\r\nSubject: Gr\xfc\xdfe\r\n\r\nHallo\r\n")
	return n
}

func bare() Notice {
	n := failure()
	n.Original = nil
	return n
}

func ownMailbox() Notice {
	n := failure()
	n.From = "mail-admin@example.com"
	return n
}

func many() Notice {
	n := failure()
	for len(n.Recipients) < maxExplained+2 {
		n.Recipients = append(n.Recipients, n.Recipients[0])
	}
	return n
}

func TestEnvelope(t *testing.T) {
	eightBitBody := func(sevenBit bool) Notice {
		n := full()
		n.SevenBit = sevenBit
		n.Original = strings.NewReader("From: shop@example.com\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n")
		return n
	}
	asciiBody := bare()
	asciiBody.To = "käthe@example.com"
	for _, c := range []struct {
		name string
		n    Notice
		body string
		utf8 bool
	}{
		{"ASCII", failure(), "", false},
		{"non-ASCII recipient", unicodeRecipient(), "", false},
		{"non-ASCII sender", unicodeSender(), "8BITMIME", true},
		{"non-ASCII sender of an ASCII message", asciiBody, "8BITMIME", true},
		{"8-bit header section", eightBitHeader(), "", false},
		{"8-bit body", eightBitBody(false), "8BITMIME", false},
		{"8-bit body, for any relay", eightBitBody(true), "", false},
	} {
		m := compose(t, c.n)
		e := m.Envelope
		if e.ReversePath != "" || len(e.Recipients) != 1 || e.Recipients[0].Address != c.n.To || e.Recipients[0].Params.Notify != "NEVER" {
			t.Errorf("%s: envelope %+v", c.name, e)
		}
		if p := e.Params; p.Body != c.body || p.UTF8 != c.utf8 || p.Size != int64(len(m.Data)) || p.Ret != "" || p.EnvID != "" {
			t.Errorf("%s: params %+v", c.name, p)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Notice)
		want string
	}{
		{"null reverse-path", func(n *Notice) { n.To = "" }, "null reverse-path: no notice may be sent"},
		{"nobody wants it", func(n *Notice) { n.Recipients[0].Notify = "NEVER" }, "no recipient wants a notice"},
		{"no recipients", func(n *Notice) { n.Recipients = nil }, "no recipient wants a notice"},
		{"unknown action", func(n *Notice) { n.Recipients[0].Action = "lost" }, "no recipient wants a notice"},
		{"sender with a line end", func(n *Notice) { n.To = "a@b.example\r\nBcc: x@y" }, `"a@b.example  Bcc: x@y" is no mailbox for a notice`},
		{"sender with a parameter", func(n *Notice) { n.To = "a@b.example> RET=FULL <c@d" }, `"a@b.example> RET=FULL <c@d" is no mailbox for a notice`},
		{"sender without domain", func(n *Notice) { n.To = "root" }, `"root" is no mailbox for a notice`},
		{"From", func(n *Notice) { n.From = "Admin <a@b.example>" }, `"Admin <a@b.example>" is no mailbox for a notice`},
		{"host", func(n *Notice) { n.Host = "vps1 example" }, `"vps1 example" is no host name for a notice`},
		{"host with a port", func(n *Notice) { n.Host = "vps1.example:25" }, `"vps1.example:25" is no host name for a notice`},
		{"bare IPv6 address", func(n *Notice) { n.Host = "2001:db8::1" }, `"2001:db8::1" is no host name for a notice`},
		{"id", func(n *Notice) { n.ID = "a\"b" }, `"a\"b" cannot be the id of a notice`},
		{"no id", func(n *Notice) { n.ID = "" }, `"" cannot be the id of a notice`},
		{"date", func(n *Notice) { n.Date = time.Time{} }, "notice without a date"},
		{"broken spool", func(n *Notice) { n.Original = iotest.ErrReader(errors.New("input/output error")) }, "reading the message of a notice: input/output error"},
	} {
		n := failure()
		c.edit(&n)
		if m, err := n.Compose(); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, %v", c.name, m, err)
		}
	}
}

func TestWanted(t *testing.T) {
	for _, c := range []struct{ notify, want string }{
		{"", "failed"},
		{"NEVER", ""},
		{"FAILURE", "failed"},
		{"DELAY", "delayed"},
		{"SUCCESS", "relayed delivered expanded"},
		{"SUCCESS,FAILURE,DELAY", "failed delayed relayed delivered expanded"},
		{"success,delay", "delayed relayed delivered expanded"},
		{"FAILURES", ""},
	} {
		var wanted []string
		for _, action := range []Action{Failed, Delayed, Relayed, Delivered, Expanded, "lost", ""} {
			if Wanted(c.notify, action) {
				wanted = append(wanted, string(action))
			}
		}
		if got := strings.Join(wanted, " "); got != c.want {
			t.Errorf("NOTIFY=%s wants %q, want %q", c.notify, got, c.want)
		}
	}
}

func TestHeadersOnly(t *testing.T) {
	for _, c := range []struct {
		ret  string
		size int64
		want bool
	}{
		{"", 1, true}, {"HDRS", 1, true}, {"FULL", 1, false}, {"full", 1, false},
		{"FULL", MaxReturned, false}, {"FULL", MaxReturned + 1, true},
	} {
		if got := HeadersOnly(c.ret, c.size); got != c.want {
			t.Errorf("RET=%s, %d octets: %v", c.ret, c.size, got)
		}
	}
}

func TestStatus(t *testing.T) {
	code := func(a, b, c int) smtp.EnhancedCode { return smtp.EnhancedCode{a, b, c} }
	for _, c := range []struct {
		action     Action
		status     smtp.EnhancedCode
		diagnostic string
		want       string
	}{
		{Failed, code(5, 1, 1), "550 5.7.1 no", "5.1.1"},
		{Failed, code(4, 4, 7), "", "4.4.7"},
		{Failed, code(0, 0, 0), "550 5.7.1 no", "5.7.1"},
		{Failed, code(0, 0, 0), "550 no", "5.0.0"},
		{Failed, code(0, 0, 0), "451 busy", "4.0.0"},
		{Failed, code(0, 0, 0), "550 4.7.1 of two minds", "5.0.0"},
		{Failed, code(0, 0, 0), "no relay", "5.0.0"},
		{Failed, code(2, 0, 0), "", "5.0.0"},
		{Failed, code(5, 1000, 0), "", "5.0.0"},
		{Failed, code(5, -1, 0), "", "5.0.0"},
		{Delayed, code(5, 1, 1), "", "4.0.0"},
		{Delayed, code(0, 0, 0), "421 4.7.0 too many", "4.7.0"},
		{Delayed, code(0, 0, 0), "550 odd", "4.0.0"},
		{Relayed, code(0, 0, 0), "250 2.1.5 ok", "2.1.5"},
		{Relayed, code(0, 0, 0), "250 ok", "2.0.0"},
		{Delivered, code(5, 0, 0), "", "2.0.0"},
	} {
		r := Recipient{Action: c.action, Status: c.status, Diagnostic: c.diagnostic}
		if got := r.status().String(); got != c.want {
			t.Errorf("%s, %v, %q: %s, want %s", c.action, c.status, c.diagnostic, got, c.want)
		}
	}
}

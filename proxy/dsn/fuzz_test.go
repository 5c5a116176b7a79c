package dsn

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// hostile are the words that every field is tried with.
var hostile = []string{
	"", " ", "x\r\nBcc: victim@example.org", "x\nBcc: y", "x\rBcc: y", "a\x00b", "\x7f\x1b[31m", "\u202eevil", "\u2028\u0085", "ü", "\xff\xfe",
	strings.Repeat("x", 5000), strings.Repeat("ü", 5000), strings.Repeat("😀", 1000), strings.Repeat("x ", 3000), strings.Repeat(" ", 3000),
	"--=_" + noticeID + ".0--", "\r\n\r\n--=_" + noticeID + ".0\r\n", "=?utf-8?q?=0D=0ABcc:_x?=", "+0D+0ABcc:x", `\x{0D}\x{0A}Bcc:x`,
	"550 5.1.1 no", "550-no\r\n550 no", ".", ".\r\n", "From x",
}

// TestHostileWords puts each of the words into each field that a stranger has a
// hand in.
func TestHostileWords(t *testing.T) {
	for _, words := range hostile {
		for name, put := range map[string]func(*Notice){
			"EnvID":       func(n *Notice) { n.EnvID = words },
			"Ret":         func(n *Notice) { n.Ret = words },
			"Txn":         func(n *Notice) { n.Txn = words },
			"Address":     func(n *Notice) { n.Recipients[0].Address = words },
			"ORcpt":       func(n *Notice) { n.Recipients[0].ORcpt = words },
			"ORcpt type":  func(n *Notice) { n.Recipients[0].ORcpt = words + ";a@example.net" },
			"ORcpt xtext": func(n *Notice) { n.Recipients[0].ORcpt = "rfc822;" + words },
			"ORcpt utf-8": func(n *Notice) { n.Recipients[0].ORcpt = "utf-8;" + words },
			"Diagnostic":  func(n *Notice) { n.Recipients[0].Diagnostic = words },
			"reply":       func(n *Notice) { n.Recipients[0].Diagnostic = "550 5.1.1 " + words },
			"RemoteMTA":   func(n *Notice) { n.Recipients[0].RemoteMTA = words },
			"Subject":     func(n *Notice) { n.Original = strings.NewReader("Subject: " + words + "\r\n\r\n") },
			"Message-ID":  func(n *Notice) { n.Original = strings.NewReader("Message-ID: <" + words + ">\r\n\r\n") },
			"message":     func(n *Notice) { n.Original = strings.NewReader(words) },
			"whole":       func(n *Notice) { n.Ret, n.Original = "FULL", strings.NewReader("X: y\r\n\r\n"+words) },
		} {
			for _, utf8 := range []bool{false, true} {
				n := failure()
				n.UTF8 = utf8
				put(&n)
				checkNotice(t, n)
				if t.Failed() {
					t.Fatalf("%s = %.100q, UTF8 %v", name, words, utf8)
				}
			}
		}
	}
}

// checkNotice composes a notice of one recipient and holds it against the forms
// that it may have, whatever was in its fields.
func checkNotice(t testing.TB, n Notice) {
	t.Helper()
	m, err := n.Compose()
	if errors.Is(err, ErrUnwanted) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, m)
	p := parseBack(t, m.Data)
	allowed := []string{"Date", "From", "To", "Subject", "Message-Id", "Auto-Submitted", "Mime-Version", "In-Reply-To", "References", "Content-Type"}
	for name := range p.header {
		if !slices.Contains(allowed, name) {
			t.Errorf("field %s of the header section was injected", name)
		}
	}
	for name := range p.message {
		if !slices.Contains([]string{"Original-Envelope-Id", "Reporting-Mta", "Arrival-Date"}, name) {
			t.Errorf("field %s of the status was injected", name)
		}
	}
	if len(p.recipients) != 1 {
		t.Fatalf("%d recipients in the status", len(p.recipients))
	}
	allowed = []string{"Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-Mta", "Diagnostic-Code", "Last-Attempt-Date", "Final-Log-Id", "Will-Retry-Until"}
	for name := range p.recipients[0] {
		if !slices.Contains(allowed, name) {
			t.Errorf("field %s of the recipient was injected", name)
		}
	}
	if got := p.recipients[0].Get("Action"); got != string(n.Recipients[0].Action) {
		t.Errorf("action %q", got)
	}
	if p.kinds[0] != "text/plain" || !strings.HasPrefix(p.text, "This is the mail system of ") {
		t.Errorf("%s %q", p.kinds[0], p.text)
	}
}

func FuzzNotice(f *testing.F) {
	f.Add("shop@example.com", "QQ+2B31", "FULL", txn, "b@example.net", "rfc822;b@example.net", "FAILURE", "550 5.1.1 no", "smtp.relay.example", message, uint(5), uint(1), false)
	f.Add("käthe@example.com", "", "", "", "jürgen@exämple.net", `utf-8;j\x{FC}rgen@ex\x{E4}mple.net`, "DELAY", "x", "", unicodeMessage, uint(4), uint(7), true)
	for _, words := range hostile {
		f.Add("a@b.example", words, "FULL", words, words, "rfc822;"+words, "", words, words, "Subject: "+words+"\r\n\r\n"+words, uint(5), uint(0), true)
	}
	f.Fuzz(func(t *testing.T, to, envid, ret, id, address, orcpt, notify, diagnostic, remote, original string, class, detail uint, utf8 bool) {
		n := failure()
		n.EnvID, n.Ret, n.Txn, n.UTF8 = envid, ret, id, utf8
		n.Original, n.OriginalSize = strings.NewReader(original), int64(len(original))
		action := []Action{Failed, Delayed, Relayed, Delivered, Expanded}[class%5]
		n.Recipients = []Recipient{{
			Address: address, ORcpt: orcpt, Notify: notify, Action: action, Status: smtp.EnhancedCode{int(class), 1, int(detail)},
			Diagnostic: diagnostic, RemoteMTA: remote, LastAttempt: attempt, RetryUntil: now,
		}}
		checkNotice(t, n)
		// A reverse-path is either one that MAIL takes, or refused.
		n.To, n.Original = to, strings.NewReader(original)
		m, err := n.Compose()
		if err != nil {
			return
		}
		if path, _, err := smtp.ParseMail("FROM:<"+to+"> SMTPUTF8", smtp.Capabilities{UTF8: true}); err != nil || path != to {
			t.Errorf("notice to %q", to)
		}
		checkWire(t, m)
		parseBack(t, m.Data)
	})
}

func FuzzOriginalAddress(f *testing.F) {
	f.Add("rfc822;a+2Bb@example.net")
	f.Add(`utf-8;j\x{FC}rgen@example.net`)
	f.Fuzz(func(t *testing.T, orcpt string) {
		for _, unicode := range []bool{false, true} {
			got := originalAddress(orcpt, unicode)
			if strings.ContainsAny(got, "\r\n\x00") || !unicode && !isASCII(got) {
				t.Errorf("%q gives %q", orcpt, got)
			}
		}
	})
}

// What is escaped is read again as it was.
func FuzzUnicodeAddress(f *testing.F) {
	f.Add("jürgen+a=b\\c@exämple.net")
	f.Fuzz(func(t *testing.T, address string) {
		address = clean(address, maxAddress)
		if got := decodeUnicode(escapeUnicode(address, true)); got != address {
			t.Errorf("%q comes back as %q", address, got)
		}
	})
}

package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// ownSenders is a policy that says which senders are whose, so that notices may
// go to them; and of one user's it does not say it.
const ownSenders = `[[policy.rule]]
name = "sites"
match = { user = ["www-data"] }
decision = "allow"
senders = ["*@shop.example"]
[[policy.rule]]
name = "others"
match = { uid = [4321] }
decision = "allow"
`

// mail is one as Python's email package understands it.
type mail struct {
	Header     map[string]string   `json:"header"` // names in lower case
	Type       string              `json:"type"`
	ReportType string              `json:"report_type"`
	Defects    []string            `json:"defects"`
	Parts      []string            `json:"parts"`
	Text       string              `json:"text"`
	Status     []map[string]string `json:"status"`
	Returned   map[string]string   `json:"returned"`
	Body       int                 `json:"body"`
}

// read lets Python read a mail.
func (b *bed) read(t testing.TB, path string) mail {
	t.Helper()
	// As root: a mailbox is closed to others.
	cmd := b.Host.Command(t.Context(), python, b.script(t, "report.py"), path)
	var m mail
	said := mustSucceed(t, cmd)
	if err := json.Unmarshal([]byte(said), &m); err != nil {
		t.Fatalf("reading a mail: %v: %s", err, said)
	}
	if len(m.Defects) > 0 {
		t.Errorf("Python finds fault with %s: %q\n%s", path, m.Defects, readFile(t, path))
	}
	return m
}

// TestBounce: what a real Postfix refuses for good comes back to the sender's
// mailbox as a notice that programs and people understand; where the sender is
// not known to be the client's own the administrator hears of it, and nobody else.
func TestBounce(t *testing.T) {
	t.Parallel()
	s := setup{
		idle: true, config: ownSenders, errors: []string{proxyEnded},
		delivery: "mode = \"queue\"\npostmaster = \"admin@example.net\"",
	}
	b := newBed(t, s)
	p := b.startPostfix("PLAIN LOGIN")
	b.start(s)
	t.Run("to the sender", func(t *testing.T) { b.checkNotice(t, p) })
	t.Run("whole", func(t *testing.T) { b.checkWholeNotice(t, p) })
	t.Run("to nobody", func(t *testing.T) { b.checkNoNotice(t) })
	t.Run("to the administrator", func(t *testing.T) { b.checkDigest(t, p) })
	b.checkStored(t)
}

// checkNotice: Postfix refuses two of three recipients, each in its own way.
func (b *bed) checkNotice(t *testing.T, p *postfix) {
	l := newLetter()
	got := b.python(t, order{
		Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA(), File: b.letterFile(l),
		To: []string{"nobody@example.net", recipient, "absent@example.net"},
	})
	if got.Error != nil || len(got.Refused) > 0 {
		t.Fatalf("smtplib says %+v", got)
	}
	p.delivered(t, l)
	event := b.awaitEvent(t, "the bounce", func(e audit.Event) bool { return e.Custody == audit.CustodyBounced })
	if event.Attempt != 1 || event.RcptCount != 3 || event.Recipients[0].ReplyCode != 554 || event.Recipients[1].ReplyCode != 250 ||
		event.Recipients[2].ReplyCode != 550 {
		t.Errorf("the event says %+v", event)
	}
	path := p.inBox(t, "orders", l.marker)
	m := b.read(t, path)
	if m.Type != "multipart/report" || m.ReportType != "delivery-status" || strings.Join(m.Parts, " ") != "text/plain message/delivery-status text/rfc822-headers" {
		t.Errorf("the notice is of type %s, report %s, parts %v", m.Type, m.ReportType, m.Parts)
	}
	m.checkHeader(t, l)
	if m.Returned["x-marker"] != l.marker || m.Returned["to"] != recipient || !strings.HasPrefix(readFile(t, path), "Return-Path: <>\n") {
		t.Errorf("the notice returns %v:\n%s", m.Returned, readFile(t, path))
	}
	for _, told := range []string{"nobody@example.net", "absent@example.net", "554", event.Txn} {
		if !strings.Contains(m.Text, told) {
			t.Errorf("people are not told %q:\n%s", told, m.Text)
		}
	}
	m.checkStatus(t, map[string]string{"nobody@example.net": "554 5.7.1 ", "absent@example.net": "550 5.1.1 "})
	b.checkNoticeDelivered(t, sender)
}

// checkHeader: the notice is from us, to the sender, about the letter, and asks
// nobody to answer.
func (m mail) checkHeader(t *testing.T, l letter) {
	t.Helper()
	for name, want := range map[string]string{
		"to": sender, "auto-submitted": "auto-replied",
		"in-reply-to": "<" + strings.ToLower(l.marker) + "@shop.example>", "mime-version": "1.0",
	} {
		if !strings.Contains(m.Header[name], want) {
			t.Errorf("the notice's %s is %q, want %q", name, m.Header[name], want)
		}
	}
	if !strings.Contains(m.Header["from"], "@"+hostName) || m.Header["date"] == "" || m.Header["message-id"] == "" {
		t.Errorf("the notice's header is %v", m.Header)
	}
}

// checkStatus: of each recipient that failed programs are told what the relay
// said (RFC 3464).
func (m mail) checkStatus(t *testing.T, want map[string]string) {
	t.Helper()
	if len(m.Status) != 1+len(want) || m.Status[0]["reporting-mta"] != "dns; "+hostName || m.Status[0]["arrival-date"] == "" {
		t.Fatalf("programs are told %v", m.Status)
	}
	for _, block := range m.Status[1:] {
		_, address, _ := strings.Cut(block["final-recipient"], ";")
		said := want[strings.TrimSpace(address)]
		if said == "" || block["action"] != "failed" || block["status"] != strings.Fields(said)[1] ||
			!strings.HasPrefix(block["diagnostic-code"], "smtp; "+said) || block["last-attempt-date"] == "" {
			t.Errorf("programs are told %v, want %v", block, want)
		}
	}
}

// checkNoticeDelivered: the notice's own way stands in the audit log.
func (b *bed) checkNoticeDelivered(t *testing.T, to string) {
	t.Helper()
	event := b.awaitEvent(t, "the notice", func(e audit.Event) bool {
		return e.Kind == audit.KindDelivery && e.ReversePath == audit.NullReversePath && len(e.Recipients) == 1 && e.Recipients[0].Address == to
	})
	if event.Custody != audit.CustodyRelay || event.Relay != "main" {
		t.Errorf("the event of the notice says %+v", event)
	}
}

// checkWholeNotice: who asks for the whole message gets it back, and the
// envelope's id with it (RFC 3461); who wants no notice gets none.
func (b *bed) checkWholeNotice(t *testing.T, p *postfix) {
	silent, l := newLetter(), writeLetter("a short message\r\n")
	k := b.talk(t)
	k.must(250, "MAIL FROM:<%s> RET=FULL ENVID=silent", sender)
	k.must(250, "RCPT TO:<nobody@example.net> NOTIFY=NEVER")
	k.must(354, "DATA")
	k.body(silent)
	txn := k.must(250, "").txn(t)
	b.awaitTry(t, txn, audit.CustodyBounced)

	k.must(250, "MAIL FROM:<%s> RET=FULL ENVID=QQ+2B314159", sender)
	k.must(250, "RCPT TO:<nobody@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Nobody+2BElse@example.net")
	k.must(354, "DATA")
	k.body(l)
	k.must(250, "")
	m := b.read(t, p.inBox(t, "orders", l.marker))
	if strings.Join(m.Parts, " ") != "text/plain message/delivery-status message/rfc822" || m.Returned["x-marker"] != l.marker || m.Body != len("a short message\n") {
		t.Errorf("the notice has the parts %v, and of the message %v", m.Parts, m.Returned)
	}
	if m.Status[0]["original-envelope-id"] != "QQ+314159" || m.Status[1]["original-recipient"] != "rfc822; Nobody+Else@example.net" {
		t.Errorf("programs are told %v", m.Status)
	}
	m.checkStatus(t, map[string]string{"nobody@example.net": "554 5.7.1 "})
	if mails, err := filepath.Glob(filepath.Join(p.dir, "mail", "orders", "new", "*")); err != nil || len(mails) != 2 {
		t.Errorf("the sender has the notices %v, %v; want two, and none that it did not want", mails, err)
	}
}

// checkNoNotice: a sender of whom policy does not say that it is the client's own
// gets no notice, and the message is kept.
func (b *bed) checkNoNotice(t *testing.T) {
	k := b.talkAs(t, 4321)
	defer k.close()
	txn := k.send(newLetter(), sender, "nobody@example.net").txn(t)
	b.awaitTry(t, txn, audit.CustodySpool)
	if held := b.awaitHeld(t, "undeliverable", 1); held[0] != txn {
		t.Errorf("hold has %v, want %s", held, txn)
	}
}

// checkDigest: the administrator gets one mail about all of them, and with it our
// custody ends.
func (b *bed) checkDigest(t *testing.T, p *postfix) {
	held := b.awaitHeld(t, "undeliverable", 1)
	b.killProxy(t) // the next one looks at once what there is to tell
	m := b.read(t, p.inBox(t, "admin", held[0]))
	if m.Type != "text/plain" || !strings.HasPrefix(m.Header["auto-submitted"], "auto-generated") || m.Header["to"] != "admin@example.net" {
		t.Errorf("the digest is %s, with the header %v", m.Type, m.Header)
	}
	for _, told := range []string{"nobody@example.net", "554 5.7.1", "uid:4321", sender, "policy does not say"} {
		if !strings.Contains(m.Text, told) {
			t.Errorf("the administrator is not told %q:\n%s", told, m.Text)
		}
	}
	event := b.awaitTry(t, held[0], audit.CustodyDropped)
	if event.Reason != "the administrator was told" {
		t.Errorf("the event says %+v", event)
	}
	b.checkNoticeDelivered(t, "admin@example.net")
}

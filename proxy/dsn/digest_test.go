package dsn

import (
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"
)

func heading() Heading {
	return Heading{Host: "vps1.example.net", To: "admin@example.com", ID: noticeID, Date: now}
}

func TestDigest(t *testing.T) {
	var d Digest
	for _, line := range []DigestLine{
		{arrival, txn, "uid 33 (www-data)", "bücher@victim.example", "b@example.net", "550 5.1.1 user unknown", "the sender's address is not one that its identity is given by name"},
		{arrival, txn, "uid 33 (www-data)", "bücher@victim.example", "c@example.net", "550 5.1.1 user unknown", "the sender's address is not one that its identity is given by name"},
		{attempt, noticeID, "account webshop", "", "d@example.net", "not delivered within 5 days", "null reverse-path"},
	} {
		d.Add(line)
	}
	m, err := d.Compose(heading())
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, m)
	golden(t, "digest.eml", m)
	if e := m.Envelope; e.ReversePath != "" || e.Recipients[0].Address != "admin@example.com" || e.Recipients[0].Params.Notify != "NEVER" || e.Params.Body != "" {
		t.Errorf("envelope %+v", e)
	}
	if d.Recipients() != 3 {
		t.Errorf("%d recipients", d.Recipients())
	}
	text := digestText(t, m)
	for _, want := range []string{"gave up on 3 recipients\r\nof 2 messages", "\r\n           2  uid 33 (www-data)\r\n", "from: <bücher@victim.example>", "from: <>"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

func digestText(t testing.TB, m *Message) string {
	t.Helper()
	parsed, err := mail.ReadMessage(strings.NewReader(string(m.Data)))
	if err != nil {
		t.Fatal(err)
	}
	if got := parsed.Header.Get("Auto-Submitted"); got != "auto-generated" {
		t.Errorf("Auto-Submitted: %s", got)
	}
	body := io.Reader(parsed.Body)
	if parsed.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// However much is added, the digest stays bounded and the counts right.
func TestDigestIsBounded(t *testing.T) {
	var d Digest
	const recipients = 10_000
	for i := range recipients {
		d.Add(DigestLine{
			Time: arrival, Txn: fmt.Sprint(i / 2), Identity: fmt.Sprintf("uid %d", i%1000), ReversePath: "a@example.net",
			Recipient: "b@example.net", Diagnostic: strings.Repeat("no ", 10_000), Reason: "none",
		})
	}
	if len(d.lines) != MaxDigestLines || len(d.identities) != maxIdentities+1 {
		t.Errorf("%d lines, %d identities", len(d.lines), len(d.identities))
	}
	m, err := d.Compose(heading())
	if err != nil {
		t.Fatal(err)
	}
	checkWire(t, m)
	if len(m.Data) > 500_000 {
		t.Errorf("%d octets", len(m.Data))
	}
	text := digestText(t, m)
	for _, want := range []string{"10000\r\nrecipients of 5000 messages", "  8000  (others)", "And 9500 more recipients, in the audit log only."} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %.1500s", want, text)
		}
	}
}

func TestDigestHeading(t *testing.T) {
	h := heading()
	h.To = "admin"
	if _, err := new(Digest).Compose(h); err == nil || err.Error() != `"admin" is no mailbox for a notice` {
		t.Error(err)
	}
}

func FuzzDigest(f *testing.F) {
	f.Add("01KA", "uid 33", "a@example.net", "b@example.net", "550 no", "null reverse-path")
	f.Add("\r\n.\r\n", "\t|\v\f", "\x00", "ü\xff\u202e", strings.Repeat("x", 3000), "\n\nBcc: x")
	f.Fuzz(func(t *testing.T, txn, identity, from, to, why, reason string) {
		var d Digest
		d.Add(DigestLine{time.Time{}, txn, identity, from, to, why, reason})
		d.Add(DigestLine{now, txn, identity, from, to, why, reason})
		m, err := d.Compose(heading())
		if err != nil {
			t.Fatal(err)
		}
		checkWire(t, m)
		header, _, _ := strings.Cut(string(m.Data), "\r\n\r\n")
		if want := 9; len(fieldNames(header)) != want {
			t.Errorf("%d fields, want %d: %q", len(fieldNames(header)), want, header)
		}
		// One detail has one line that begins with its name.
		if text := digestText(t, m); strings.Count(text, "\r\n    from: ") != 2 {
			t.Errorf("%q", text)
		}
	})
}

func fieldNames(header string) []string {
	var names []string
	for line := range strings.SplitSeq(header, "\r\n") {
		if line != "" && line[0] != ' ' && line[0] != '\t' {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
	}
	return names
}

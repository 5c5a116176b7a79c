package dsn

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"testing"
)

// parsed is a notice as a mail reader sees it.
type parsed struct {
	header     mail.Header
	text       string
	message    textproto.MIMEHeader   // the group for the message
	recipients []textproto.MIMEHeader // the groups for recipients
	kinds      []string               // media types of the parts
	returned   string                 // the third part, decoded
}

// checkWire holds for every mail of ours: what a relay without any extension
// takes, but for what the envelope says.
func checkWire(t testing.TB, m *Message) {
	t.Helper()
	if !bytes.HasSuffix(m.Data, []byte("\r\n")) {
		t.Error("the last line has no end")
	}
	for line := range bytes.SplitSeq(m.Data, []byte("\r\n")) {
		if len(line) > maxLine {
			t.Errorf("line of %d octets: %.80q", len(line), line)
		}
		if bytes.ContainsAny(line, "\r\n\x00") {
			t.Errorf("bare CR, LF or NUL in %.80q", line)
		}
	}
	header, _, found := bytes.Cut(m.Data, []byte("\r\n\r\n"))
	if !found {
		t.Fatal("header section without an end")
	}
	if !isASCII(string(header)) && !m.Envelope.Params.UTF8 {
		t.Errorf("header section needs SMTPUTF8: %q", header)
	}
	if !isASCII(string(m.Data)) && m.Envelope.Params.Body != "8BITMIME" {
		t.Error("the mail needs 8BITMIME and does not say so")
	}
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			t.Errorf("folded to an empty line: %q", header)
		}
	}
}

// parseBack reads a notice with the standard library and checks the frame that
// RFC 6522 and RFC 3464 ask for.
func parseBack(t testing.TB, data []byte) parsed {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	p := parsed{header: m.Header}
	for name, values := range m.Header {
		if len(values) != 1 {
			t.Errorf("%d fields %s", len(values), name)
		}
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %q: %v", m.Header.Get("Content-Type"), err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		raw, err := r.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p.add(t, raw)
	}
	if len(p.kinds) < 2 || len(p.kinds) > 3 {
		t.Fatalf("parts %q", p.kinds)
	}
	return p
}

func (p *parsed) add(t testing.TB, raw *multipart.Part) {
	t.Helper()
	kind, _, err := mime.ParseMediaType(raw.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(decoder(t, raw.Header.Get("Content-Transfer-Encoding"), raw))
	if err != nil {
		t.Fatal(err)
	}
	p.kinds = append(p.kinds, kind)
	switch len(p.kinds) {
	case 1:
		p.text = string(body)
	case 2:
		p.readStatus(t, body)
	case 3:
		p.returned = string(body)
	}
}

func decoder(t testing.TB, encoding string, r io.Reader) io.Reader {
	t.Helper()
	switch encoding {
	case "7bit", "8bit":
		return r
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, r)
	}
	t.Fatalf("encoding %q", encoding)
	return nil
}

// readStatus reads the groups, each ended by an empty line.
func (p *parsed) readStatus(t testing.TB, body []byte) {
	t.Helper()
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(body, "\r\n"...))))
	for {
		group, err := r.ReadMIMEHeader()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%v in %q", err, body)
		}
		for name, values := range group {
			if len(values) != 1 {
				t.Errorf("%d fields %s in one group", len(values), name)
			}
		}
		if p.message == nil {
			p.message = group
		} else {
			p.recipients = append(p.recipients, group)
		}
	}
}

func TestParseBack(t *testing.T) {
	p := parseBack(t, compose(t, full()).Data)
	for name, want := range map[string]string{
		"Date": "Sat, 21 Nov 2026 09:30:01 +0000", "From": "Mail Delivery System <postmaster@vps1.example.net>", "To": "<shop@example.com>",
		"Subject": "Mail not delivered: b@example.net", "Message-Id": "<" + noticeID + "@vps1.example.net>",
		"Auto-Submitted": "auto-replied", "Mime-Version": "1.0", "In-Reply-To": "<4711@shop.example.com>", "References": "<4711@shop.example.com>",
	} {
		if got := p.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, field := range []string{"From", "To"} {
		if _, err := p.header.AddressList(field); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	checkFields(t, p.message, map[string]string{
		"Original-Envelope-Id": "QQ+314159", "Reporting-Mta": "dns; vps1.example.net", "Arrival-Date": "Mon, 16 Nov 2026 09:30:00 +0000",
	})
	if len(p.recipients) != 1 {
		t.Fatalf("%d recipients", len(p.recipients))
	}
	checkFields(t, p.recipients[0], map[string]string{
		"Original-Recipient": "rfc822; b+list@example.net", "Final-Recipient": "rfc822; b@example.net", "Action": "failed", "Status": "5.1.1",
		"Remote-Mta": "dns; smtp.relay.example", "Diagnostic-Code": "smtp; 550 5.1.1 <b@example.net>: user unknown",
		"Last-Attempt-Date": "Sat, 21 Nov 2026 09:14:03 +0000", "Final-Log-Id": txn,
	})
	if p.kinds[2] != "message/rfc822" || p.returned != message {
		t.Errorf("returned %s %q", p.kinds[2], p.returned)
	}
}

// checkFields wants these fields and no others.
func checkFields(t *testing.T, got textproto.MIMEHeader, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Get(name), value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("field %s: %q", name, got.Get(name))
		}
	}
}

func TestReturned(t *testing.T) {
	header := message[:strings.Index(message, "\r\n\r\n")+2]
	long := "Subject: x\r\n\r\n" + strings.Repeat("x", maxLine+1) + "\r\n"
	large := "Subject: x\r\n\r\n" + strings.Repeat("large enough\r\n", MaxReturned/10)
	for _, c := range []struct {
		name     string
		edit     func(*Notice)
		original string
		kind     string
		want     string
	}{
		{"RET absent", func(n *Notice) { n.Ret = "" }, message, "text/rfc822-headers", header},
		{"RET=HDRS", func(n *Notice) { n.Ret = "HDRS" }, message, "text/rfc822-headers", header},
		{"RET=FULL", func(*Notice) {}, message, "message/rfc822", message},
		{"delay", func(n *Notice) { n.Recipients[0].Action, n.Recipients[0].Notify = Delayed, "DELAY" }, message, "text/rfc822-headers", header},
		{"large, as said", func(n *Notice) { n.OriginalSize = MaxReturned + 1 }, message, "text/rfc822-headers", header},
		{"large, not said", func(*Notice) {}, large, "text/rfc822-headers", "Subject: x\r\n"},
		{"long line", func(*Notice) {}, long, "text/rfc822-headers", "Subject: x\r\n"},
		{"long field", func(*Notice) {}, "X: " + long, "text/rfc822-headers", "X: Subject: x\r\n"},
		{"NUL", func(*Notice) {}, "Subject: x\r\n\r\n\x00\r\n", "text/rfc822-headers", "Subject: x\r\n"},
		{"8-bit body", func(*Notice) {}, "Subject: x\r\n\r\n\xff\r\n", "message/rfc822", "Subject: x\r\n\r\n\xff\r\n"},
		{"8-bit body, 7-bit relay", func(n *Notice) { n.SevenBit = true }, "Subject: x\r\n\r\n\xff\r\n", "text/rfc822-headers", "Subject: x\r\n"},
		{"8-bit header section", func(*Notice) {}, "Subject: \xff\r\n\r\nx\r\n", "text/rfc822-headers", "Subject: \xff\r\n"},
		{"UTF-8 header section", func(*Notice) {}, "Subject: ü\r\n\r\nx\r\n", "text/rfc822-headers", "Subject: ü\r\n"},
		{"SMTPUTF8, whole", func(n *Notice) { n.UTF8 = true }, unicodeMessage, "message/global", unicodeMessage},
		{"SMTPUTF8, whole, 7-bit relay", func(n *Notice) { n.UTF8, n.SevenBit = true, true }, unicodeMessage, "message/global", unicodeMessage},
		{"SMTPUTF8, header section", func(n *Notice) { n.UTF8, n.Ret = true, "" }, unicodeMessage, "message/global-headers", unicodeMessage[:strings.Index(unicodeMessage, "\r\n\r\n")+2]},
		{"SMTPUTF8, not UTF-8", func(n *Notice) { n.UTF8 = true }, "Subject: \xff\r\n\r\nx\r\n", "text/rfc822-headers", "Subject: \xff\r\n"},
		{"SMTPUTF8, ASCII", func(n *Notice) { n.UTF8 = true }, message, "message/rfc822", message},
		{"no body", func(n *Notice) { n.Ret = "" }, "Subject: x\r\n", "text/rfc822-headers", "Subject: x\r\n"},
		{"no header section", func(n *Notice) { n.Ret = "" }, "\r\nx\r\n", "text/rfc822-headers", ""},
		{"empty", func(n *Notice) { n.Ret = "" }, "", "text/rfc822-headers", ""},
		{"boundary guessed", func(*Notice) {}, "Subject: x\r\n\r\n--=_" + noticeID + ".0--\r\n", "message/rfc822", "Subject: x\r\n\r\n--=_" + noticeID + ".0--\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := full()
			n.Original, n.OriginalSize = strings.NewReader(c.original), int64(len(c.original))
			c.edit(&n)
			p := parseBack(t, compose(t, n).Data)
			if p.kinds[2] != c.kind || p.returned != c.want {
				t.Errorf("returned %s %.200q, want %s %.200q", p.kinds[2], p.returned, c.kind, c.want)
			}
		})
	}
}

// A header section beyond the limit is cut after a line.
func TestLongHeaderSection(t *testing.T) {
	n := failure()
	n.Original = strings.NewReader(strings.Repeat("X-Long: "+strings.Repeat("x", 990)+"\r\n", 300) + "\r\nbody\r\n")
	p := parseBack(t, compose(t, n).Data)
	if len(p.returned) > MaxReturned || len(p.returned) < MaxReturned-1000 || !strings.HasSuffix(p.returned, "x\r\n") {
		t.Errorf("%d octets returned, ending %q", len(p.returned), p.returned[max(0, len(p.returned)-20):])
	}
}

func TestUnicode(t *testing.T) {
	for _, n := range []Notice{unicodeRecipient(), unicodeSender()} {
		n.Original = strings.NewReader(unicodeMessage)
		p := parseBack(t, compose(t, n).Data)
		if p.kinds[1] != "message/global-delivery-status" {
			t.Errorf("status part is %s", p.kinds[1])
		}
		r := p.recipients[0]
		if r.Get("Final-Recipient") != "utf-8; jürgen@exämple.net" || r.Get("Original-Recipient") != "utf-8; jürgen@exämple.net" ||
			r.Get("Diagnostic-Code") != "smtp; 550 5.1.1 <jürgen@exämple.net>: unbekannt" {
			t.Errorf("%q", r)
		}
		if !strings.Contains(p.text, "<jürgen@exämple.net>") || !strings.Contains(p.text, "Grüße") {
			t.Errorf("text %q", p.text)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(p.header.Get("Subject"))
		if want := "Mail not delivered: jürgen@exämple.net"; err != nil || subject != want {
			t.Errorf("subject %q, want %q", subject, want)
		}
	}
	// Without SMTPUTF8 the part is the old one, and is ASCII.
	p := parseBack(t, compose(t, eightBitHeader()).Data)
	if got := p.recipients[0].Get("Diagnostic-Code"); p.kinds[1] != "message/delivery-status" || got != `smtp; 550 5.7.1 acc\x{E8}s refus\x{E9}` {
		t.Errorf("%s, %q", p.kinds[1], got)
	}
}

func TestOriginalRecipient(t *testing.T) {
	for _, c := range []struct{ orcpt, seven, eight string }{
		{"", "", ""},
		{"rfc822;a@example.net", "rfc822; a@example.net", "rfc822; a@example.net"},
		{"RFC822;a+2Bb+3Dc@example.net", "RFC822; a+b=c@example.net", "RFC822; a+b=c@example.net"},
		{"rfc822;a+0D+0ABcc:x", "rfc822; a+0D+0ABcc:x", "rfc822; a+0D+0ABcc:x"}, // stays encoded
		{"rfc822;a+zz", "rfc822; a+zz", "rfc822; a+zz"},
		{"rfc822;a+2", "rfc822; a+2", "rfc822; a+2"},
		{`utf-8;j\x{FC}rgen@example.net`, `utf-8; j\x{FC}rgen@example.net`, "utf-8; jürgen@example.net"},
		{"utf-8;jürgen@example.net", `utf-8; j\x{FC}rgen@example.net`, "utf-8; jürgen@example.net"},
		{`utf-8;a\x{2B}b@example.net`, `utf-8; a\x{2B}b@example.net`, "utf-8; a+b@example.net"},
		{`utf-8;a\x{0D}\x{A}Bcc:x`, `utf-8; a\x{5C}x{0D}\x{5C}x{A}Bcc:x`, `utf-8; a\x{0D}\x{A}Bcc:x`},
		{`utf-8;a\x{D800}\x{110000}\x{\x{}`, `utf-8; a\x{5C}x{D800}\x{5C}x{110000}\x{5C}x{\x{5C}x{}`, `utf-8; a\x{D800}\x{110000}\x{\x{}`},
		{"x400;/C=de/", "x400; /C=de/", "x400; /C=de/"},
		{"x400;ü", `x400; \x{FC}`, "x400; ü"},
		{"none", "", ""},
		{";a", "", ""},
		{"rfc822;", "", ""},
	} {
		if got := originalAddress(c.orcpt, false); got != c.seven {
			t.Errorf("%q in ASCII: %q, want %q", c.orcpt, got, c.seven)
		}
		if got := originalAddress(c.orcpt, true); got != c.eight {
			t.Errorf("%q in UTF-8: %q, want %q", c.orcpt, got, c.eight)
		}
	}
}

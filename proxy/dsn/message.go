package dsn

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strconv"
	"strings"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Message is a mail of ours, ready to be sent.
type Message struct {
	// Envelope has the null reverse-path, the one recipient with NOTIFY=NEVER,
	// and no RET (RFC 3461 section 6.1). Its BODY and SMTPUTF8 say what
	// Data needs of a relay, its SIZE how long Data is.
	Envelope smtp.Envelope
	Data     []byte // as it is read: CRLF, without transparency
}

// dateForm is RFC 5322 section 3.3.
const dateForm = "Mon, 02 Jan 2006 15:04:05 -0700"

// letter is a mail under construction.
type letter struct {
	Heading
	utf8 bool // an address of the header section needs SMTPUTF8, so all may be UTF-8
	out  []byte
}

func newLetter(h Heading) (*letter, error) {
	if h.From == "" {
		h.From = "postmaster@" + h.Host
	}
	switch {
	case !validHost(h.Host) || !validMailbox("postmaster@"+h.Host):
		return nil, fmt.Errorf("%q is no host name for a notice", clean(h.Host, maxAddress))
	case !validID(h.ID):
		return nil, fmt.Errorf("%q cannot be the id of a notice", clean(h.ID, maxAddress))
	case h.Date.IsZero():
		return nil, errors.New("notice without a date")
	}
	for _, address := range []string{h.From, h.To} {
		if !validMailbox(address) {
			return nil, fmt.Errorf("%q is no mailbox for a notice", clean(address, maxAddress))
		}
	}
	return &letter{Heading: h, utf8: !isASCII(h.From) || !isASCII(h.To)}, nil
}

// header writes the fields that all our mails have.
func (l *letter) header(subject, auto string) {
	if !l.utf8 {
		subject = mime.QEncoding.Encode("utf-8", subject) // RFC 2047; ASCII stays as it is
	}
	l.out = appendField(l.out, "Date", l.Date.Format(dateForm))
	l.out = appendWhole(l.out, "From", "Mail Delivery System <"+l.From+">")
	l.out = appendWhole(l.out, "To", "<"+l.To+">")
	l.out = appendField(l.out, "Subject", subject)
	l.out = appendWhole(l.out, "Message-ID", "<"+l.ID+"@"+l.Host+">")
	l.out = appendField(l.out, "Auto-Submitted", auto)
	l.out = appendField(l.out, "MIME-Version", "1.0")
}

// answers names the message that this one is about (RFC 3834 section 3.1.5), so
// that mail readers show them together.
func (l *letter) answers(messageID string) {
	if messageID == "" {
		return
	}
	l.out = appendWhole(l.out, "In-Reply-To", messageID)
	l.out = appendWhole(l.out, "References", messageID)
}

// part is one of a multipart body.
type part struct {
	description string
	contentType string
	encoding    string
	body        []byte // whole lines
}

// The content transfer encodings (RFC 2045 section 6).
const (
	sevenBit  = "7bit"
	eightBit  = "8bit"
	quotedPrt = "quoted-printable"
)

// encodePart chooses the encoding: none for ASCII, 8bit if the mail is UTF-8
// anyway, else one that any relay takes.
func encodePart(p part, utf8 bool) part {
	switch {
	case isWire(p.body) && isASCII(string(p.body)):
		p.encoding = sevenBit
	case utf8 && isWire(p.body):
		p.encoding = eightBit
	default:
		var b bytes.Buffer
		w := quotedprintable.NewWriter(&b)
		_, _ = w.Write(p.body) // a buffer takes all
		_ = w.Close()
		p.encoding, p.body = quotedPrt, b.Bytes()
	}
	return p
}

// isWire says that p can go without an encoding: lines that end with CRLF, none
// longer than allowed, no NUL (RFC 2045 sections 2.7 and 2.8).
func isWire(p []byte) bool {
	for len(p) > 0 {
		line, rest, _ := bytes.Cut(p, []byte("\r\n"))
		if len(line) > maxLine || bytes.ContainsAny(line, "\r\n\x00") {
			return false
		}
		p = rest
	}
	return true
}

// textPart is text for people.
func (l *letter) textPart(description, text string) part {
	p := part{description: description, contentType: "text/plain; charset=utf-8", body: []byte(text)}
	if isASCII(text) {
		p.contentType = "text/plain; charset=us-ascii"
	}
	return encodePart(p, l.utf8)
}

// plain ends the mail with a part that is all of the body.
func (l *letter) plain(p part) *Message {
	l.out = append(p.appendFields(l.out), "\r\n"...)
	l.out = append(l.out, p.body...)
	return l.message(p)
}

// report ends the mail with a multipart/report (RFC 6522 section 3).
func (l *letter) report(parts []part) *Message {
	boundary := l.boundary(parts)
	l.out = appendField(l.out, "Content-Type", `multipart/report; report-type=delivery-status; boundary="`+boundary+`"`)
	l.out = append(l.out, "\r\n"...)
	for _, p := range parts {
		l.out = append(l.out, "--"+boundary+"\r\n"...)
		l.out = append(p.appendFields(l.out), "\r\n"...)
		l.out = append(append(l.out, p.body...), "\r\n"...)
	}
	l.out = append(l.out, "--"+boundary+"--\r\n"...)
	return l.message(parts...)
}

// boundary is one that no part has in it, whatever the sender of the message
// guessed.
func (l *letter) boundary(parts []part) string {
	for n := 0; ; n++ {
		boundary := "=_" + l.ID + "." + strconv.Itoa(n)
		held := false
		for _, p := range parts {
			held = held || bytes.Contains(p.body, []byte(boundary))
		}
		if !held {
			return boundary
		}
	}
}

func (p *part) appendFields(dst []byte) []byte {
	if p.description != "" {
		dst = appendField(dst, "Content-Description", p.description)
	}
	dst = appendField(dst, "Content-Type", p.contentType)
	return appendField(dst, "Content-Transfer-Encoding", p.encoding)
}

// message is what was written, with its envelope.
func (l *letter) message(parts ...part) *Message {
	params := smtp.MailParams{Size: int64(len(l.out)), UTF8: l.utf8}
	if l.utf8 || slices.ContainsFunc(parts, func(p part) bool { return p.encoding == eightBit }) {
		params.Body = "8BITMIME" // whoever has SMTPUTF8 has it too (RFC 6531 section 3.1)
	}
	return &Message{
		Envelope: smtp.Envelope{
			Params:     params,
			Recipients: []smtp.Recipient{{Address: l.To, Params: smtp.RcptParams{Notify: "NEVER"}}},
		},
		Data: l.out,
	}
}

// validMailbox is what our own MAIL would take.
func validMailbox(address string) bool {
	path, params, err := smtp.ParseMail("FROM:<"+address+"> SMTPUTF8", smtp.Capabilities{UTF8: true})
	return err == nil && path == address && address != "" && params.UTF8 && clean(address, maxAddress) == address
}

// validHost is a host name or an address, with or without brackets.
func validHost(host string) bool {
	return host != "" && len(host) <= 255 && strings.Trim(host, "[]:.-_"+alphanumeric) == "" && isASCII(host)
}

func validID(id string) bool {
	return id != "" && len(id) <= 50 && strings.Trim(id, alphanumeric) == ""
}

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

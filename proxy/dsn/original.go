package dsn

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// kind is what of a message goes back.
type kind uint8

const (
	nothing kind = iota
	headerSection
	wholeMessage
)

// original is the third part of a notice, and what its first says of the message.
type original struct {
	kind    kind
	octets  []byte
	unicode bool // came with SMTPUTF8 and needs it: RFC 6532's message/global

	subject   string // clean, decoded; for people
	messageID string // with angle brackets; empty if it is not a proper one
}

// readOriginal reads the message and decides what of it goes back.
func (n *Notice) readOriginal(told []Recipient) (original, error) {
	if n.Original == nil {
		return original{}, nil
	}
	message, err := io.ReadAll(io.LimitReader(n.Original, MaxReturned+1))
	if err != nil {
		return original{}, fmt.Errorf("reading the message of a notice: %w", err)
	}
	header := headerOf(message)
	o := original{kind: headerSection, octets: header, subject: subjectOf(header), messageID: messageIDOf(header)}
	o.unicode = n.UTF8 && !isASCII(string(header)) && utf8.Valid(header)
	if n.returnsAll(told, message, o.unicode) {
		o.kind, o.octets = wholeMessage, message
	}
	return o, nil
}

// returnsAll says whether the message goes back whole. RET is about failures
// only (RFC 3461 section 4.3). A message/rfc822 has no encoding of its own (RFC
// 2046 section 5.2.1), so it must be one that travels as it is.
func (n *Notice) returnsAll(told []Recipient, message []byte, unicode bool) bool {
	failed := slices.ContainsFunc(told, func(r Recipient) bool { return r.Action == Failed })
	if !failed || HeadersOnly(n.Ret, max(n.OriginalSize, int64(len(message)))) || !isWire(message) {
		return false
	}
	if unicode || isASCII(string(message)) { // message/global can be encoded (RFC 6532 section 3.7)
		return true
	}
	return !n.SevenBit && isASCII(string(headerOf(message))) // message/rfc822 has no other header section
}

// headerOf is the header section without the empty line, whole lines only, of
// at most MaxReturned octets.
func headerOf(message []byte) []byte {
	if end := smtp.HeaderEnd(message, 0); end >= 0 {
		return message[:end-len("\r\n")]
	}
	return message[:bytes.LastIndexByte(message, '\n')+1]
}

// part is the third part of the report. utf8 says that the mail may be UTF-8.
func (o *original) part(utf8 bool) part {
	p := part{description: "Header section of the message", body: o.octets}
	if o.kind == wholeMessage {
		p.description = "The message"
	}
	ascii := isASCII(string(o.octets))
	switch {
	case o.kind == wholeMessage && o.unicode: // RFC 6533 section 4
		p.contentType = "message/global"
	case o.kind == wholeMessage:
		p.contentType, p.encoding = "message/rfc822", eightBit
		if ascii {
			p.encoding = sevenBit
		}
		return p
	case o.unicode:
		p.contentType = "message/global-headers"
	case ascii:
		p.contentType = "text/rfc822-headers; charset=us-ascii"
	default:
		p.contentType = "text/rfc822-headers; charset=" + charsetOf(o.octets)
		utf8 = false // only UTF-8 may stand beside UTF-8
	}
	return encodePart(p, utf8)
}

// charsetOf names what a header section with octets above 127 is in. RFC 1428
// has the name for what nobody said.
func charsetOf(p []byte) string {
	if utf8.Valid(p) {
		return "utf-8"
	}
	return "unknown-8bit"
}

// maxSubject is octets of a subject that we quote.
const maxSubject = 300

// subjectOf is the Subject field as people read it.
func subjectOf(header []byte) string {
	raw := fieldOf(header, "subject")
	decoded, err := new(mime.WordDecoder).DecodeHeader(raw)
	if err != nil {
		decoded = raw
	}
	return clean(strings.TrimSpace(decoded), maxSubject)
}

// messageIDOf is the Message-ID, if it is one that can be repeated in our own
// header section.
func messageIDOf(header []byte) string {
	id := strings.TrimSpace(fieldOf(header, "message-id"))
	if len(id) < 3 || len(id) > 300 || id[0] != '<' || id[len(id)-1] != '>' {
		return ""
	}
	for _, c := range []byte(id[1 : len(id)-1]) {
		if c <= ' ' || c > '~' || c == '<' || c == '>' {
			return ""
		}
	}
	return id
}

// fieldOf is the value of the first field of that name, unfolded (RFC 5322
// section 2.2.3); name is in lower case.
func fieldOf(header []byte, name string) string {
	var value []byte
	found := false
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		switch {
		case found && len(line) > 0 && (line[0] == ' ' || line[0] == '\t'):
			value = append(value, line...)
		case found:
			return string(value)
		case smtp.CountField(line, name) == 1:
			found = true
			value = slices.Clone(line[bytes.IndexByte(line, ':')+1:])
		}
	}
	return string(value)
}

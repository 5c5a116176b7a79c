package smtp

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Lengths in octets (RFC 5321 section 4.5.3.1).
const (
	maxLocalPart = 64
	maxDomain    = 255
	maxPath      = 254 // without the angle brackets (RFC 3696 erratum 1690)
	maxXtext     = 500 // of ORCPT and ENVID (RFC 3461 sections 4.2 and 4.4: 500 and 100)
)

// SyntaxError is an argument of MAIL or RCPT that we refuse, with its reply.
type SyntaxError struct{ Reply Reply }

func (e *SyntaxError) Error() string { return e.Reply.String() }

func refuse(code int, enhanced EnhancedCode, text string) error {
	return &SyntaxError{NewReply(code, enhanced, text)}
}

var errPath = errors.New("not a path")

// Capabilities are the service extensions that parameters depend on.
type Capabilities struct {
	EightBitMIME, UTF8, DSN bool
	MaxSize                 int64 // octets; 0 is unlimited
}

// ParseMail reads the argument of MAIL, "FROM:<path> parameters" (RFC 5321
// section 4.1.1.2), and the parameters of the extensions in caps. The error is
// a *SyntaxError.
func ParseMail(arg string, caps Capabilities) (reversePath string, params MailParams, err error) {
	rest, ok := cutKeyword(arg, "FROM:")
	if !ok {
		return "", params, refuse(501, EnhancedCode{5, 5, 4}, "expected MAIL FROM:<address>")
	}
	path, rest, err := cutPath(rest)
	if err != nil {
		return "", params, refuse(501, EnhancedCode{5, 1, 7}, "sender is not a valid <address>")
	}
	for _, word := range strings.Fields(rest) {
		if err := params.set(word, caps); err != nil {
			return "", MailParams{}, err
		}
	}
	if path == "" {
		return "", params, nil
	}
	if !validMailbox(path) {
		return "", params, refuse(501, EnhancedCode{5, 1, 7}, "sender is not a valid address with a domain")
	}
	if !params.UTF8 && !isASCII(path) {
		return "", params, refuse(553, EnhancedCode{5, 6, 7}, "a non-ASCII sender needs SMTPUTF8") // RFC 6531 section 3.5
	}
	return path, params, nil
}

// ParseRcpt reads the argument of RCPT, "TO:<path> parameters" (RFC 5321
// section 4.1.1.3). utf8 says that MAIL asked for SMTPUTF8. The error is a
// *SyntaxError.
func ParseRcpt(arg string, caps Capabilities, utf8 bool) (Recipient, error) {
	var rcpt Recipient
	rest, ok := cutKeyword(arg, "TO:")
	if !ok {
		return rcpt, refuse(501, EnhancedCode{5, 5, 4}, "expected RCPT TO:<address>")
	}
	path, rest, err := cutPath(rest)
	if err != nil || path == "" {
		return rcpt, refuse(501, EnhancedCode{5, 1, 3}, "recipient is not a valid <address>")
	}
	// RFC 5321 section 4.5.1: <Postmaster> without a domain is always legal.
	if !validMailbox(path) && !strings.EqualFold(path, "postmaster") {
		return rcpt, refuse(501, EnhancedCode{5, 1, 3}, "recipient is not a valid address with a domain")
	}
	if !utf8 && !isASCII(path) {
		return rcpt, refuse(553, EnhancedCode{5, 6, 7}, "a non-ASCII recipient needs SMTPUTF8")
	}
	rcpt.Address = path
	for _, word := range strings.Fields(rest) {
		if err := rcpt.Params.set(word, caps); err != nil {
			return Recipient{}, err
		}
	}
	return rcpt, nil
}

func (p *MailParams) set(word string, caps Capabilities) error {
	key, value, _ := strings.Cut(word, "=")
	switch key = strings.ToUpper(key); {
	case key == "SIZE":
		return p.setSize(value, caps.MaxSize)
	case key == "BODY" && caps.EightBitMIME:
		p.Body = strings.ToUpper(value)
		if p.Body != "7BIT" && p.Body != "8BITMIME" {
			return refuse(501, EnhancedCode{5, 5, 4}, "BODY is 7BIT or 8BITMIME")
		}
	case key == "SMTPUTF8" && caps.UTF8 && value == "":
		p.UTF8 = true
	case key == "RET" && caps.DSN:
		p.Ret = strings.ToUpper(value)
		if p.Ret != "FULL" && p.Ret != "HDRS" {
			return refuse(501, EnhancedCode{5, 5, 4}, "RET is FULL or HDRS")
		}
	case key == "ENVID" && caps.DSN:
		p.EnvID = value
		if !validXtext(value) || len(value) > 100 {
			return refuse(501, EnhancedCode{5, 5, 4}, "ENVID is not valid xtext")
		}
	case key == "AUTH":
		// RFC 4954 section 5: who submitted it first. We vouch for nobody's
		// claim and send none on.
	default:
		return refuse(555, EnhancedCode{5, 5, 4}, "parameter "+quoted(key)+" not recognised")
	}
	return nil
}

func (p *MailParams) setSize(value string, max int64) error {
	size, err := strconv.ParseInt(value, 10, 64)
	if err != nil || size < 0 {
		return refuse(501, EnhancedCode{5, 5, 4}, "SIZE is not a number of octets")
	}
	if max > 0 && size > max { // RFC 1870 section 6.1
		return refuse(552, EnhancedCode{5, 3, 4}, "message too large: the limit is "+strconv.FormatInt(max, 10)+" octets")
	}
	p.Size = size
	return nil
}

func (p *RcptParams) set(word string, caps Capabilities) error {
	key, value, _ := strings.Cut(word, "=")
	switch key = strings.ToUpper(key); {
	case key == "NOTIFY" && caps.DSN:
		p.Notify = strings.ToUpper(value)
		if !validNotify(p.Notify) {
			return refuse(501, EnhancedCode{5, 5, 4}, "NOTIFY is NEVER or a list of SUCCESS, FAILURE, DELAY")
		}
	case key == "ORCPT" && caps.DSN:
		addrType, address, found := strings.Cut(value, ";")
		if !found || !validAddrType(addrType) || !validXtext(address) || len(value) > maxXtext {
			return refuse(501, EnhancedCode{5, 5, 4}, "ORCPT is not addr-type;xtext")
		}
		p.ORcpt = value
	default:
		return refuse(555, EnhancedCode{5, 5, 4}, "parameter "+quoted(key)+" not recognised")
	}
	return nil
}

func validNotify(value string) bool {
	if value == "NEVER" {
		return true
	}
	for word := range strings.SplitSeq(value, ",") {
		if word != "SUCCESS" && word != "FAILURE" && word != "DELAY" {
			return false
		}
	}
	return true
}

// validXtext is printable ASCII with "+" only before two hexadecimal digits
// (RFC 3461 section 4). UTF-8 stands in ORCPT's utf-8 type (RFC 6533).
func validXtext(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c == 0x7f || c == '=':
			return false
		case c == '+' && (i+2 >= len(s) || !hexDigit(s[i+1]) || !hexDigit(s[i+2])):
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}

// validAddrType is an atom (RFC 3461 section 4.2); the known ones, rfc822 and
// utf-8, need no more than this.
func validAddrType(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !digit(c) && c != '-' && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return s != ""
}

func hexDigit(c byte) bool { return digit(c) || 'A' <= c && c <= 'F' }

func cutKeyword(arg, keyword string) (string, bool) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", false
	}
	// A space after the colon is not in the grammar, but common (RFC 5321
	// section 3.3 notes it); it changes nobody's meaning.
	return strings.TrimLeft(arg[len(keyword):], " "), true
}

// cutPath takes "<path>" off the front, with quoted strings and a source
// route, which is dropped (RFC 5321 section 4.1.1.3 and appendix C).
func cutPath(s string) (path, rest string, err error) {
	if !strings.HasPrefix(s, "<") {
		return "", "", errPath
	}
	end := closingBracket(s)
	if end < 0 || end+1 < len(s) && s[end+1] != ' ' {
		return "", "", errPath
	}
	path, rest = s[1:end], s[end+1:]
	if strings.HasPrefix(path, "@") {
		_, after, found := strings.Cut(path, ":")
		if !found {
			return "", "", errPath
		}
		path = after
	}
	return path, rest, nil
}

// closingBracket finds the ">" that is not in a quoted string.
func closingBracket(s string) int {
	inQuotes := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case inQuotes && c == '\\':
			i++
		case c == '"':
			inQuotes = !inQuotes
		case !inQuotes && c == '>':
			return i
		case !inQuotes && c == '<':
			return -1
		}
	}
	return -1
}

// validMailbox is local-part "@" domain (RFC 5321 section 4.1.2).
func validMailbox(s string) bool {
	at := strings.LastIndexByte(s, '@')
	if at < 1 || len(s) > maxPath || !utf8.ValidString(s) {
		return false
	}
	local, domain := s[:at], s[at+1:]
	if strings.HasPrefix(domain, "[") {
		return validLocalPart(local) && validLiteral(domain)
	}
	return validLocalPart(local) && validDomain(domain, false)
}

func validLocalPart(s string) bool {
	if len(s) > maxLocalPart {
		return false
	}
	if s[0] == '"' {
		return validQuoted(s)
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := 0; i < len(atom); i++ {
			if !atext(atom[i]) {
				return false
			}
		}
	}
	return true
}

// atext is RFC 5322 section 3.2.3, with UTF-8 for RFC 6531.
func atext(c byte) bool {
	return c >= 0x80 || digit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
		strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func validQuoted(s string) bool {
	if len(s) < 3 || s[len(s)-1] != '"' {
		return false
	}
	inner := s[1 : len(s)-1]
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c < ' ' || c == 0x7f || c == '"':
			return false
		case c == '\\':
			i++
			if i == len(inner) || inner[i] < ' ' || inner[i] > '~' {
				return false
			}
		}
	}
	return true
}

// validDomain checks letters, digits, hyphens and dots (and UTF-8 labels).
// Underscores are no host name, but are sent in EHLO and exist in domains that
// relays accept.
func validDomain(s string, helo bool) bool {
	if s == "" || len(s) > maxDomain || !utf8.ValidString(s) {
		return false
	}
	if helo {
		s = strings.TrimSuffix(s, ".")
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if c < 0x80 && !digit(c) && c != '-' && c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}

// validLiteral is "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 section 4.1.3).
func validLiteral(s string) bool {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if !ok {
		return false
	}
	if v6, is6 := cutKeywordExact(inner, "IPv6:"); is6 {
		addr, err := netip.ParseAddr(v6)
		return err == nil && addr.Is6() && addr.Zone() == ""
	}
	addr, err := netip.ParseAddr(inner)
	return err == nil && addr.Is4()
}

func cutKeywordExact(s, keyword string) (string, bool) {
	if len(s) < len(keyword) || !strings.EqualFold(s[:len(keyword)], keyword) {
		return s, false
	}
	return s[len(keyword):], true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// quoted makes a client's word fit to stand in a reply.
func quoted(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return strconv.QuoteToASCII(s)
}

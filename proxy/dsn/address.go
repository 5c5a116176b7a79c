package dsn

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Octets that an address field may take before it is cut. RFC 5321 and RFC 3461
// allow a path 254, and ORCPT 500.
const maxAddress = 500

// typedAddress is an address with its type as Final-Recipient has it (RFC 3464
// section 2.3.2). unicode says that the part may hold UTF-8 (RFC 6533 section 3).
func typedAddress(address string, unicode bool) string {
	address = clean(address, maxAddress)
	switch {
	case isASCII(address):
		return "rfc822; " + address
	case unicode:
		return "utf-8; " + address
	}
	return "utf-8; " + escapeUnicode(address, true)
}

// originalAddress is ORCPT as Original-Recipient has it: decoded (RFC 3461
// section 6.3), if what comes out are characters that can be printed. It is
// empty for what is no ORCPT.
func originalAddress(orcpt string, unicode bool) string {
	kind, text, found := strings.Cut(orcpt, ";")
	if kind = clean(kind, 40); !found || kind == "" || text == "" {
		return ""
	}
	utf8Type := strings.EqualFold(kind, "utf-8")
	if utf8Type {
		text = decodeUnicode(text)
	} else {
		text = decodeXtext(text)
	}
	text = clean(text, maxAddress)
	if !unicode {
		text = escapeUnicode(text, utf8Type)
	}
	if !isASCII(kind) {
		kind = "unknown"
	}
	return kind + "; " + text
}

// decodeXtext is RFC 3461 section 4: +2B is a plus sign. What is no xtext, or
// would not be printable, stays as it is.
func decodeXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+3 > len(s) {
				return s
			}
			decoded, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil || decoded[0] < ' ' || decoded[0] > '~' {
				return s
			}
			c, i = decoded[0], i+2
		}
		b.WriteByte(c)
	}
	return b.String()
}

// decodeUnicode takes both quoted forms of a UTF-8 address, utf-8-addr-xtext and
// utf-8-addr-unitext (RFC 6533 section 3), to the address. What is neither stays
// as it is; so do characters that could break a line.
func decodeUnicode(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, `\x{`)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		digits, rest, closed := strings.Cut(after, "}")
		n, err := strconv.ParseUint(digits, 16, 21)
		if !closed || err != nil || len(digits) > 6 || n < ' ' || n == 0x7f || !utf8.ValidRune(rune(n)) {
			b.WriteString(`\x{`)
			s = after
			continue
		}
		b.WriteRune(rune(n))
		s = rest
	}
}

// escapeUnicode writes characters beyond ASCII as \x{HEX}. With quoted it is
// utf-8-addr-xtext, where the few of ASCII that have a meaning there are
// written so too.
func escapeUnicode(s string, quoted bool) string {
	var b strings.Builder
	for _, r := range s {
		if r >= utf8.RuneSelf || quoted && strings.ContainsRune(` \+=`, r) {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

package dsn

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Two invisible characters that languages need, in addresses too (RFC 5892
// appendix A).
const zwnj, zwj = '\u200c', '\u200d'

// Lengths of lines, CRLF not counted.
const (
	maxLine    = 998 // octets (RFC 5322 section 2.1.1)
	foldAt     = 76  // octets; there 78 are asked for
	wrapAt     = 72  // characters, in text for people
	maxWord    = 900 // octets of a word that is not broken; with a field name it fits a line
	truncation = "..."
)

// clean makes a stranger's words fit to stand in a line: valid UTF-8 of
// printable characters and spaces, at most limit octets. Line ends and other
// white space become spaces; controls and what would turn the direction of
// writing become question marks.
func clean(s string, limit int) string {
	if len(s) > limit {
		s = cut(s, limit-len(truncation)) + truncation
	}
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r), r == zwnj, r == zwj:
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return '?'
	}, s)
}

// cut takes at most limit octets of s and no part of a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// appendField appends a field, folded at spaces (RFC 5322 section 2.2.3). Runs
// of spaces become one. Words must be clean; one that fills a line by itself is
// broken.
func appendField(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ':')
	column, words := len(name)+1, 0 // of this line
	for word := range breakWords(value) {
		if words > 0 && column+1+len(word) > foldAt {
			dst, column, words = append(dst, "\r\n"...), 0, 0
		}
		dst = append(append(dst, ' '), word...)
		column, words = column+1+len(word), words+1
	}
	return append(dst, "\r\n"...)
}

// appendWhole appends a field that is not folded, for addresses: a space in a
// quoted local part counts. The value must be clean.
func appendWhole(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, cut(value, maxWord)...), "\r\n"...)
}

// prose is text for people under construction.
type prose struct{ strings.Builder }

// paragraph writes text wrapped to lines, each after indent. The text must be
// clean.
func (p *prose) paragraph(indent, text string) {
	column, words := 0, 0 // of this line
	for word := range breakWords(text) {
		width := utf8.RuneCountInString(word)
		if words > 0 && column+1+width > wrapAt {
			p.empty()
			words = 0
		}
		if words == 0 {
			p.WriteString(indent)
			column = len(indent)
		} else {
			p.WriteByte(' ')
			column++
		}
		p.WriteString(word)
		column, words = column+width, words+1
	}
	p.empty()
}

// breakWords gives the words of s, and those longer than maxWord in pieces.
func breakWords(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for word := range strings.FieldsSeq(s) {
			for len(word) > maxWord {
				head := cut(word, maxWord)
				if !yield(head) {
					return
				}
				word = word[len(head):]
			}
			if !yield(word) {
				return
			}
		}
	}
}

// line writes text as it is.
func (p *prose) line(text string) {
	p.WriteString(text)
	p.WriteString("\r\n")
}

func (p *prose) empty() { p.WriteString("\r\n") }

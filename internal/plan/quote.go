package plan

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Quote is a TOML basic string (TOML 1.0, section String) in which everything
// that does not print is escaped. What is not UTF-8 becomes U+FFFD.
func Quote(text string) string { return `"` + escape(text, `"\`) + `"` }

// Show is a text that may stand in a comment: in one line, and with what could
// steer a terminal escaped.
func Show(text string) string { return escape(text, "") }

func escape(text, special string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case strings.ContainsRune(special, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case !hidden(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	return b.String()
}

func quoteAll(texts []string) string {
	var quoted []string
	for _, text := range texts {
		quoted = append(quoted, Quote(text))
	}
	return strings.Join(quoted, ", ")
}

// hidden are the characters that may do something else than print.
func hidden(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

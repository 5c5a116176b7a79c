package config

import (
	"bytes"
	"errors"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// source is the text of the file, and collects what is wrong with it.
type source struct {
	file     string
	text     []byte
	starts   []int // offset of each line
	problems []Problem
}

func newSource(file string, text []byte) *source {
	s := &source{file: file, text: text, starts: []int{0}}
	for i, c := range text {
		if c == '\n' {
			s.starts = append(s.starts, i+1)
		}
	}
	return s
}

// lineAt returns the line, from 1, that holds the byte at offset.
func (s *source) lineAt(offset int) int {
	return sort.SearchInts(s.starts, offset+1)
}

// flaw is what is wrong with a value, and what to write instead.
type flaw struct{ message, hint string }

// Error implements error.
func (f flaw) Error() string { return f.message }

// problem records an error.
func (s *source) problem(line int, key string, f flaw) {
	s.problems = append(s.problems, Problem{s.file, line, key, f.message, f.hint, Error})
}

// warn records a warning.
func (s *source) warn(line int, key string, f flaw) {
	s.problems = append(s.problems, Problem{s.file, line, key, f.message, f.hint, Warning})
}

// parseTree reads the whole text. After a syntax error it goes on at the next
// table header, so that one slip of the pen does not hide the other problems;
// complete is false then, and what is absent from the tree proves nothing.
func parseTree(s *source) (root *value, complete bool) {
	root = &value{kind: kindTable, line: 1, origin: byHeader}
	b := &builder{source: s, root: root, current: root}
	complete = true
	for rest := s.text; rest != nil; {
		offset, err := b.expressions(rest)
		if err == nil {
			break
		}
		complete = false
		s.problem(s.lineAt(offset), "", explainSyntax(err))
		rest = nextHeader(s.text, offset)
	}
	return root, complete
}

// expressions adds what rest, a tail of the text, holds. For a syntax error it
// returns where that is.
func (b *builder) expressions(rest []byte) (offset int, err error) {
	var parser unstable.Parser
	parser.Reset(rest)
	b.shift = len(b.text) - len(rest)
	for parser.NextExpression() {
		b.expression(parser.Expression())
	}
	var syntax *unstable.ParserError
	if !errors.As(parser.Error(), &syntax) {
		return 0, parser.Error()
	}
	// A highlight is a slice of the text, so its capacity tells where it
	// begins.
	offset = cap(b.text) - cap(syntax.Highlight)
	return min(max(offset, b.shift), len(b.text)), syntax
}

// nextHeader returns the text from the first line after offset that begins with
// a table header, or nil.
func nextHeader(text []byte, offset int) []byte {
	for {
		end := bytes.IndexByte(text[offset:], '\n')
		if end < 0 {
			return nil
		}
		offset += end + 1
		if bytes.HasPrefix(bytes.TrimLeft(text[offset:], " \t"), []byte("[")) {
			return text[offset:]
		}
	}
}

// explainSyntax turns the parser's message into ours. The parser quotes the
// character that it did not expect, which may be the first of a password
// without quotes; we never quote.
func explainSyntax(err error) flaw {
	message := err.Error()
	for _, known := range []struct {
		start string
		flaw  flaw
	}{
		{"unexpected character U+000A", flaw{"the value is missing", `write key = "value"`}},
		{"unexpected character", flaw{"the value is neither a string, a number, true or false, a list nor a table",
			`put a string between quotes: key = "value"`}},
		{"expected keyword", flaw{"the value is neither a string, a number, true or false, a list nor a table",
			`put a string between quotes: key = "value"`}},
		{"strings must be quoted", flaw{"the value is a string without quotes",
			`put a string between quotes: key = "value"`}},
		{"expected value, not end", flaw{"the value is missing", `write key = "value"`}},
		{"expected newline", flaw{"something follows the value on the same line",
			"put each key on a line of its own, and a string between quotes"}},
		{"expected digit", flaw{"the number is malformed", `put a string between quotes: key = "value"`}},
		{"expected value but", flaw{"the list has a comma without a value", "remove the comma"}},
		{"expected '='", flaw{"the key has no value", `write key = "value"`}},
		{"invalid character at start of key", flaw{"the line does not begin with a key",
			`write key = "value", or begin a comment with #`}},
		{"invalid escape character", flaw{`the string has an unknown escape after \`,
			`write \\ for a backslash, or put the string between single quotes`}},
		{"basic strings cannot have new lines", flaw{"the string has no closing quote on its line", `end it with "`}},
		{"literal strings cannot have new lines", flaw{"the string has no closing quote on its line", "end it with '"}},
		{"array is incomplete", flaw{"the list is not closed", "end it with ]"}},
		{"expected ',' or ']'", flaw{"the list lacks a comma or its end",
			"put a comma between the values and ] at the end"}},
		{"inline table is incomplete", flaw{"the table is not closed", "end it with }"}},
		{"expected ',' or '}'", flaw{"the table lacks a comma or its end",
			"put a comma between the keys and } at the end"}},
	} {
		if strings.HasPrefix(message, known.start) {
			return known.flaw
		}
	}
	before, _, _ := strings.Cut(message, " but got ")
	return flaw{"not TOML: " + before, "see https://toml.io for how TOML is written"}
}

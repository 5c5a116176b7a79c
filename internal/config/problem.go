package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a problem stops us.
type Severity string

// Severities.
const (
	Error   Severity = "error"   // the configuration is refused
	Warning Severity = "warning" // it works, but surely not as meant
)

// Problem is one thing to tell the administrator about the file. It never
// contains a secret, or what may be one.
type Problem struct {
	File     string
	Line     int    // from 1; 0 where no line is to blame
	Key      string // dotted, "relay.main.tls"; "" where no key is to blame
	Message  string
	Hint     string // what to write or do instead; may be ""
	Severity Severity
}

// String returns the problem on one line, without the hint: `smtpwall.toml:12:
// relay.main.tls: unknown value "on"`.
func (p Problem) String() string {
	var text strings.Builder
	text.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&text, ":%d", p.Line)
	}
	text.WriteString(": ")
	if p.Key != "" {
		text.WriteString(p.Key + ": ")
	}
	text.WriteString(p.Message)
	return text.String()
}

// HasErrors reports whether a problem among them stops us.
func HasErrors(problems []Problem) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Severity == Error })
}

// sortProblems puts problems in the order of the file.
func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
}

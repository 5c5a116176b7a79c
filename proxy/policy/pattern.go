package policy

import (
	"strings"
	"unicode/utf8"
)

// pattern is a glob: * stands for any number of characters, ? for one. There is
// no escape; neither occurs in names that the system gives.
type pattern struct {
	text  string
	shape shape
}

// shape lets the usual patterns go without the general search.
type shape uint8

const (
	general  shape = iota
	literal        // no wildcard
	prefix         // text, then one *
	suffix         // one *, then text
	anything       // *
)

func newPattern(text string) pattern {
	stars, marks := strings.Count(text, "*"), strings.Contains(text, "?")
	switch {
	case marks || stars > 1:
		return pattern{text, general}
	case stars == 0:
		return pattern{text, literal}
	case text == "*":
		return pattern{text, anything}
	case strings.HasSuffix(text, "*"):
		return pattern{text[:len(text)-1], prefix}
	case strings.HasPrefix(text, "*"):
		return pattern{text[1:], suffix}
	}
	return pattern{text, general}
}

// String is the pattern as it was written.
func (p *pattern) String() string {
	switch p.shape {
	case anything:
		return "*"
	case prefix:
		return p.text + "*"
	case suffix:
		return "*" + p.text
	}
	return p.text
}

func (p *pattern) fit(s string) bool {
	switch p.shape {
	case anything:
		return true
	case literal:
		return s == p.text
	case prefix:
		return strings.HasPrefix(s, p.text)
	case suffix:
		return strings.HasSuffix(s, p.text)
	}
	return fitGlob(p.text, s)
}

// fitGlob goes back to the last star only, so it takes at most
// len(glob)*len(s) steps.
func fitGlob(glob, s string) bool {
	star, resume := -1, 0 // the last star in glob, and where in s it is tried to end
	g, i := 0, 0
	for i < len(s) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, resume = g, i
			g++
		case g < len(glob) && glob[g] == '?':
			g, i = g+1, i+runeLen(s[i:])
		case g < len(glob) && glob[g] == s[i]:
			g, i = g+1, i+1
		case star >= 0:
			resume += runeLen(s[resume:])
			g, i = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}

func runeLen(s string) int {
	_, size := utf8.DecodeRuneInString(s)
	return size
}

// patterns is one list of a Match; the empty list fits anything.
type patterns []pattern

// fit tells whether one of the patterns fits s. An absent attribute (empty)
// fits none.
func (list patterns) fit(s string) bool {
	if len(list) == 0 {
		return true
	}
	return s != "" && list.find(s) != nil
}

// find returns the first pattern that fits s, nil if none does.
func (list patterns) find(s string) *pattern {
	for i := range list {
		if list[i].fit(s) {
			return &list[i]
		}
	}
	return nil
}

// String is the list as a person reads it.
func (list patterns) String() string {
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = list[i].String()
	}
	return strings.Join(texts, ", ")
}

// fitAny is fit for an attribute of several values.
func (list patterns) fitAny(values []string) bool {
	if len(list) == 0 {
		return true
	}
	for _, value := range values {
		if list.fit(value) {
			return true
		}
	}
	return false
}

package config

import (
	"fmt"
	"strings"
)

// option is one word that a key may have.
type option struct {
	word  string
	doc   string
	later bool // named in our documents, but not built yet
}

// enum binds one word of several.
type enum[T ~string] struct {
	into    *T
	options []option
}

func (b enum[T]) decode(d *decoder, at place, v *value) {
	words := b.words()
	if v.kind != kindString {
		d.problem(v.line, at.key, flaw{fmt.Sprintf("must be %s, not %s", b.describe(), v.kind),
			fmt.Sprintf("write %s = %q", lastPart(at.key), words[0])})
		return
	}
	for _, option := range b.options {
		switch {
		case option.word != v.text:
		case option.later:
			d.problem(v.line, at.key, unavailable(quote(v.text), "use "+b.describe()))
			return
		default:
			*b.into = T(v.text)
			return
		}
	}
	d.problem(v.line, at.key, flaw{fmt.Sprintf("unknown value %q", v.text), meant(v.text, words, "use "+b.describe())})
}

// words returns the words that may be written.
func (b enum[T]) words() []string {
	var words []string
	for _, option := range b.options {
		if !option.later {
			words = append(words, option.word)
		}
	}
	return words
}

func (b enum[T]) describe() string { return alternatives(b.words()) }

func (b enum[T]) show() string { return quoteSet(string(*b.into)) }

// chooser is a binding whose values are words with a meaning each.
type chooser interface{ choices() []option }

func (b enum[T]) choices() []option { return b.options }

// alternatives writes `"a", "b" or "c"`.
func alternatives(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = quote(word)
	}
	last := len(quoted) - 1
	if last == 0 {
		return quoted[0]
	}
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// meant is a hint that offers the nearest of words, and else says what fallback
// does.
func meant(text string, words []string, fallback string) string {
	if near := suggest(text, words); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return fallback
}

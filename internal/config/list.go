package config

import (
	"fmt"
	"strings"
)

// list fills a list from a TOML list, whose elements are strings, or whole numbers too where numbers is set.
type list[T any] struct {
	into    *[]T
	numbers bool
	noun    string // of one element, "an address"
	sample  string // one element in TOML
	parse   func(text string) (T, error)
	print   func(T) string // in TOML
}

func (b list[T]) decode(d *decoder, at place, v *value) {
	if v.kind != kindArray {
		sample := b.sample
		if b.accepts(v) && v.kind == kindString {
			sample = quote(v.text)
		}
		d.problem(v.line, at.key, flaw{"must be a list, not " + v.kind.String(), fmt.Sprintf("write %s = [%s]", lastPart(at.key), sample)})
		return
	}
	elements := make([]T, 0, len(v.items))
	seen := make(map[string]bool, len(v.items))
	for _, item := range v.items {
		if !b.accepts(item) {
			d.problem(item.line, at.key, flaw{fmt.Sprintf("must be a list of strings, but holds %s", item.kind), fmt.Sprintf("write %s = [%s]", lastPart(at.key), b.sample)})
			continue
		}
		element, err := b.parse(item.text)
		switch {
		case err != nil:
			d.problem(item.line, at.key, asFlaw(err))
		case seen[b.print(element)]:
			d.problem(item.line, at.key, flaw{b.print(element) + " is listed twice", "keep one of the two"})
		default:
			seen[b.print(element)] = true
			elements = append(elements, element)
		}
	}
	*b.into = elements
}

// accepts reports whether item has the kind of an element.
func (b list[T]) accepts(item *value) bool {
	return item.kind == kindString || b.numbers && item.kind == kindInteger
}

func (b list[T]) describe() string {
	return fmt.Sprintf("a list, each element %s such as %s", b.noun, b.sample)
}

func (b list[T]) show() string {
	shown := make([]string, len(*b.into))
	for i, element := range *b.into {
		shown[i] = b.print(element)
	}
	return "[" + strings.Join(shown, ", ") + "]"
}

// texts binds a list of strings that check accepts.
func texts(into *[]string, noun, sample string, check func(string) error) binding {
	return list[string]{into, false, noun, quote(sample), func(text string) (string, error) {
		return text, check(text)
	}, quote}
}

// nothing binds a list that must stay empty in this version.
type nothing struct{ remedy string }

func (b nothing) decode(d *decoder, at place, v *value) {
	if v.kind != kindArray || len(v.items) > 0 {
		d.problem(v.line, at.key, unavailable("anything but []", b.remedy))
	}
}

func (b nothing) describe() string {
	return "an empty list; other values are not available in this version"
}

func (b nothing) show() string { return "[]" }

// later binds a key that our documents name and this version does not have.
type later struct{ remedy string }

func (b later) decode(d *decoder, at place, v *value) {
	d.problem(at.line, at.key, unavailable(lastPart(at.key), b.remedy))
}

func (later) describe() string { return "" }

func (later) show() string { return "" }

// group binds an inline table, or a table of its own, to several keys.
type group struct {
	fields []field
	noun   string
	sample string
}

func (b group) decode(d *decoder, at place, v *value) {
	if v.kind != kindTable {
		d.problem(v.line, at.key, flaw{fmt.Sprintf("must be a table, not %s", v.kind), fmt.Sprintf("write %s = %s", lastPart(at.key), b.sample)})
		return
	}
	d.fill(at.key, v, section{fields: b.fields})
}

func (b group) describe() string { return b.noun + " such as " + b.sample }

func (b group) show() string { return "" }

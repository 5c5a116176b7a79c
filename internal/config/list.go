package config

import (
	"fmt"
	"strings"
)

// list fills a list from a TOML list, whose elements are strings, or whole
// numbers too where numbers is set.
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
		d.problem(v.line, at.key, flaw{"must be a list, not " + v.kind.String(),
			fmt.Sprintf("write %s = [%s]", lastPart(at.key), sample)})
		return
	}
	elements := make([]T, 0, len(v.items))
	seen := make(map[string]bool, len(v.items))
	for _, item := range v.items {
		if !b.accepts(item) {
			d.problem(item.line, at.key, flaw{fmt.Sprintf("must be a list of strings, but holds %s", item.kind),
				fmt.Sprintf("write %s = [%s]", lastPart(at.key), b.sample)})
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

// oneOrMore is list for a key that mostly has one element, which may stand there
// without brackets.
type oneOrMore[T any] struct{ list[T] }

func (b oneOrMore[T]) decode(d *decoder, at place, v *value) {
	if b.accepts(v) {
		v = &value{kind: kindArray, line: v.line, items: []*value{v}}
	}
	b.list.decode(d, at, v)
}

func (b oneOrMore[T]) describe() string {
	return fmt.Sprintf("%s such as %s, or a list of them", b.noun, b.sample)
}

// texts binds a list of strings that check accepts.
func texts(into *[]string, noun, sample string, check func(string) error) binding {
	return list[string]{into, false, noun, quote(sample), func(text string) (string, error) {
		return text, check(text)
	}, quote}
}

package config

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is what a value is in TOML.
type kind uint8

const (
	kindTable  kind = iota
	kindTables      // [[array of tables]]
	kindArray       // [array, of, values]
	kindString
	kindInteger
	kindBool
	kindTime  // with its offset from UTC
	kindOther // float, or date or time without an offset: no key has one
)

// String names the kind as messages do.
func (k kind) String() string {
	return [...]string{"a table", "a list of tables", "a list", "a string", "a number", "true or false", "a time", "another kind of value"}[k]
}

// value is one TOML value with its place in the file.
type value struct {
	kind    kind
	line    int
	text    string   // of a scalar, unquoted
	items   []*value // of kindTables and kindArray
	members []member // of kindTable, in the order of the file
	origin  origin   // of kindTable
}

// member is one key of a table.
type member struct {
	name  string
	line  int
	value *value
}

// origin says what made a table, because TOML lets only some tables be opened
// or extended again.
type origin uint8

const (
	implied  origin = iota // by the header of a table below it
	byHeader               // by its own header
	byDots                 // by a dotted key
	inlined                // by { … }
)

// member returns the key with name, or nil.
func (v *value) member(name string) *member {
	for i := range v.members {
		if v.members[i].name == name {
			return &v.members[i]
		}
	}
	return nil
}

// add appends a key that is not there yet and returns its value.
func (v *value) add(name string, line int, child *value) *value {
	v.members = append(v.members, member{name, line, child})
	return child
}

// builder grows the tree, one expression at a time.
type builder struct {
	*source
	root    *value
	current *value // the table that keys go to
	prefix  string // its dotted name
	shift   int    // offset in the file of what the parser calls 0
}

// lineOf returns the line where a node of the parser stands.
func (b *builder) lineOf(node *unstable.Node) int {
	return b.lineAt(b.shift + int(node.Raw.Offset))
}

// expression adds one table header or one key with its value.
func (b *builder) expression(node *unstable.Node) {
	names, line := b.key(node.Key())
	switch node.Kind {
	case unstable.Table:
		b.prefix = strings.Join(names, ".")
		b.current = b.openTable(names, line)
	case unstable.ArrayTable:
		b.prefix = strings.Join(names, ".")
		b.current = b.openElement(names, line)
	case unstable.KeyValue:
		b.assign(b.current, b.prefix, &assignment{names, line, node.Value()})
	}
}

// key returns the parts of a dotted key and the line it stands in.
func (b *builder) key(parts unstable.Iterator) (names []string, line int) {
	for parts.Next() {
		names = append(names, string(parts.Node().Data))
		line = b.lineOf(parts.Node())
	}
	return names, line
}

// openTable handles [a.b.c]. A header that cannot be honoured is reported, and
// its keys go nowhere.
func (b *builder) openTable(names []string, line int) *value {
	nowhere := &value{kind: kindTable, line: line}
	parent := b.walk(names, line)
	if parent == nil {
		return nowhere
	}
	last := names[len(names)-1]
	known := parent.member(last)
	switch {
	case known == nil:
		return parent.add(last, line, &value{kind: kindTable, line: line, origin: byHeader})
	case known.value.kind == kindTable && known.value.origin == implied:
		known.value.origin, known.value.line = byHeader, line
		return known.value
	case known.value.kind == kindTables:
		b.problem(line, b.prefix, flaw{"is a list of tables here and one table there",
			"write [[" + b.prefix + "]] each time"})
	default:
		b.duplicate(line, b.prefix, known.line)
	}
	return nowhere
}

// openElement handles [[a.b.c]].
func (b *builder) openElement(names []string, line int) *value {
	element := &value{kind: kindTable, line: line, origin: byHeader}
	parent := b.walk(names, line)
	if parent == nil {
		return element
	}
	last := names[len(names)-1]
	known := parent.member(last)
	switch {
	case known == nil:
		parent.add(last, line, &value{kind: kindTables, line: line, items: []*value{element}})
	case known.value.kind == kindTables:
		known.value.items = append(known.value.items, element)
	default:
		b.duplicate(line, b.prefix, known.line)
	}
	return element
}

// walk returns the table that holds the last of names, or nil after reporting
// why there is none.
func (b *builder) walk(names []string, line int) *value {
	table := b.root
	for i, name := range names[:len(names)-1] {
		known := table.member(name)
		switch {
		case known == nil:
			table = table.add(name, line, &value{kind: kindTable, line: line, origin: implied})
		case known.value.kind == kindTable && known.value.origin != inlined:
			table = known.value
		case known.value.kind == kindTables:
			table = known.value.items[len(known.value.items)-1]
		default:
			outer := strings.Join(names[:i+1], ".")
			b.problem(line, b.prefix, flaw{fmt.Sprintf("%s was given a value in line %d and cannot be a table too", outer, known.line),
				"keep one of the two"})
			return nil
		}
	}
	return table
}

// assignment is a.b = value, not yet in the tree.
type assignment struct {
	names []string
	line  int
	node  *unstable.Node
}

// assign adds a key and its value to a table, whose dotted name is outer.
func (b *builder) assign(table *value, outer string, a *assignment) {
	key := joinKey(outer, strings.Join(a.names, "."))
	for _, name := range a.names[:len(a.names)-1] {
		known := table.member(name)
		switch {
		case known == nil:
			table = table.add(name, a.line, &value{kind: kindTable, line: a.line, origin: byDots})
		case known.value.kind == kindTable && known.value.origin == byDots:
			table = known.value
		default:
			b.duplicate(a.line, key, known.line)
			return
		}
	}
	last := a.names[len(a.names)-1]
	if known := table.member(last); known != nil {
		b.duplicate(a.line, key, known.line)
		return
	}
	table.add(last, a.line, b.convert(a.node, key, a.line))
}

// convert copies the value of key out of the parser, whose nodes live until the
// next expression only. line is that of what surrounds it, for nodes that carry
// no place of their own.
func (b *builder) convert(node *unstable.Node, key string, line int) *value {
	if node.Raw.Length > 0 {
		line = b.lineOf(node)
	}
	v := &value{line: line, text: string(node.Data)}
	switch node.Kind {
	case unstable.String:
		v.kind = kindString
	case unstable.Integer:
		v.kind = kindInteger
	case unstable.Bool:
		v.kind = kindBool
	case unstable.DateTime:
		v.kind = kindTime
	case unstable.Array:
		v.kind = kindArray
		for children := node.Children(); children.Next(); {
			v.items = append(v.items, b.convert(children.Node(), key, line))
		}
	case unstable.InlineTable:
		v.kind = kindTable
		for children := node.Children(); children.Next(); {
			names, line := b.key(children.Node().Key())
			b.assign(v, key, &assignment{names, line, children.Node().Value()})
		}
		v.origin = inlined
	default:
		v.kind = kindOther
	}
	return v
}

// duplicate reports a second definition.
func (b *builder) duplicate(line int, key string, first int) {
	b.problem(line, key, flaw{fmt.Sprintf("already given in line %d", first), "keep one of the two"})
}

// joinKey returns the dotted name of key inside of table.
func joinKey(table, key string) string {
	switch "" {
	case table:
		return key
	case key:
		return table
	}
	return table + "." + key
}

package config

import (
	"fmt"
	"slices"
	"strings"
)

// field is one key: the value it fills and what the manual says about it.
type field struct {
	name    string
	binding binding
	doc     string // sentences; the first one, which names no default, goes into the example
	example string // TOML for the example where the default is empty
	instead bool   // it stands instead of another key, and so not in the example
}

// shape says how the tables of a section are written.
type shape uint8

const (
	plain    shape = iota // [name]
	named                 // [name.NAME], any number
	repeated              // [[name]], any number
)

// section is one kind of table.
type section struct {
	name     string // dotted, "policy.rule"; "" for the keys before the first header
	shape    shape
	doc      string
	fields   []field   // of a named or repeated section: bound to a specimen, for the documents
	sections []section // tables below this one
	// open makes a new element of a named or repeated section and returns the
	// fields bound to it.
	open func(d *decoder, name string, at ref) []field
	// later is the remedy for a section that this version does not have.
	later string
}

// header returns how the section's table is opened.
func (s section) header() string {
	switch s.shape {
	case named:
		return "[" + s.name + ".NAME]"
	case repeated:
		return "[[" + s.name + "]]"
	default:
		return "[" + s.name + "]"
	}
}

// ref is where a table stands, for checks that look at several keys of it.
type ref struct {
	key   string
	table *value
}

// at returns the place of a key in the table, or of the table where it has no
// such key.
func (r ref) at(name string) place {
	if r.table == nil {
		return place{joinKey(r.key, name), 0}
	}
	if known := r.table.member(name); known != nil {
		return place{joinKey(r.key, name), known.line}
	}
	return place{joinKey(r.key, name), r.table.line}
}

// element returns the place of a string in a list, whatever its case.
func (r ref) element(name, text string) place {
	at := r.at(name)
	if r.has(name) {
		for _, item := range r.table.member(name).value.items {
			if strings.EqualFold(item.text, text) {
				at.line = item.line
			}
		}
	}
	return at
}

// has reports whether the table has the key.
func (r ref) has(name string) bool { return r.table != nil && r.table.member(name) != nil }

// decoder fills a Config from a tree.
type decoder struct {
	*source
	options  Options
	config   *Config
	tables   map[string]ref // plain tables by their name
	relays   []ref          // as config.Relays
	allows   []ref          // as config.Firewall.Allow
	accounts []ref          // as config.Accounts
	rules    []ref          // as config.Policy.Rules
	expects  []ref          // as config.Expects
	filters  []ref          // as config.Filters
	alerts   []ref          // as config.Alerts

	// otherIssuers are those of fallbacks, which become part of the config in the
	// end: the keys of the first issuer may come after them.
	otherIssuers []Issuer
	fallbacks    []ref // as otherIssuers
}

// table returns where a plain table stands.
func (d *decoder) table(name string) ref {
	if known, ok := d.tables[name]; ok {
		return known
	}
	return ref{key: name}
}

// fill decodes one table by its section.
func (d *decoder) fill(key string, table *value, s section) {
	for _, m := range table.members {
		at := place{joinKey(key, m.name), m.line}
		if i := slices.IndexFunc(s.fields, func(f field) bool { return f.name == m.name }); i >= 0 {
			s.fields[i].binding.decode(d, at, m.value)
			continue
		}
		if i := slices.IndexFunc(s.sections, func(below section) bool { return below.name == at.key }); i >= 0 {
			d.descend(at, m.value, s.sections[i])
			continue
		}
		d.unknown(at, m.name, s)
	}
}

// descend decodes the table or tables of one section.
func (d *decoder) descend(at place, v *value, s section) {
	want := kindTable
	if s.shape == repeated {
		want = kindTables
	}
	switch {
	case s.later != "":
		d.problem(at.line, at.key, unavailable(s.header(), s.later))
	case s.shape == repeated && v.kind == kindArray:
		d.repeat(at, v, s) // rule = [{ … }], which TOML gives the same meaning
	case v.kind != want:
		d.problem(at.line, at.key, flaw{fmt.Sprintf("must be %s, not %s", want, v.kind), "write " + s.header()})
	case s.shape == plain:
		d.tables[s.name] = ref{at.key, v}
		d.fill(at.key, v, s)
	case s.shape == named:
		d.name(v, s)
	default:
		d.repeat(at, v, s)
	}
}

// name decodes [section.NAME] for each name.
func (d *decoder) name(v *value, s section) {
	for _, m := range v.members {
		key := joinKey(s.name, m.name)
		switch {
		case m.value.kind == kindTables:
			d.problem(m.line, key, flaw{"must be a table, not a list of tables",
				"write [" + key + "], with single brackets"})
		case m.value.kind != kindTable:
			d.problem(m.line, key, flaw{"the table has no name",
				fmt.Sprintf("write [%s.main], with a name of your own for main", s.name)})
		default:
			fields := s.open(d, m.name, ref{key, m.value})
			d.fill(key, m.value, section{name: key, fields: fields})
		}
	}
}

// repeat decodes each [[section]].
func (d *decoder) repeat(at place, v *value, s section) {
	for _, item := range v.items {
		if item.kind != kindTable {
			d.problem(item.line, at.key, flaw{fmt.Sprintf("must be a table, not %s", item.kind), "write " + s.header()})
			continue
		}
		fields := s.open(d, "", ref{at.key, item})
		d.fill(at.key, item, section{name: s.name, fields: fields, sections: s.sections})
	}
}

// unknown reports a key that nobody knows, and where it may have been meant to
// be.
func (d *decoder) unknown(at place, name string, s section) {
	var words []string
	for _, f := range s.fields {
		words = append(words, f.name)
	}
	for _, below := range s.sections {
		words = append(words, lastPart(below.name))
	}
	hint := meant(name, words, elsewhere(name, s))
	d.problem(at.line, at.key, flaw{"unknown key", hint})
}

// elsewhere is a hint that names a table which does have the key, those inside
// of the table where it stands before others.
func elsewhere(name string, where section) string {
	for _, s := range slices.Concat(flatten(where), flatten(schema(Default()))) {
		if slices.ContainsFunc(s.fields, func(f field) bool { return f.name == name }) {
			if s.name == "" {
				return fmt.Sprintf("%s stands before the first table header", name)
			}
			return fmt.Sprintf("%s belongs to %s", name, s.header())
		}
		if lastPart(s.name) == name {
			return "write " + s.header()
		}
	}
	return "smtpwall.toml(5) lists all keys"
}

// flatten returns a section and all below it, in the order of the documents.
func flatten(s section) []section {
	all := []section{s}
	for _, below := range s.sections {
		all = append(all, flatten(below)...)
	}
	return all
}

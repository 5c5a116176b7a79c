package config

import (
	"fmt"
	"strings"
)

// group binds an inline table, or a table of its own, to several keys.
type group struct {
	fields []field
	noun   string
	sample string
}

func (b group) decode(d *decoder, at place, v *value) {
	if v.kind != kindTable {
		d.problem(v.line, at.key, flaw{fmt.Sprintf("must be a table, not %s", v.kind),
			fmt.Sprintf("write %s = %s", lastPart(at.key), b.sample)})
		return
	}
	d.fill(at.key, v, section{fields: b.fields})
}

func (b group) describe() string { return b.noun + " such as " + b.sample }

func (b group) show() string { return "" }

// inline writes what is stored now as an inline table.
func (b group) inline() string {
	var keys []string
	for _, f := range b.fields {
		keys = append(keys, f.name+" = "+f.binding.show())
	}
	return "{ " + strings.Join(keys, ", ") + " }"
}

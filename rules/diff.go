package rules

import (
	"fmt"
	"slices"
)

// Drift is one difference between the kernel's rules and the wanted ones.
type Drift struct {
	Table  string
	Object string // as in: set relay4, chain outgoing; empty for the table itself
	Change Change
	Detail string // the rule or element, as nft prints it; may be empty
}

// Change is what happened to an object or to a part of it.
type Change string

// Changes, from the view of the kernel.
const (
	Missing Change = "missing"
	Added   Change = "foreign"
	Altered Change = "altered"
)

// String returns the drift as a line for a log.
func (d Drift) String() string {
	s := fmt.Sprintf("table inet %s", d.Table)
	if d.Object != "" {
		s += " " + d.Object
	}
	s += ": " + string(d.Change)
	if d.Detail != "" {
		s += ": " + d.Detail
	}
	return s
}

// Diff returns where have, which was read from the kernel, differs from want.
// What dynamic sets hold and what counters count is no difference.
func Diff(have, want Ruleset) []Drift {
	d := differ{table: want.Table}
	if have.Table == "" {
		d.add("", Missing, "")
		return d.drifts
	}
	if have.Owned != want.Owned {
		d.add("", Altered, "ownership")
	}
	for _, o := range have.Others {
		d.add(o, Added, "")
	}
	d.counters(have.Counters, want.Counters)
	d.closing(have.Closing, want.Closing)
	d.sets(have, want)
	d.chains(have, want)
	return d.drifts
}

type differ struct {
	table  string
	drifts []Drift
}

func (d *differ) add(object string, change Change, detail string) {
	d.drifts = append(d.drifts, Drift{d.table, object, change, detail})
}

func (d *differ) counters(have, want []string) {
	for _, c := range want {
		if !slices.Contains(have, c) {
			d.add("counter "+c, Missing, "")
		}
	}
	for _, c := range have {
		if !slices.Contains(want, c) {
			d.add("counter "+c, Added, "")
		}
	}
}

func (d *differ) closing(have, want bool) {
	switch {
	case want && !have:
		d.add("ct timeout "+Closing, Missing, "")
	case have && !want:
		d.add("ct timeout "+Closing, Added, "")
	}
}

func (d *differ) sets(have, want Ruleset) {
	for _, w := range want.Sets {
		h, ok := have.Set(w.Name)
		switch {
		case !ok:
			d.add("set "+w.Name, Missing, "")
		case !h.SameShape(w):
			d.add("set "+w.Name, Altered, "")
		case !w.Dynamic:
			d.list("set "+w.Name, texts(h.Elements), texts(w.Elements))
		}
	}
	for _, h := range have.Sets {
		if _, ok := want.Set(h.Name); !ok {
			d.add("set "+h.Name, Added, "")
		}
	}
}

func (d *differ) chains(have, want Ruleset) {
	for _, w := range want.Chains {
		h, ok := have.Chain(w.Name)
		switch {
		case !ok:
			d.add("chain "+w.Name, Missing, "")
		case !h.SameShape(w):
			d.add("chain "+w.Name, Altered, "")
		default:
			d.rules("chain "+w.Name, texts(h.Rules), texts(w.Rules))
		}
	}
	for _, h := range have.Chains {
		if _, ok := want.Chain(h.Name); !ok {
			d.add("chain "+h.Name, Added, "")
		}
	}
}

// rules compares lists whose order counts.
func (d *differ) rules(object string, have, want []string) {
	before := len(d.drifts)
	d.list(object, have, want)
	if len(d.drifts) == before && !slices.Equal(have, want) {
		d.add(object, Altered, "order or number of rules")
	}
}

func (d *differ) list(object string, have, want []string) {
	for _, w := range want {
		if !slices.Contains(have, w) {
			d.add(object, Missing, w)
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			d.add(object, Added, h)
		}
	}
}

// SameShape tells whether two sets differ in their elements only.
func (s Set) SameShape(o Set) bool {
	return dataTypes(s.Key) == dataTypes(o.Key) && s.Dynamic == o.Dynamic && s.Ranges == o.Ranges && s.Counter == o.Counter &&
		s.Timeout == o.Timeout && s.Size == o.Size
}

// SameShape tells whether two chains differ in their rules only.
func (c Chain) SameShape(o Chain) bool {
	if c.Base == nil || o.Base == nil {
		return c.Base == o.Base
	}
	return *c.Base == *o.Base
}

func texts[T fmt.Stringer](items []T) []string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = item.String()
	}
	return out
}

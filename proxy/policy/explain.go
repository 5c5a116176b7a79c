package policy

import (
	"fmt"
	"strings"
)

// Step says how one rule looks at an identity.
type Step struct {
	Rule    string `json:"rule,omitzero"` // name; empty for the last step, which stands for having no rule
	Matched bool   `json:"matched"`       // it fits the identity and the listener
	Decided bool   `json:"decided"`       // it is the first that does
	Why     string `json:"why"`           // in words
}

// Explain goes through all rules in order, those after the deciding one too,
// and says why each fits or does not. Where none fits, one more step says what
// holds then. Exactly one step has Decided; it is that of Sender, Recipient and
// Header.
func (p *Policy) Explain(id Identity, listener string) []Step {
	s := newSubject(&id, listener)
	steps := make([]Step, 0, len(p.rules)+1)
	decided := false
	for i := range p.rules {
		r := &p.rules[i]
		step := Step{Rule: r.name, Matched: r.match(&s), Why: r.why(&s)}
		step.Decided = step.Matched && !decided
		decided = decided || step.Decided
		steps = append(steps, step)
	}
	if !decided {
		steps = append(steps, Step{Decided: true, Why: p.whyWithoutRule(&id)})
	}
	return steps
}

func (p *Policy) whyWithoutRule(id *Identity) string {
	switch {
	case !id.known():
		return "the identity is unknown and no rule names its listener alone: deny"
	case len(p.rules) == 0:
		return "there are no rules: every proven or authenticated identity may send"
	}
	return "no rule fits: the default is " + p.fallback.String()
}

// why gives the first reason against the rule, else all that speaks for it.
func (r *rule) why(s *subject) string {
	if !s.known && !r.who.onlyListener {
		return "the identity is unknown, and only a rule that names listeners alone fits that"
	}
	if !r.fitContained(s) {
		return fmt.Sprintf("in container %q no uid is that of a user of the host; name a unit or a container as well", s.container)
	}
	var fits []string
	for _, a := range r.who.attributes(s) {
		fit, text := a.compare()
		switch {
		case text == "":
		case fit:
			fits = append(fits, text)
		case a.place && s.unplaced && r.decision != Allow:
			fits = append(fits, "the "+a.name+" is not known, and a rule that does not allow fits then")
		case a.place && s.unplaced:
			return "the " + a.name + " is not known; wanted: " + a.wanted.String()
		default:
			return text
		}
	}
	if len(fits) == 0 {
		return "it names nobody, so it fits every known identity"
	}
	return strings.Join(fits, "; ")
}

// attribute is one list of a Match beside what it is compared with.
type attribute struct {
	name   string
	wanted patterns
	values []string // empty strings are absent
	place  bool     // it follows from the cgroup
}

// attributes are those of an identity at a listener, in the order in which
// rule.match compares them.
func (m *matchers) attributes(s *subject) []attribute {
	return []attribute{
		{name: "listener", wanted: m.listener, values: []string{s.listener}},
		{name: "user", wanted: m.user, values: []string{s.user}},
		{name: "uid", wanted: m.uid, values: []string{s.uid}},
		{name: "group", wanted: m.group, values: s.groups},
		{name: "unit", wanted: m.unit, values: []string{s.unit}, place: true},
		{name: "container", wanted: m.container, values: []string{s.container}, place: true},
		{name: "account", wanted: m.account, values: []string{s.account}},
	}
}

// compare says whether the attribute fits, and in words why; no words where the
// rule does not name it.
func (a *attribute) compare() (fit bool, why string) {
	if len(a.wanted) == 0 {
		return true, ""
	}
	var present []string
	for _, value := range a.values {
		if value == "" {
			continue
		}
		if p := a.wanted.find(value); p != nil {
			return true, fmt.Sprintf("%s %q fits %s", a.name, value, p)
		}
		present = append(present, fmt.Sprintf("%q", value))
	}
	switch len(present) {
	case 0:
		return false, fmt.Sprintf("it has no %s; wanted: %s", a.name, a.wanted)
	case 1:
		return false, fmt.Sprintf("%s %s fits none of %s", a.name, present[0], a.wanted)
	}
	return false, fmt.Sprintf("none of the %ss %s fits %s", a.name, strings.Join(present, ", "), a.wanted)
}

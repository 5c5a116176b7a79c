package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Rule is one [[policy.rule]] of the configuration.
type Rule struct {
	Name       string
	Match      Match
	Senders    []string // patterns of addresses; "<>" is the null reverse-path; empty or "*" allows all, that too
	Recipients []string // patterns of addresses; empty or "*" allows all
	HeaderFrom string   // HeaderFromSenders (also when empty) or HeaderFromAny
	Decision   Result
	Relay      string // empty for the default order
}

// Values of Rule.HeaderFrom.
const (
	HeaderFromSenders = "senders" // the From field must fit Senders as well
	HeaderFromAny     = "any"     // the From field is not looked at
)

// Match says whom a rule is for. Each list holds patterns with * and ?; one of
// a list must fit, and so for every list that is not empty. An attribute that
// an identity does not have fits no pattern, "*" included. Names are compared
// exactly, case included. In a container a uid is not that of a user of the host:
// there User, UID and Group allow only together with Unit or Container. Where it
// is not known from which unit or container a proven identity comes, a rule that
// denies, defers or holds these fits all the same.
type Match struct {
	User      []string
	UID       []string // patterns of the decimal number
	Group     []string
	Unit      []string
	Container []string
	Account   []string
	Listener  []string
}

// rule is a compiled Rule.
type rule struct {
	name        string
	who         matchers
	senders     addressSet
	recipients  addressSet
	checkHeader bool
	decision    Result
	relay       string
}

// matchers is a compiled Match.
type matchers struct {
	user, uid, group, unit, container, account, listener patterns

	onlyListener bool // names listeners and nobody: the one kind of rule that unknown can fit
}

func (r *rule) match(s *subject) bool {
	m := &r.who
	if !s.known && !m.onlyListener {
		return false
	}
	return m.listener.fit(s.listener) && r.fitContained(s) &&
		m.user.fit(s.user) && m.uid.fit(s.uid) && m.group.fitAny(s.groups) &&
		r.fitPlace(s) && m.account.fit(s.account)
}

// fitContained says whether the owner may be compared at all. Root of a container
// can be any uid in it, so there a uid says nothing about the users of the
// host: it counts beside a unit or a container only, or to restrict.
func (r *rule) fitContained(s *subject) bool {
	m := &r.who
	owner, place := len(m.user)+len(m.uid)+len(m.group) > 0, len(m.unit)+len(m.container) > 0
	return s.container == "" || !owner || place || r.decision != Allow
}

// fitPlace compares the unit and the container. Where they are not known, a
// rule that restricts fits: hiding the unit must not be a way around it.
func (r *rule) fitPlace(s *subject) bool {
	if s.unplaced && r.decision != Allow {
		return true
	}
	return r.who.unit.fit(s.unit) && r.who.container.fit(s.container)
}

// say is the rule's decision before addresses are looked at.
func (r *rule) say() Decision {
	d := Decision{Result: r.decision, Rule: r.name, Relay: r.relay, CheckHeader: r.checkHeader}
	switch r.decision {
	case Allow:
		d.Reason = ReasonRule
	case Defer:
		d.Reason = ReasonDefer
	case Hold:
		d.Reason = ReasonHold
	default:
		return deny(r, ReasonIdentity)
	}
	return d
}

func compile(from *Rule) (rule, error) {
	c := compiler{}
	r := rule{
		name:       from.Name,
		who:        c.match(&from.Match),
		senders:    c.addresses("senders", from.Senders, true),
		recipients: c.addresses("recipients", from.Recipients, false),
		decision:   from.Decision,
		relay:      from.Relay,
	}
	switch from.HeaderFrom {
	case "", HeaderFromSenders:
		r.checkHeader = !r.senders.all
	case HeaderFromAny:
	default:
		c.fail("header_from", fmt.Errorf("%q is neither %q nor %q", from.HeaderFrom, HeaderFromSenders, HeaderFromAny))
	}
	return r, errors.Join(c.errs...)
}

// compiler gathers what is wrong with one rule.
type compiler struct{ errs []error }

func (c *compiler) fail(field string, err error) {
	c.errs = append(c.errs, fmt.Errorf("%s: %w", field, err))
}

func (c *compiler) match(from *Match) matchers {
	m := matchers{
		user:      c.patterns("match.user", from.User),
		uid:       c.patterns("match.uid", from.UID),
		group:     c.patterns("match.group", from.Group),
		unit:      c.patterns("match.unit", from.Unit),
		container: c.patterns("match.container", from.Container),
		account:   c.patterns("match.account", from.Account),
		listener:  c.patterns("match.listener", from.Listener),
	}
	for _, uid := range from.UID {
		if strings.Trim(uid, "0123456789*?") != "" {
			c.fail("match.uid", fmt.Errorf("%q is not a number; match.user takes names", uid))
		}
	}
	nobody := len(m.user)+len(m.uid)+len(m.group)+len(m.unit)+len(m.container)+len(m.account) == 0
	m.onlyListener = nobody && len(m.listener) > 0
	return m
}

func (c *compiler) patterns(field string, texts []string) patterns {
	var list patterns
	for _, text := range texts {
		if text == "" {
			c.fail(field, errors.New("empty pattern"))
			continue
		}
		list = append(list, newPattern(text))
	}
	return list
}

func (c *compiler) addresses(field string, texts []string, null bool) addressSet {
	set := addressSet{all: len(texts) == 0}
	for _, text := range texts {
		if text == nullPattern && !null {
			c.fail(field, fmt.Errorf("%q is a reverse-path, never a recipient", text))
			continue
		}
		if err := set.add(text); err != nil {
			c.fail(field, err)
		}
	}
	return set
}

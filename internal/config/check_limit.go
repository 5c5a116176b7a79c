package config

import (
	"fmt"
	"slices"
)

// checkAmounts checks the limits, budgets and ladder that are not of one rule.
func (d *decoder) checkAmounts() {
	p, at := &d.config.Policy, d.table("policy")
	d.checkLimits(at.at("limits"), p.Limits)
	d.checkLadder(at, p.Ladder)
	if at.has("limits") {
		d.checkBudget(at.at("limits"), p.Limits, Match{})
	}
	budgets := d.table("policy.budgets")
	for _, scope := range p.Budgets.scopes() {
		d.checkLimits(budgets.at(scope.name), *scope.limits)
	}
	suspends := func(r Rung) bool { return r.Action == ActionSuspend }
	if at.has("suspend_for") && !slices.ContainsFunc(p.Ladder, suspends) &&
		!slices.ContainsFunc(p.Rules, func(r Rule) bool { return slices.ContainsFunc(r.Ladder, suspends) }) {
		d.doubt(at.at("suspend_for"), flaw{"has no effect: no ladder has the rung \"suspend\"",
			`write ladder = ["slow at 80%", "defer at 100%", "suspend at 400%"], or remove it`})
	}
}

// checkRuleAmounts checks the limits and the ladder of a rule.
func (d *decoder) checkRuleAmounts(rule *Rule, at ref) {
	d.checkLimits(at.at("limits"), rule.Limits)
	d.checkLadder(at, rule.Ladder)
	d.checkBudget(at.at("limits"), rule.Limits, rule.Match)
}

// mostLimits is how many limits one list may have: each is looked at for each
// message.
const mostLimits = 16

// checkLimits checks limits that count for the same messages.
func (d *decoder) checkLimits(at place, limits []Limit) {
	if len(limits) > mostLimits {
		d.wrong(at, flaw{fmt.Sprintf("has %d limits, and the most is %d", len(limits), mostLimits), "keep the smaller ones"})
		return
	}
	for i, limit := range limits {
		if limit.Counted == Bytes && limit.Max < d.config.Session.MaxMessage {
			d.doubt(at, flaw{fmt.Sprintf("%q is less than one message may have (max_message = %q), so a large one is deferred for ever", limit, formatSize(d.config.Session.MaxMessage)),
				"raise it, or lower max_message of [session]"})
		}
		for _, other := range limits[:i] {
			d.checkPair(at, limit, other)
		}
	}
}

// checkPair looks for two limits of which one is not needed.
func (d *decoder) checkPair(at place, a, b Limit) {
	if a.Counted != b.Counted {
		return
	}
	if a.Window == b.Window {
		d.wrong(at, flaw{fmt.Sprintf("%q and %q limit the same in the same window", b, a), "keep the smaller one"})
		return
	}
	if a.most(b.Window) > b.Max {
		a, b = b, a
	}
	if a.most(b.Window) <= b.Max {
		d.doubt(at, flaw{fmt.Sprintf("%q has no effect: %q never lets more than that through", b, a),
			"lower it, or remove it"})
	}
}

// checkBudget warns of limits that a budget above them never lets anybody reach.
func (d *decoder) checkBudget(at place, limits []Limit, m Match) {
	for _, scope := range d.config.Policy.Budgets.scopes() {
		for _, limit := range limits {
			i := slices.IndexFunc(*scope.limits, func(budget Limit) bool {
				return budget.Counted == limit.Counted && budget.most(limit.Window) < limit.Max
			})
			if i >= 0 && m.within(scope.name) {
				d.doubt(at, flaw{fmt.Sprintf("%q is more than %q of %s in [policy.budgets] ever lets through", limit, (*scope.limits)[i], scope.name),
					"lower it, or raise the budget"})
			}
		}
	}
}

// within reports whether all that match share, for certain, the budgets of a
// scope.
func (m Match) within(scope string) bool {
	switch scope {
	case "host":
		return true
	case "unit":
		return m.onHost()
	case "container":
		return len(m.Container) > 0
	case "user":
		return m.owner() && (!m.place() || m.onHost())
	case "account":
		return len(m.Account) > 0
	default:
		return false // an identity may have many senders
	}
}

// checkLadder checks the ladder of a table: rungs that are higher come later and
// are harder.
func (d *decoder) checkLadder(table ref, rungs []Rung) {
	at := table.at("ladder")
	if table.has("ladder") {
		if v := table.table.member("ladder").value; v.kind == kindArray && len(v.items) == 0 {
			d.wrong(at, flaw{"is an empty list, so nothing would happen at a limit", "write limits = [] for no limits, or remove it for the default"})
		}
	}
	for i := 1; i < len(rungs); i++ {
		below, rung := rungs[i-1], rungs[i]
		switch {
		case rung.Action == below.Action:
			d.wrong(at, flaw{fmt.Sprintf("has the action %q twice", rung.Action), "keep the rung that comes first"})
		case rung.Action.severity() < below.Action.severity():
			d.wrong(at, flaw{fmt.Sprintf("%q stands above %q, which is harder", rung, below), "write slow, defer, hold and suspend in this order"})
		case rung.Percent <= below.Percent:
			d.wrong(at, flaw{fmt.Sprintf("%q stands above %q, but is not reached later", rung, below), "write rungs with rising percentages"})
		}
	}
}

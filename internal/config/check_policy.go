package config

import (
	"fmt"
	"slices"
	"strings"
)

func (d *decoder) checkPolicy() {
	seen := make(map[string]int, len(d.rules))
	for i := range d.config.Policy.Rules {
		rule, at := &d.config.Policy.Rules[i], d.rules[i]
		if first, twice := seen[rule.Name]; twice && rule.Name != "" {
			d.wrong(at.at("name"), flaw{fmt.Sprintf("rule %q was already given in line %d", rule.Name, first),
				"give each rule a name of its own"})
		}
		seen[rule.Name] = at.at("name").line
		d.checkRule(rule, at)
		d.checkMatch(rule, at)
		d.checkShadow(i)
	}
}

func (d *decoder) checkRule(rule *Rule, at ref) {
	if !at.has("name") {
		d.wrong(at.at("name"), flaw{"is missing", `write name = "sites"; replies and events tell it`})
	}
	if !at.has("decision") {
		d.wrong(at.at("decision"), flaw{"is missing", `write decision = "allow" or "deny"`})
	}
	d.checkRelayName(at.at("relay"), rule.Relay)
	// Promise 4. Only a proven or authenticated attribute keeps strangers out;
	// a listener is none.
	if rule.Decision == Allow && !rule.Match.identifies() && !d.blames(at.at("match")) {
		d.wrong(at.at("match"), flaw{"allows without asking who sends, as an open relay does",
			`say who may: match = { user = ["*"] } is every local user, match = { account = ["*"] } is every account`})
	}
	for _, key := range []string{"senders", "header_from", "recipients", "relay"} {
		if rule.Decision == Deny && at.has(key) {
			d.doubt(at.at(key), flaw{`has no effect with decision = "deny": the rule denies all that it matches`,
				"remove it"})
		}
	}
	for _, key := range []string{"senders", "recipients"} {
		if member := at.table.member(key); member != nil && len(member.value.items) == 0 && member.value.kind == kindArray {
			d.wrong(at.at(key), flaw{"is an empty list, which could mean all or nothing",
				`write ["*"] for all, or decision = "deny" for nothing`})
		}
	}
}

// blames reports whether there is an error at a place already, or inside of it:
// one is enough to refuse the file.
func (d *decoder) blames(at place) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool {
		return p.Severity == Error && p.Line == at.line && strings.HasPrefix(p.Key, at.key)
	})
}

// identifies reports whether the match asks for something that an unknown peer
// does not have.
func (m Match) identifies() bool {
	return len(m.User)+len(m.UID)+len(m.Group)+len(m.Unit)+len(m.Account) > 0
}

// checkMatch warns of names that nobody has.
func (d *decoder) checkMatch(rule *Rule, at ref) {
	if at.table.member("match") == nil {
		return
	}
	match := ref{joinKey(at.key, "match"), at.table.member("match").value}
	for _, m := range match.table.members {
		if m.value.kind == kindArray && len(m.value.items) == 0 {
			d.wrong(place{joinKey(match.key, m.name), m.line}, flaw{"is an empty list, which matches nobody",
				"remove it, or name somebody"})
		}
	}
	d.checkKnown(match.at("user"), "user %q on this host", rule.Match.User, d.options.KnownUser)
	d.checkKnown(match.at("group"), "group %q on this host", rule.Match.Group, d.options.KnownGroup)
	d.checkKnown(match.at("account"), "[[account]] %q", rule.Match.Account, d.config.hasAccount)
	for _, unit := range rule.Match.Unit {
		if !strings.ContainsAny(unit, "*?.") {
			d.doubt(match.at("unit"), flaw{fmt.Sprintf("%q is not the full name of a unit", unit),
				"write " + quote(unit+".service")})
		}
	}
	for _, role := range rule.Match.Listener {
		if d.config.isClosed(role) {
			d.doubt(match.at("listener"), flaw{fmt.Sprintf("there is no %s listener", role),
				"open it in [listen], or remove it here"})
		}
	}
}

// checkKnown warns of names without a wildcard that exists does not know.
func (d *decoder) checkKnown(at place, format string, names []string, exists func(string) bool) {
	for _, name := range names {
		if exists != nil && !strings.ContainsAny(name, "*?") && !exists(name) {
			d.doubt(at, flaw{fmt.Sprintf("there is no "+format, name),
				"check the spelling; until there is one, this matches nobody"})
		}
	}
}

func (c *Config) hasAccount(name string) bool {
	return slices.ContainsFunc(c.Accounts, func(a Account) bool { return a.Name == name })
}

// isClosed reports whether no session can have the role.
func (c *Config) isClosed(role ListenerRole) bool {
	switch role {
	case RoleSubmission:
		return len(c.Listen.Submission) == 0
	case RoleSubmissions:
		return len(c.Listen.Submissions) == 0
	case RoleAlternate:
		return len(c.Listen.Alternate) == 0
	case RoleSocket:
		return c.Listen.Socket == ""
	default:
		return c.Firewall.SubmissionPorts != SubmissionRedirect
	}
}

// checkShadow warns of a rule that an earlier one leaves nothing to.
func (d *decoder) checkShadow(i int) {
	rules := d.config.Policy.Rules
	for j := range i {
		if rules[j].Match.covers(rules[i].Match) {
			at := d.rules[i].at("name")
			d.doubt(at, flaw{fmt.Sprintf("this rule never decides: rule %q in line %d matches all that it matches, and comes first", rules[j].Name, d.rules[j].at("name").line),

				"put the narrower rule first"})
			return
		}
	}
}

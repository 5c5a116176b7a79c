package config

import (
	"fmt"
	"slices"
	"strings"
)

func (d *decoder) checkPolicy() {
	d.checkAmounts()
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
		d.checkRuleAmounts(rule, at)
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
	const remedy = `say who may: match = { user = ["*"] } is every local user, match = { account = ["*"] } is every account`
	stranger := !rule.Match.identifies() && !d.blames(at.at("match"))
	switch {
	case rule.Decision == Allow && stranger:
		d.wrong(at.at("match"), flaw{"allows without asking who sends, as an open relay does", remedy})
	case rule.Decision == Hold && stranger:
		d.wrong(at.at("match"), flaw{"holds without asking who sends, so anybody could fill the spool", remedy})
	}
	d.checkNeedless(rule, at)
	for _, key := range []string{"senders", "recipients"} {
		if member := at.table.member(key); member != nil && len(member.value.items) == 0 && member.value.kind == kindArray {
			d.wrong(at.at(key), flaw{"is an empty list, which could mean all or nothing",
				`write ["*"] for all, or decision = "deny" for nothing`})
		}
	}
}

// checkNeedless warns of keys that the decision leaves nothing to.
func (d *decoder) checkNeedless(rule *Rule, at ref) {
	var needless []string
	why := ""
	switch rule.Decision {
	case Deny:
		needless, why = []string{"senders", "header_from", "recipients", "relay", "limits", "ladder"}, "the rule denies all that it matches"
	case Defer:
		needless, why = []string{"relay", "limits", "ladder"}, "nothing is sent by this rule"
	}
	for _, key := range needless {
		if at.has(key) {
			d.doubt(at.at(key), flaw{fmt.Sprintf("has no effect with decision = %q: %s", rule.Decision, why), "remove it"})
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
	return m.owner() || m.place() || len(m.Account) > 0
}

// owner and place report whether the match asks for the user, and for the unit
// or container, of the socket.
func (m Match) owner() bool { return len(m.User)+len(m.UID)+len(m.Group) > 0 }
func (m Match) place() bool { return len(m.Unit)+len(m.Container) > 0 }

// onHost reports whether nothing in a container can match, for certain.
func (m Match) onHost() bool {
	return len(m.Unit) > 0 && !slices.ContainsFunc(m.Unit, mayContain)
}

// mayContain reports whether the processes of a unit may be in containers: it
// has a scope for each, or is a service that runs them itself.
func mayContain(unit string) bool {
	if strings.ContainsAny(unit, "*?") || !strings.HasSuffix(unit, ".service") {
		return true
	}
	return slices.ContainsFunc([]string{"docker", "containerd", "crio", "podman", "kube", "k3s", "lx", "incus", "nspawn", "machine"},
		func(runtime string) bool { return strings.Contains(unit, runtime) })
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
	d.checkUsers(match.at("user"), rule.Match.User)
	d.checkGroups(match.at("group"), rule.Match.Group)
	d.checkAccountNames(match.at("account"), rule.Match.Account)
	d.checkUnits(match.at("unit"), rule.Match.Unit)
	d.checkContainers(match.at("container"), rule.Match.Container)
	d.checkContradiction(rule.Match, match)
	for _, role := range rule.Match.Listener {
		if d.config.isClosed(role) {
			d.doubt(match.at("listener"), flaw{fmt.Sprintf("there is no %s listener", role),
				"open it in [listen], or remove it here"})
		}
	}
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
		if rules[j].covers(&rules[i]) {
			at := d.rules[i].at("name")
			d.doubt(at, flaw{fmt.Sprintf("this rule never decides: rule %q in line %d matches all that it matches, and comes first", rules[j].Name, d.rules[j].at("name").line),
				"put the narrower rule first"})
			return
		}
	}
}

package policy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	inside := Identity{Proven: true, Placed: true, UID: 33, User: "www-data", Container: "d4f1"}
	hidden := Identity{Proven: true, UID: 33, User: "www-data"}
	for _, c := range []struct {
		name     string
		id       Identity
		fallback Result
		rules    []Rule
		want     []string // "rule matched|decided: why"
	}{
		{"all that fits is told", www, Deny, []Rule{{Name: "r", Decision: Allow, Match: Match{
			User: []string{"site-*", "www-*"}, UID: []string{"3?"}, Group: []string{"*b"}, Unit: []string{"*"}, Listener: []string{"submission"}}}},
			[]string{`r decided: listener "submission" fits submission; user "www-data" fits www-*; uid "33" fits 3?; group "web" fits *b; unit "php8.2-fpm.service" fits *`}},
		{"the first that does not fit is told", www, Deny, []Rule{{Name: "r", Match: Match{User: []string{"site-*", "bob"}, Account: []string{"x"}}}},
			[]string{`r: user "www-data" fits none of site-*, bob`, `decided: no rule fits: the default is deny`}},
		{"groups", www, Hold, []Rule{{Name: "r", Match: Match{Group: []string{"a", "b"}}}},
			[]string{`r: none of the groups "www-data", "web" fits a, b`, `decided: no rule fits: the default is hold`}},
		{"absent", account, Defer, []Rule{{Name: "r", Match: Match{User: []string{"*"}}}},
			[]string{`r: it has no user; wanted: *`, `decided: no rule fits: the default is defer`}},
		{"unknown", unknown, Allow, []Rule{{Name: "r"}, {Name: "socket", Match: Match{Listener: []string{"socket"}}}},
			[]string{`r: the identity is unknown, and only a rule that names listeners alone fits that`,
				`socket: listener "submission" fits none of socket`, `decided: the identity is unknown and no rule names its listener alone: deny`}},
		{"what nobody proved is not looked at", forged, Allow, []Rule{{Name: "r", Match: Match{User: []string{"root"}}, Decision: Allow}},
			[]string{`r: the identity is unknown, and only a rule that names listeners alone fits that`, `decided: the identity is unknown and no rule names its listener alone: deny`}},
		{"later rules are told too", www, Deny, []Rule{{Name: "a"}, {Name: "b", Match: Match{User: []string{"www-data"}}}, {Name: "c", Match: Match{User: []string{"x"}}}},
			[]string{`a decided: it names nobody, so it fits every known identity`, `b matched: user "www-data" fits www-data`, `c: user "www-data" fits none of x`}},
		{"no rules", www, Deny, nil, []string{`decided: there are no rules: every proven or authenticated identity may send`}},
		{"a container's uid", inside, Deny, []Rule{
			{Name: "allows", Match: Match{User: []string{"www-data"}}, Decision: Allow},
			{Name: "named", Match: Match{User: []string{"www-data"}, Container: []string{"d4*"}}, Decision: Allow},
			{Name: "holds", Match: Match{User: []string{"www-data"}}, Decision: Hold},
		}, []string{`allows: in container "d4f1" no uid is that of a user of the host; name a unit or a container as well`,
			`named decided: user "www-data" fits www-data; container "d4f1" fits d4*`, `holds matched: user "www-data" fits www-data`}},
		{"nobody knows from where", hidden, Deny, []Rule{
			{Name: "allows", Match: Match{Unit: []string{"evil.service"}}, Decision: Allow},
			{Name: "defers", Match: Match{Unit: []string{"evil.service"}}, Decision: Defer},
		}, []string{`allows: the unit is not known; wanted: evil.service`, `defers decided: the unit is not known, and a rule that does not allow fits then`}},
	} {
		p := newPolicy(t, c.fallback, c.rules...)
		var got []string
		for _, step := range p.Explain(c.id, "submission") {
			got = append(got, stepText(step))
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func stepText(s Step) string {
	text := s.Rule
	switch {
	case s.Decided && s.Rule != "":
		text += " decided"
	case s.Decided:
		text = "decided"
	case s.Matched:
		text += " matched"
	}
	return text + ": " + s.Why
}

// TestExplainAgrees makes rules and identities at random: what Explain says
// must be what Sender decides, and its words must not contradict it.
func TestExplainAgrees(t *testing.T) {
	for seed := range uint64(3000) {
		random := rand.New(rand.NewPCG(seed, 1))
		p := newPolicy(t, Result(random.IntN(4)), randomRules(random)...)
		id := randomIdentity(random)
		checkAgreement(t, fmt.Sprintf("seed %d", seed), p, id)
	}
}

func checkAgreement(t *testing.T, name string, p *Policy, id Identity) {
	t.Helper()
	decision := p.Sender(id, "socket", "a@b")
	decided := 0
	for i, step := range p.Explain(id, "socket") {
		if step.Decided {
			decided++
			if step.Rule != decision.Rule || step.Rule != "" && !step.Matched {
				t.Errorf("%s: step %+v, but %+v", name, step, decision)
			}
		}
		if i >= len(p.rules) {
			continue
		}
		against := strings.Contains(step.Why, "none of") || strings.Contains(step.Why, "wanted:") || strings.Contains(step.Why, "only a rule") || strings.Contains(step.Why, "no uid")
		if step.Matched == against {
			t.Errorf("%s: step %+v", name, step)
		}
	}
	if decided != 1 {
		t.Errorf("%s: %d steps decided", name, decided)
	}
}

func randomRules(random *rand.Rand) []Rule {
	some := func(texts ...string) []string {
		if random.IntN(3) > 0 {
			return nil
		}
		return texts[:1+random.IntN(len(texts))]
	}
	rules := make([]Rule, random.IntN(5))
	for i := range rules {
		rules[i] = Rule{
			Name: fmt.Sprint("r", i), Decision: Result(random.IntN(4)),
			Match: Match{User: some("www-*", "root"), UID: some("0", "3?"), Group: some("*b", "root"), Unit: some("php*", "cron.service"),
				Container: some("d4*"), Account: some("web?hop", "x"), Listener: some("submission", "socket")},
		}
	}
	return rules
}

func randomIdentity(random *rand.Rand) Identity {
	id := []Identity{unknown, root, www, nameless, account, forged}[random.IntN(6)]
	id.Placed = random.IntN(2) == 0
	if random.IntN(3) == 0 {
		id.Unit = ""
	}
	if random.IntN(3) == 0 {
		id.Account = "webshop"
	}
	return id
}

func TestPatternString(t *testing.T) {
	for _, text := range []string{"a", "*", "a*", "*a", "*a*", "a?", "**", "a*b", "?"} {
		p := newPattern(text)
		if got := p.String(); got != text {
			t.Errorf("%q is told as %q", text, got)
		}
	}
}

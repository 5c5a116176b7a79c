package config

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/policy"
)

// TestCoversAgreesWithPolicy asks the policy itself, about all identities of a
// small world, whether a rule that is said to leave nothing to another one
// really never does, and whether a rule that is said to match nobody does not.
func TestCoversAgreesWithPolicy(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2))
	pick := func(patterns ...string) []string {
		var list []string
		for _, pattern := range patterns {
			if random.IntN(3) == 0 {
				list = append(list, pattern)
			}
		}
		if random.IntN(2) == 0 {
			return nil
		}
		return list
	}
	decisions := []Result{Allow, Deny, Defer, Hold}
	rule := func() *Rule {
		return &Rule{Decision: decisions[random.IntN(len(decisions))], Match: Match{
			User: pick("*", "a*", "ab"), UID: pick("1", "2"), Unit: pick("*", "x.service", "docker-*.scope"), Container: pick("*", "d4*", "d4f1"), Account: pick("*", "shop"),
			Listener: []ListenerRole{RoleSocket, RoleSubmission}[:random.IntN(3)],
		}}
	}
	world := identities()
	covered := 0
	for range 20_000 {
		first, second := rule(), rule()
		if !first.covers(second) {
			continue
		}
		covered++
		for _, id := range world {
			for _, listener := range []string{"submission", "socket"} {
				if decides(t, id, listener, first, second) == "second" {
					t.Fatalf("%+v, %s: %+v\nis not covered by %+v", id, listener, *second, *first)
				}
			}
		}
	}
	if covered < 200 {
		t.Errorf("only %d pairs were compared", covered)
	}
}

// identities are those of a small world that the kernel and AUTH can make.
func identities() []policy.Identity {
	var all []policy.Identity
	places := []policy.Identity{
		{Placed: true}, {Placed: true, Unit: "x.service"}, {Placed: true, Unit: "y.service"}, {},
		{Placed: true, Unit: "docker-d4f1.scope", Container: "d4f1"}, {Placed: true, Unit: "docker-e5.scope", Container: "e5"}, {Placed: true, Container: "d4"},
	}
	for _, account := range []string{"", "shop", "other"} {
		all = append(all, policy.Identity{Account: account})
		for _, place := range places {
			for uid, user := range []string{"a", "ab", "c", ""} {
				id := place
				id.Proven, id.UID, id.User, id.Account = true, uint32(uid), user, account
				all = append(all, id)
			}
		}
	}
	return all
}

// decides returns which of two rules decides, "" for neither.
func decides(t *testing.T, id policy.Identity, listener string, first, second *Rule) string {
	t.Helper()
	p, err := policy.New(policy.Deny, []policy.Rule{asPolicy("first", first), asPolicy("second", second)})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range p.Explain(id, listener) {
		if step.Decided {
			return step.Rule
		}
	}
	t.Fatal("nothing decides")
	return ""
}

func asPolicy(name string, r *Rule) policy.Rule {
	results := map[Result]policy.Result{Allow: policy.Allow, Deny: policy.Deny, Defer: policy.Defer, Hold: policy.Hold}
	rule := policy.Rule{Name: name, Decision: results[r.Decision], Match: policy.Match{
		User: r.Match.User, UID: r.Match.UID, Unit: r.Match.Unit, Container: r.Match.Container, Account: r.Match.Account}}
	for _, role := range r.Match.Listener {
		rule.Match.Listener = append(rule.Match.Listener, fmt.Sprint(role))
	}
	return rule
}

package policy

import "testing"

func TestResultString(t *testing.T) {
	for result, want := range map[Result]string{Deny: "deny", Allow: "allow", Defer: "defer", Hold: "hold", Result(99): "deny"} {
		if got := result.String(); got != want {
			t.Errorf("%d is %q, want %q", result, got, want)
		}
	}
}

// A rule that defers or holds compares addresses as one that allows: what it
// would not send at all is denied at once.
func TestDeferAndHold(t *testing.T) {
	for result, reason := range map[Result]string{Allow: ReasonRule, Defer: ReasonDefer, Hold: ReasonHold} {
		p := newPolicy(t, Deny, Rule{Name: "r", Match: Match{User: []string{"www-data"}}, Decision: result, Relay: "main",
			Senders: []string{"*@example.com"}, Recipients: []string{"*@example.net"}})
		fits := Decision{Result: result, Reason: reason, Rule: "r", Relay: "main", CheckHeader: true}
		for _, c := range []struct {
			stage     string
			got, want Decision
		}{
			{"sender", p.Sender(www, "", "a@example.com"), fits},
			{"foreign sender", p.Sender(www, "", "a@example.net"), Decision{Reason: ReasonSender, Rule: "r"}},
			{"recipient", p.Recipient(www, "", "a@example.net"), fits},
			{"foreign recipient", p.Recipient(www, "", "a@example.org"), Decision{Reason: ReasonRecipient, Rule: "r"}},
			{"header", p.Header(www, "", []byte("From: a@example.com\r\n")), fits},
			{"foreign header", p.Header(www, "", []byte("From: a@example.net\r\n")), Decision{Reason: ReasonHeaderFrom, Rule: "r"}},
			{"nobody", p.Sender(root, "", "a@example.com"), Decision{Reason: ReasonNoRule}},
		} {
			if c.got != c.want {
				t.Errorf("%v, %s: %+v, want %+v", result, c.stage, c.got, c.want)
			}
		}
	}
}

func TestDefaultDecides(t *testing.T) {
	other := Rule{Name: "other", Match: Match{User: []string{"nobody"}}, Decision: Allow}
	for fallback, want := range map[Result]Decision{
		Deny: {Reason: ReasonNoRule}, Allow: {Result: Allow, Reason: ReasonDefault},
		Defer: {Result: Defer, Reason: ReasonDefaultDefer}, Hold: {Result: Hold, Reason: ReasonDefaultHold},
	} {
		for stage, got := range stages(newPolicy(t, fallback, other), www, "socket") {
			if got != want {
				t.Errorf("default %v, %s: %+v, want %+v", fallback, stage, got, want)
			}
		}
		if got := newPolicy(t, fallback, other).Sender(unknown, "socket", "a@b"); got != (Decision{Reason: ReasonUnknown}) {
			t.Errorf("default %v, unknown: %+v", fallback, got)
		}
	}
}

// What restricts is not got around: neither by a uid in a container nor by
// hiding the unit.
func TestRestrictionsFitWhereAllowancesDoNot(t *testing.T) {
	inside := Identity{Proven: true, Placed: true, UID: 33, User: "www-data", Container: "d4f1"}
	hidden := Identity{Proven: true, UID: 33, User: "www-data"}
	for _, result := range []Result{Deny, Defer, Hold} {
		p := newPolicy(t, Deny, Rule{Name: "user", Match: Match{User: []string{"www-data"}}, Decision: result}, Rule{Name: "rest", Decision: Allow})
		if got := p.Sender(inside, "", "a@b"); got.Result != result {
			t.Errorf("%v: a container's uid: %+v", result, got)
		}
		p = newPolicy(t, Deny, Rule{Name: "unit", Match: Match{Unit: []string{"evil.service"}}, Decision: result}, Rule{Name: "rest", Decision: Allow})
		if got := p.Sender(hidden, "", "a@b"); got.Result != result {
			t.Errorf("%v: a hidden unit: %+v", result, got)
		}
	}
}

// A message that a person released, or that waits longer than the rule allows,
// may bounce to whom the rule names.
func TestVouchesForHeld(t *testing.T) {
	for result, want := range map[Result]bool{Deny: false, Allow: true, Defer: true, Hold: true} {
		p := newPolicy(t, Deny, Rule{Name: "r", Senders: []string{"*@example.com"}, Decision: result})
		if got := p.Vouches(www, "", "a@example.com"); got != want {
			t.Errorf("%v: vouches %v", result, got)
		}
		if p.Vouches(www, "", "a@example.net") {
			t.Errorf("%v: vouches for a foreign sender", result)
		}
	}
}

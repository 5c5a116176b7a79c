package e2e_test

import (
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// holdRules hold what the web site sends, as long as its addresses are right, and
// defer somebody.
const holdRules = `
[[policy.rule]]
name = "look"
match = { user = ["www-data"] }
senders = ["*@shop.example"]
recipients = ["*@example.net"]
decision = "hold"
[[policy.rule]]
name = "wait"
match = { uid = [7701] }
senders = ["*@shop.example"]
decision = "defer"
`

// TestHoldRule: what a rule holds is accepted and waits for a person, who looks at
// it, drops it or lets it go; what policy would refuse is refused all the same.
func TestHoldRule(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: holdRules})
	first, second, third := newLetter(), newLetter(), newLetter()
	var ids []string
	for _, l := range []letter{first, second, third} {
		said := mustSucceed(t, b.program("swaks", b.swaks(l, "--server", "127.0.0.1:587", "--tls")...))
		if !strings.Contains(said, "250 2.0.0 held until the administrator releases it") {
			t.Errorf("swaks says:\n%s", said)
		}
	}
	b.checkHoldRefuses(t)
	ids = b.awaitHeld(t, "rule", 3)
	stdout, stderr, status := b.output("hold", "list")
	for _, shown := range append(ids, "www-data", sender, recipient, `held by rule (rule "look")`) {
		if status != 0 || !strings.Contains(stdout, shown) {
			t.Errorf("hold list, with status %d, does not show %q:\n%s%s", status, shown, stdout, stderr)
		}
	}
	stdout, _, _ = b.output("hold", "show", ids[0])
	for _, shown := range []string{"hold (rule)", `held by rule (rule "look")`, "expires: ", first.marker, recipient} {
		if !strings.Contains(stdout, shown) || strings.Contains(stdout, "eight bits") {
			t.Errorf("hold show does not show %q, or shows the body:\n%s", shown, stdout)
		}
	}
	if len(b.relay.Messages()) > 0 {
		t.Fatal("the relay has what is held")
	}
	// A rule that allows by now is nobody's word about these.
	b.reload(setup{config: strings.Replace(holdRules, `decision = "hold"`, `decision = "allow"`, 1)})
	b.mustPost(t, siteUID, 1)
	if held := b.awaitHeld(t, "rule", 3); len(b.relay.Messages()) != 1 {
		t.Fatalf("after a reload hold has %v, and the relay %d messages", held, len(b.relay.Messages()))
	}
	b.reload(setup{config: holdRules})
	b.orders(t, 0, "1 message dropped", "hold", "drop", ids[1])
	b.orders(t, 0, "1 message released", "hold", "release", ids[0])
	b.awaitDelivery(t, ids[0])
	first.compare(t, findOne(t, b.relay, first).Bytes)
	b.checkReleaseAsks(t, ids[2], third)
}

// checkHoldRefuses: a rule that holds refuses what does not fit it, and a rule
// that defers does so for good reason only.
func (b *bed) checkHoldRefuses(t *testing.T) {
	k := b.talk(t)
	k.must(550, "MAIL FROM:<boss@bank.example>")
	k.must(250, "MAIL FROM:<%s>", sender)
	k.must(550, "RCPT TO:<somebody@elsewhere.example>")
	k.must(250, "RSET")
	if got := k.send(mismatched(), sender, recipient); got.code != 550 || !strings.Contains(got.text, `(rule "look")`) {
		t.Errorf("of a From of others the client hears %+v", got)
	}
	k = b.talkAs(t, 7701)
	k.must(550, "MAIL FROM:<boss@bank.example>")
	got := k.send(newLetter(), sender, recipient)
	if got.code != 450 || !strings.HasPrefix(got.text, "4.7.1 deferred by rule (rule \"wait\")") {
		t.Errorf("by a rule that defers the client hears %+v", got)
	}
	if event := b.transaction(t, got.txn(t)); event.Decision != "defer" || event.Rule != "wait" {
		t.Errorf("the event says %+v", event)
	}
}

// checkReleaseAsks: what policy refuses by now is not delivered at a person's
// word, and says why; when it may go it goes.
func (b *bed) checkReleaseAsks(t *testing.T, id string, l letter) {
	deny := setup{config: strings.Replace(holdRules, `senders = ["*@shop.example"]`, `senders = ["*@other.example"]`, 1)}
	b.reload(deny)
	b.orders(t, 0, "1 message released", "hold", "release", id)
	b.awaitEvent(t, "the second hold", func(e audit.Event) bool {
		return e.Txn == id && e.Kind == audit.KindDelivery && e.Custody == audit.CustodySpool
	})
	await(t, "the hold with its reason", func() bool {
		ids, all := b.list(t, "hold")
		return len(ids) == 1 && all[id].Progress.Hold == "policy" && strings.Contains(all[id].Progress.Reason, "sender not allowed")
	})
	if n := len(findAll(b.relay, l)); n > 0 {
		t.Errorf("the relay has what policy refuses, %d times", n)
	}
	b.reload(setup{config: holdRules})
	b.awaitDelivery(t, id) // it had a person's word
	l.compare(t, findOne(t, b.relay, l).Bytes)
}

// TestHoldDefault: default = "hold" and "defer" decide about whom no rule names.
func TestHoldDefault(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: "[policy]\ndefault = \"hold\"\n" + limitRule("free", 7711)})
	if _, got := b.postAs(t, 7712); got.code != 250 || !strings.Contains(got.text, "held until") {
		t.Errorf("by a default that holds the client hears %+v", got)
	}
	b.mustPost(t, 7711, 1)
	b.reload(setup{config: "[policy]\ndefault = \"defer\"\n" + limitRule("free", 7711)})
	if _, got := b.postAs(t, 7712); got.code != 450 || !strings.HasPrefix(got.text, "4.7.1 ") {
		t.Errorf("by a default that defers the client hears %+v", got)
	}
	b.awaitHeld(t, "rule", 1)
}

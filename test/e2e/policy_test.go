package e2e_test

import (
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// policyRules tell apart by each key of match.
const policyRules = `
[[policy.rule]]
name = "no-submissions"
match = { listener = ["submissions"], user = ["www-data"] }
decision = "deny"
[[policy.rule]]
name = "accounts"
decision = "allow"
match = { account = ["web*"] }
senders = ["*@shop.example"]
relay = "second"
[[policy.rule]]
name = "units"
decision = "allow"
match = { unit = ["e2e-*.service"] }
senders = ["unit@shop.example"]
header_from = "any"
relay = "second"
[[policy.rule]]
name = "uids"
decision = "allow"
match = { uid = [4321] }
recipients = ["*@example.net"]
[[policy.rule]]
name = "groups"
decision = "allow"
match = { group = ["back*"] }
senders = ["<>", "backup@shop.example"]
header_from = "any"
[[policy.rule]]
name = "sites"
decision = "allow"
match = { user = ["www-data"] }
senders = ["*@shop.example"]
`

const backupUID = 34 // of user and group backup, on Debian

// TestPolicy: who may send what, and by which relay.
func TestPolicy(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: secondRelay + policyRules + accountConfig(t)})
	second := b.startRelay(secondAddr)
	mismatch := newLetter()
	mismatch.text = []byte(strings.Replace(string(mismatch.text), sender, "boss@bank.example", 1))
	for _, c := range []struct {
		name     string
		uid      uint32
		from, to string
		letter   letter
		want     int
		text     string
	}{
		{"a user", siteUID, sender, recipient, newLetter(), 250, ""},
		{"a sender of others", siteUID, "boss@bank.example", recipient, newLetter(), 550, `5.7.1 sender not allowed for this identity (rule "sites")`},
		{"a From of others", siteUID, sender, recipient, mismatch, 550, `(rule "sites")`},
		{"a uid", 4321, "anybody@anywhere.example", recipient, newLetter(), 250, ""},
		{"a recipient elsewhere", 4321, sender, "somebody@bank.example", newLetter(), 550, `(rule "uids")`},
		{"a group", backupUID, "backup@shop.example", recipient, mismatched(), 250, ""},
		{"the null reverse-path", backupUID, "", recipient, mismatched(), 250, ""},
		{"another sender of a group", backupUID, sender, recipient, newLetter(), 550, `(rule "groups")`},
		{"nobody's user", 5555, sender, recipient, newLetter(), 550, "5.7.1 "},
		{"root", 0, sender, recipient, newLetter(), 550, "5.7.1 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := b.talkAs(t, c.uid)
			got := k.send(c.letter, c.from, c.to)
			k.close()
			if got.code != c.want || !strings.Contains(got.text, c.text) {
				t.Errorf("the client hears %+v, want %d %s", got, c.want, c.text)
			}
			event := b.transaction(t, got.txn(t))
			if uid, known := event.PeerUID.Get(); !known || uid != c.uid || (event.Decision == "allow") != (c.want == 250) {
				t.Errorf("the event says %+v", event)
			}
			if c.want == 250 {
				findOne(t, b.relay, c.letter)
			}
		})
	}
	b.checkPolicyOfPrograms(t, second)
}

// mismatched is a letter of somebody else's From.
func mismatched() letter {
	l := newLetter()
	l.text = []byte(strings.Replace(string(l.text), sender, "boss@bank.example", 1))
	return l
}

func (b *bed) checkPolicyOfPrograms(t *testing.T, second *testkit.Relay) {
	t.Run("a listener", func(t *testing.T) {
		l := newLetter()
		said := mustFail(t, b.program("curl", b.curl(l, "smtps://localhost:465")...))
		if !strings.Contains(said, `< 550 5.7.1 `) || !strings.Contains(said, `(rule "no-submissions")`) {
			t.Errorf("curl says:\n%s", said)
		}
	})
	t.Run("an account", func(t *testing.T) {
		l := newLetter()
		mustSucceed(t, b.program("curl", b.curl(l, "smtp://localhost:587", "--ssl-reqd", "--user", accountName+":"+accountPassword)...))
		findOne(t, second, l)
	})
	t.Run("a unit", func(t *testing.T) {
		l := mismatched()
		cmd := inCGroup(b.program("curl", b.curl(l, "smtp://localhost:587", "--ssl-reqd", "--mail-from", "unit@shop.example")...), newUnit(t))
		mustSucceed(t, cmd)
		findOne(t, second, l)
	})
	t.Run("the local socket", func(t *testing.T) {
		l := newLetter()
		mustSucceed(t, b.program("curl", b.curl(l, "smtp://localhost:1", "--unix-socket", b.path("submit.sock"))...))
		message := findOne(t, b.relay, l)
		event := b.transaction(t, trace{"local process", "ESMTP"}.check(t, l.compare(t, message.Bytes)))
		if uid, _ := event.PeerUID.Get(); uid != siteUID || event.Listener != "socket" {
			t.Errorf("the event says %+v", event)
		}
	})
	t.Run("the local socket, another user", func(t *testing.T) {
		cmd := b.programAs(5555, "curl", b.curl(newLetter(), "smtp://localhost:1", "--unix-socket", b.path("submit.sock"))...)
		if said := mustFail(t, cmd); !strings.Contains(said, "< 550 5.7.1 ") {
			t.Errorf("curl says:\n%s", said)
		}
	})
}

// TestNextRelay: when the first relay is down the next one has the message.
func TestNextRelay(t *testing.T) {
	t.Parallel()
	for _, step := range []testkit.RelayStep{testkit.StepGreeting, testkit.StepHandshake, testkit.StepAuth} {
		t.Run(string(step), func(t *testing.T) {
			b, second := newPair(t)
			b.relay.On(step, testkit.Fault{Act: testkit.Hangup})
			b.start(pairSetup)
			l := newLetter()
			if got := b.talk(t).send(l, sender, recipient); got.code != 250 {
				t.Fatalf("the client hears %+v", got)
			}
			findOne(t, second, l)
		})
	}
}

// TestNextRelayOfKeptConnection: the same when the first relay goes down while
// connections to it are kept.
func TestNextRelayOfKeptConnection(t *testing.T) {
	t.Parallel()
	b, second := newPair(t)
	b.start(pairSetup)
	for i, relay := range []*testkit.Relay{b.relay, second} {
		l := newLetter()
		if got := b.talk(t).send(l, sender, recipient); got.code != 250 {
			t.Fatalf("letter %d: the client hears %+v", i, got)
		}
		findOne(t, relay, l)
		b.relay.On(testkit.StepGreeting, testkit.Fault{Act: testkit.Hangup})
		b.relay.DropConnections()
	}
}

var pairSetup = setup{config: secondRelay, delivery: `relays = ["main", "second"]`, idle: true}

// newPair is a bed with two relays, on which smtpwall does not run yet.
func newPair(t testing.TB) (*bed, *testkit.Relay) {
	t.Helper()
	b := newBed(t, pairSetup)
	return b, b.startRelay(secondAddr)
}

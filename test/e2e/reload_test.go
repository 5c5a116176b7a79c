package e2e_test

import (
	"strings"
	"syscall"
	"testing"
)

const reloadRefused = "reload refused, nothing has changed"

// reloadBad asks for a configuration that must be refused.
func (b *bed) reloadBad(t testing.TB) {
	t.Helper()
	before := b.run.said.count(reloadRefused)
	b.run.signal(t, syscall.SIGHUP)
	b.run.said.await(t, reloadRefused, before+1)
}

// TestBadReload: a file that cannot be used changes nothing, and says so.
func TestBadReload(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{errors: []string{reloadRefused}})
	b.run.said.await(t, "relay is ready", 1)
	rules := b.table()
	denyAll := "[[policy.rule]]\nname = \"nobody\"\nmatch = { user = [\"*\"] }\ndecision = \"deny\"\n"
	for _, c := range []struct {
		name, config, says string
		status             int
	}{
		{"syntax", denyAll + "[policy\n", "host.toml:", 2},
		{"unknown key", denyAll + "[policy]\ndefualt = \"deny\"\n", "did you mean", 2},
		{"later feature", denyAll + "[firewall]\nany_port = \"log\"\n", "not available in this version", 2},
		{"a rule's relay", strings.Replace(denyAll, "decision = \"deny\"", "relay = \"third\"\ndecision = \"allow\"", 1), "third", 2},
		{"a secret that is not there", denyAll + strings.Replace(secondRelay, "/relay-password", "/no-password", 1), "no-password", 2},
		{"a CA that is not there", denyAll + strings.Replace(secondRelay, "/relay-ca.pem", "/no-ca.pem", 1), "no-ca.pem", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.rewrite(setup{config: c.config})
			b.reloadBad(t)
			_, stderr, status := b.output("check", "--offline")
			if status != c.status || !strings.Contains(stderr, c.says) {
				t.Errorf("check ended with status %d, want %d and %q:\n%s", status, c.status, c.says, stderr)
			}
			if !strings.Contains(b.run.said.String(), c.says) {
				t.Errorf("smtpwall did not say %q", c.says)
			}
			l := newLetter()
			if got := b.talk(t).send(l, sender, recipient); got.code != 250 {
				t.Errorf("after the reload the client hears %+v", got)
			}
			if now := b.table(); now != rules {
				t.Errorf("the rules have changed:\n%s\nwere\n%s", now, rules)
			}
		})
	}
}

// TestUnchangeable: what only a restart can change is refused, and named.
func TestUnchangeable(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{errors: []string{reloadRefused}})
	b.rewrite(setup{})
	text := strings.Replace(readFile(t, b.path("host.toml")), "[listen]\n", "[listen]\nalternate = [\"127.0.0.1:2526\", \"[::1]:2526\"]\n", 1)
	b.write("host.toml", text, 0o644, 0)
	b.reloadBad(t)
	if said := b.run.said.String(); !strings.Contains(said, "restart to change") {
		t.Errorf("smtpwall says:\n%s", said)
	}
	if got := b.talk(t).send(newLetter(), sender, recipient); got.code != 250 {
		t.Errorf("after the reload the client hears %+v", got)
	}
	b.awaitAnswer(b.Host, destinations(2525, foreign4)[0])
}

// TestReload: new transactions have the new configuration, and one under way ends
// with what it began with.
func TestReload(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	second := b.startRelay(secondAddr)
	under, idle, first := b.talk(t), b.talk(t), newLetter()
	under.must(250, "MAIL FROM:<%s>", sender)
	under.must(250, "RCPT TO:<%s>", recipient)
	under.must(354, "DATA")
	b.reload(setup{config: secondRelay + `[[policy.rule]]
name = "narrow"
match = { user = ["*"] }
decision = "allow"
senders = ["only@shop.example"]
relay = "second"
`})
	under.body(first)
	if got := under.say(""); got.code != 250 {
		t.Fatalf("the session under way hears %+v", got)
	}
	b.arrived(t, first, trace{"local process", "ESMTP"})
	third := newLetter()
	if got := idle.send(third, sender, recipient); got.code != 550 || !strings.Contains(got.text, `(rule "narrow")`) {
		t.Errorf("the session that was idle hears %+v", got)
	}
	if got := b.talk(t).say("MAIL FROM:<%s>", sender); got.code != 550 || !strings.Contains(got.text, `(rule "narrow")`) {
		t.Errorf("a new session hears %+v", got)
	}
	after := writeLetter("hello\r\n")
	after.text = []byte(strings.Replace(string(after.text), sender, "only@shop.example", 1))
	if got := b.talk(t).send(after, "only@shop.example", recipient); got.code != 250 {
		t.Errorf("a new session hears %+v", got)
	}
	if message := findOne(t, second, after); !message.Implicit || message.AuthUser != relayUser {
		t.Errorf("the second relay was reached with implicit TLS %v, as %q", message.Implicit, message.AuthUser)
	}
}

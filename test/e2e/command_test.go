package e2e_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// TestDemo: the whole job, in under 15 seconds, and nothing left behind.
func TestDemo(t *testing.T) {
	needRoot(t)
	began := time.Now()
	said, err := exec.Command(binary, "demo").CombinedOutput()
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, said)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the demo took %s", took)
	}
	for _, shown := range []string{
		"connection refused", "the certificate that it saw: smtp.elsewhere.example",
		"2 messages, both by smtpwall's own login", `rule "port25"`, "meant for 203.0.113.80:465", "Nothing is left behind",
	} {
		if !strings.Contains(string(said), shown) {
			t.Errorf("the demo does not show %q:\n%s", shown, said)
		}
	}
}

// TestAccountHash: what `smtpwall account hash` prints lets the account in by
// each mechanism, and nobody else.
func TestAccountHash(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: accountConfig(t)})
	for i, mechanism := range []string{"PLAIN", "LOGIN", "SCRAM-SHA-256"} {
		t.Run(mechanism, func(t *testing.T) {
			l := newLetter()
			o := order{
				Host: "localhost", Port: 587, TLS: "starttls", CA: b.localCA(),
				User: accountName, Password: accountPassword, Mechanism: mechanism, File: b.letterFile(l),
			}
			if got := b.python(t, o); got.Login != 235 || !strings.Contains(got.Extensions["auth"], mechanism) {
				t.Errorf("smtplib says %+v", got)
			}
			_, event := b.arrived(t, l, trace{"account", "ESMTPSA"})
			if event.AuthID != accountName {
				t.Errorf("the event says %+v", event)
			}
			o.Password = "guessed"
			b.checkNoLogin(t, o, 7001+uint32(i))
			o.User, o.Password = "nobody", accountPassword
			b.checkNoLogin(t, o, 8001+uint32(i))
		})
	}
	t.Run("not in clear", func(t *testing.T) {
		k := b.talk(t)
		if got := k.say("AUTH PLAIN AHdlYnNob3AAeA=="); got.code != 538 {
			t.Errorf("in clear the client hears %+v", got)
		}
	})
}

// checkNoLogin tries to log in as a user of its own, since those who failed
// before are slowed.
func (b *bed) checkNoLogin(t *testing.T, o order, uid uint32) {
	t.Helper()
	if said := mustFail(t, b.smtplibAs(t, uid, o)); !strings.Contains(said, "SMTPAuthenticationError: (535, ") {
		t.Errorf("as %s, with a wrong name or password, smtplib says:\n%s", o.User, said)
	}
}

// TestCheck: exit statuses, and all that is wrong in one run.
func TestCheck(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	if stdout, stderr, status := b.output("check", "--offline"); status != 0 || !strings.Contains(stdout, "is fine: mode enforce, 1 relays") {
		t.Errorf("of a good file check says, with status %d: %s%s", status, stdout, stderr)
	}
	online := lab.AsUser(b.command("check"), proxyUID, proxyUID)
	if said, err := online.CombinedOutput(); err != nil || !strings.Contains(string(said), "relay main: reached, verified and logged in") {
		t.Errorf("as the proxy's user check says %v: %s", err, said)
	}
	_ = b.relay.Close()
	online = lab.AsUser(b.command("check"), proxyUID, proxyUID)
	if said, err := online.CombinedOutput(); exitStatus(err) != 1 || !strings.Contains(string(said), "1 of 1 relays cannot be used") {
		t.Errorf("while the relay is away check says %v: %s", err, said)
	}
	b.rewrite(setup{config: "[hots]\nname = \"x\"\n[session]\nidle_timeout = 5\n[[policy.rule]]\nname = \"x\"\ndecision = \"maybe\"\n"})
	_, stderr, status := b.output("check", "--offline")
	if status != 2 {
		t.Errorf("of a bad file check has status %d", status)
	}
	for _, problem := range []string{"hots", `did you mean`, "idle_timeout", "decision", "hint: "} {
		if !strings.Contains(stderr, problem) {
			t.Errorf("check does not mention %q:\n%s", problem, stderr)
		}
	}
	b.rewrite(setup{})
	for args, want := range map[string]int{"": 2, "nonsense": 2, "help": 0, "version": 0, "log --nonsense": 2, "check /nonexistent": 2} {
		err := exec.Command(binary, strings.Fields(args)...).Run()
		if got := exitStatus(err); got != want {
			t.Errorf("smtpwall %s ended with status %d, want %d", args, got, want)
		}
	}
}

// TestLog: `smtpwall log` follows what happens, for people and as JSON, and
// nothing that a stranger wrote steers a terminal.
func TestLog(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	people := launch(t, b.command("log", "--follow"))
	machine := launch(t, b.command("log", "--follow", "--json", "--user", "www-data", "--kind", "transaction"))
	l := newLetter()
	k := b.talk(t)
	txn := k.send(l, sender, recipient).txn(t)
	people.said.await(t, txn, 1)
	machine.said.await(t, txn, 1)
	for _, shown := range []string{"allow <" + sender + "> -> <" + recipient + ">", "relay main, 250 2.0.0 ", "uid 33 (www-data)", "listener alternate"} {
		if !strings.Contains(people.said.String(), shown) {
			t.Errorf("log does not show %q:\n%s", shown, people.said)
		}
	}
	b.relay.On(testkit.StepMail, testkit.Fault{Text: "550 5.7.1 \x1b[2Jno\x9b"})
	refused := k.send(newLetter(), `"\[31m"@shop.example`, recipient).txn(t)
	k.must(250, "RSET")
	b.awaitEvent(t, "the refusal", func(e audit.Event) bool { return e.Txn == refused })
	for _, args := range [][]string{{"--id", refused}, {"--id", refused, "--json"}} {
		stdout, _, status := b.output("log", args...)
		if status != 0 || !strings.Contains(stdout, refused) || strings.ContainsAny(stdout, "\x1b\x9b\x7f") {
			t.Errorf("log %v ended with status %d: %q", args, status, stdout)
		}
	}
	dial, _, done := b.dial(attempts{from: b.Host, to: destinations(25, mx4)[0], count: 4, unit: newUnit(t)})
	done()
	checkRefused(t, dial)
	people.said.await(t, ` to `+mx4.String()+`:25, rule "port25"`, 1)
	if strings.Contains(machine.said.String(), "attempt") {
		t.Errorf("log --kind transaction shows attempts:\n%s", machine.said)
	}
}

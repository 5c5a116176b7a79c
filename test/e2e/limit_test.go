package e2e_test

import (
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// Users of a rule of their own each, that nobody else on the host has.
const (
	windowUID uint32 = 7201 + iota
	recipientsUID
	newUID
	bytesUID
	severalUID
	holdUID
	softUID
	slowUID
	suspendUID
)

// limitRules are one rule for each kind of limit and each rung.
var limitRules = `
[policy]
suspend_for = "1h"
ladder = ["defer at 100%"]
` + limitRule("window", windowUID, `limits = ["3 messages/4s"]`) +
	limitRule("recipients", recipientsUID, `limits = ["5 recipients/hour"]`) +
	limitRule("new", newUID, `limits = ["3 new-recipients/hour"]`) +
	limitRule("bytes", bytesUID, `limits = ["20KiB/hour"]`) +
	limitRule("several", severalUID, `limits = ["10 messages/hour", "2 messages/minute", "100MiB/day"]`) +
	limitRule("holding", holdUID, `limits = ["2 messages/hour"]`, `ladder = ["hold at 100%"]`) +
	limitRule("soft", softUID, `limits = ["12 messages/hour"]`, `ladder = ["slow at 100%"]`) +
	limitRule("slowing", slowUID, `limits = ["4 messages/hour"]`, `ladder = ["slow at 50%", "defer at 100%"]`) +
	limitRule("suspending", suspendUID, `limits = ["2 messages/hour"]`, `ladder = ["defer at 100%", "suspend at 200%"]`) +
	limitRule("programs", siteUID, `limits = ["1 messages/hour"]`)

func limitRule(name string, uid uint32, lines ...string) string {
	return fmt.Sprintf("[[policy.rule]]\nname = %q\nmatch = { uid = [%d] }\ndecision = \"allow\"\nheader_from = \"any\"\n%s\n",
		name, uid, strings.Join(lines, "\n"))
}

// TestLimits: what each limit counts and what each rung does, and what the
// client, the event and the commands say of it.
func TestLimits(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: limitRules})
	t.Run("window", func(t *testing.T) { t.Parallel(); b.checkWindow(t) })
	t.Run("recipients", func(t *testing.T) { t.Parallel(); b.checkRecipientLimit(t) })
	t.Run("new recipients", func(t *testing.T) { t.Parallel(); b.checkNewRecipients(t) })
	t.Run("bytes", func(t *testing.T) { t.Parallel(); b.checkBytes(t) })
	t.Run("several", func(t *testing.T) { t.Parallel(); b.checkSeveral(t) })
	t.Run("hold", func(t *testing.T) { t.Parallel(); b.checkHoldRung(t) })
	t.Run("slow", func(t *testing.T) { t.Parallel(); b.checkSlowRung(t) })
	t.Run("suspend", func(t *testing.T) { t.Parallel(); b.checkSuspendRung(t) })
	t.Run("programs", func(t *testing.T) { t.Parallel(); b.checkProgramsAtLimit(t) })
}

// postAs sends a letter in a session of its own.
func (b *bed) postAs(t testing.TB, uid uint32, to ...string) (letter, reply) {
	t.Helper()
	k := b.talkAs(t, uid)
	defer k.leave()
	l := newLetter()
	if len(to) == 0 {
		to = []string{recipient}
	}
	return l, k.send(l, sender, to...)
}

// leave ends a session in good order: what it had claimed and not used is given
// back when the connection ends.
func (k *talk) leave() {
	_ = k.text.PrintfLine("QUIT")
	_, _ = io.Copy(io.Discard, k.text.R) // it may have been ended by the other side
	k.close()
}

// mustPost sends letters that must be taken.
func (b *bed) mustPost(t testing.TB, uid uint32, n int) {
	t.Helper()
	for i := range n {
		if _, got := b.postAs(t, uid); got.code != 250 {
			t.Fatalf("letter %d of %d has the reply %+v", i+1, n, got)
		}
	}
}

var limitForm = regexp.MustCompile(`^4\.7\.1 limit of (.+) reached(?: \(rule "(.+)"\))?, try again after (\S+) \[smtpwall [0-9A-Z]{26}\]$`)

// opening is the time that a refusal for a limit gives.
func (r reply) opening(t testing.TB, limit, rule string) time.Time {
	t.Helper()
	found := limitForm.FindStringSubmatch(r.text)
	if r.code != 450 || found == nil || found[1] != limit || found[2] != rule {
		t.Fatalf("the client hears %+v, want that the limit of %s is reached, rule %q", r, limit, rule)
	}
	opens, err := time.Parse(time.RFC3339, found[3])
	if err != nil {
		t.Fatal(err)
	}
	return opens
}

// checkWindow: in no window there are more than the limit lets, the time that a
// refusal gives is right, and who comes back then gets through.
func (b *bed) checkWindow(t *testing.T) {
	const window, most = 4 * time.Second, 3
	var began, ended []time.Time // of those accepted
	for refusals := 0; refusals < 2 && len(began) < 100; {
		start := time.Now()
		_, got := b.postAs(t, windowUID)
		if got.code == 250 {
			began, ended = append(began, start), append(ended, time.Now())
			continue
		}
		refusals++
		opens := got.opening(t, "3 messages/4s", "window")
		if len(began) < most {
			t.Fatalf("refused after %d messages", len(began))
		}
		first := len(began) - most // the one whose end makes room
		earliest, latest := began[first].Add(window), ended[first].Add(window+window/64+time.Second)
		if opens.Before(earliest.Truncate(time.Second)) || opens.After(latest) {
			t.Errorf("the client is told to come back after %s, want between %s and %s", opens, earliest, latest)
		}
		if event := b.transaction(t, got.txn(t)); event.Limit != "3 messages/4s of uid:7201" || event.Decision != "defer" ||
			event.Identity != "uid:7201" || event.Custody != audit.CustodyClient || event.Until.IsZero() || event.Until.After(opens) {
			t.Errorf("the event says %+v", event)
		}
		time.Sleep(time.Until(opens))
		if _, again := b.postAs(t, windowUID); again.code != 250 {
			t.Errorf("told to come back after %s, at %s the client hears %+v", opens, time.Now(), again)
		}
		began, ended = append(began, opens), append(ended, time.Now())
	}
	for i := range len(began) - most {
		if apart := ended[i+most].Sub(began[i]); apart < window {
			t.Errorf("%d messages within %s", most+1, apart)
		}
	}
}

func (b *bed) checkRecipientLimit(t *testing.T) {
	five := []string{"a@example.net", "b@example.net", "c@example.net", "d@example.net", "e@example.net"}
	k := b.talkAs(t, recipientsUID)
	// What was broken off takes nothing.
	k.must(250, "MAIL FROM:<%s>", sender)
	for _, to := range five {
		k.must(250, "RCPT TO:<%s>", to)
	}
	k.must(450, "RCPT TO:<f@example.net>").opening(t, "5 recipients/hour", "recipients")
	k.must(250, "RSET")
	// Nor does a recipient that the relay refuses.
	b.relay.On(testkit.StepRcpt, relayRefusal("nobody"))
	l := newLetter()
	if got := k.send(l, sender, append([]string{"nobody@example.net"}, five...)...); got.code != 250 {
		t.Fatalf("the client hears %+v", got)
	}
	checkReached(t, findOne(t, b.relay, l), five)
	if _, got := b.postAs(t, recipientsUID); got.code != 450 {
		t.Errorf("beyond the limit the client hears %+v", got)
	}
}

func (b *bed) checkNewRecipients(t *testing.T) {
	for range 2 { // known ones are not new
		for _, to := range []string{"one@example.net", "two@example.net", "ONE@EXAMPLE.NET"} {
			if _, got := b.postAs(t, newUID, to); got.code != 250 {
				t.Fatalf("to %s the client hears %+v", to, got)
			}
		}
	}
	l, got := b.postAs(t, newUID, "one@example.net", "three@example.net", "four@example.net")
	if got.code != 250 {
		t.Fatalf("the client hears %+v", got)
	}
	checkReached(t, findOne(t, b.relay, l), []string{"one@example.net", "three@example.net"})
	_, got = b.postAs(t, newUID, "four@example.net")
	got.opening(t, "3 new-recipients/hour", "new")
	if _, got := b.postAs(t, newUID, "two@example.net"); got.code != 250 {
		t.Errorf("to one who is known the client hears %+v", got)
	}
}

func (b *bed) checkBytes(t *testing.T) {
	k := b.talkAs(t, bytesUID)
	k.must(552, "MAIL FROM:<%s> SIZE=30000", sender) // it would never have room
	if got := k.send(bigLetter(15<<10), sender, recipient); got.code != 250 {
		t.Fatalf("the client hears %+v", got)
	}
	// The size is what was sent, not what was announced.
	k.must(250, "MAIL FROM:<%s> SIZE=100", sender)
	k.must(250, "RCPT TO:<%s>", recipient)
	k.must(354, "DATA")
	l := bigLetter(10 << 10)
	k.body(l)
	k.say("").opening(t, "20KiB/hour", "bytes")
	if n := len(findAll(b.relay, l)); n > 0 {
		t.Errorf("the relay has what was refused, %d times", n)
	}
	if got := k.send(bigLetter(2<<10), sender, recipient); got.code != 250 {
		t.Errorf("where there is room the client hears %+v", got)
	}
}

func (b *bed) checkSeveral(t *testing.T) {
	b.mustPost(t, severalUID, 2)
	start := time.Now()
	_, got := b.postAs(t, severalUID)
	if opens := got.opening(t, "2 messages/minute", "several"); opens.After(start.Add(70 * time.Second)) {
		t.Errorf("at %s the client is told to come back after %s", start, opens)
	}
}

// checkHoldRung: beyond the limit messages are accepted and wait, and who
// releases them gets them delivered.
func (b *bed) checkHoldRung(t *testing.T) {
	b.mustPost(t, holdUID, 2)
	l, got := b.postAs(t, holdUID)
	if got.code != 250 || !strings.Contains(got.text, "held until the administrator releases it") {
		t.Fatalf("beyond the limit the client hears %+v", got)
	}
	txn := got.txn(t)
	ids, all := b.list(t, "hold", "--identity", fmt.Sprint(holdUID))
	if len(ids) != 1 || ids[0] != txn || all[txn].Progress.Hold != "limit" || !strings.Contains(all[txn].Progress.Reason, "2 messages/hour") {
		t.Errorf("hold has %+v", all)
	}
	if len(findAll(b.relay, l)) > 0 {
		t.Error("the relay has what is held")
	}
	b.orders(t, 0, "1 message released", "hold", "release", txn)
	b.awaitDelivery(t, txn)
	l.compare(t, findOne(t, b.relay, l).Bytes)
}

// checkSlowRung: replies come late beyond the rung, and with slow as its only rung
// a ladder refuses nothing.
func (b *bed) checkSlowRung(t *testing.T) {
	for name, c := range map[string]struct {
		uid   uint32
		quick int
	}{"beyond the rung": {slowUID, 3}, "without a rung that refuses": {softUID, 12}} {
		b.mustPost(t, c.uid, c.quick)
		start := time.Now()
		if _, got := b.postAs(t, c.uid); got.code != 250 {
			t.Errorf("%s the client hears %+v", name, got)
		}
		if took := time.Since(start); took < time.Second {
			t.Errorf("%s the message took %s", name, took)
		}
	}
}

// checkSuspendRung: who goes on trying is suspended for the time that
// suspend_for says, and those who send otherwise are not.
func (b *bed) checkSuspendRung(t *testing.T) {
	b.mustPost(t, suspendUID, 2)
	for tries := 0; ; tries++ {
		_, got := b.postAs(t, suspendUID)
		if strings.Contains(got.text, "identity suspended") {
			if tries < 2 {
				t.Errorf("suspended at the try %d beyond the limit", tries+1)
			}
			break
		}
		if got.code != 450 || tries > 4 {
			t.Fatalf("at try %d beyond the limit the client hears %+v", tries+1, got)
		}
	}
	event := b.awaitEvent(t, "the suspension", func(e audit.Event) bool { return e.Kind == audit.KindSuspension && e.Identity == "uid:7209" })
	if event.By != "ladder of rule suspending" || event.Outcome != audit.OutcomeSuspended || event.Until.Sub(event.Time) < 59*time.Minute {
		t.Errorf("the event says %+v", event)
	}
	stdout, stderr, status := b.output("suspend")
	if status != 0 || !strings.Contains(stdout, "uid:7209") || !strings.Contains(stdout, "ladder of rule suspending") {
		t.Errorf("suspend ended with status %d: %s%s", status, stdout, stderr)
	}
	b.orders(t, 0, "may send again", "resume", "uid:7209")
	_, got := b.postAs(t, suspendUID)
	got.opening(t, "2 messages/hour", "suspending")
}

// checkProgramsAtLimit: the programs that people send by take the refusal for
// one that passes; whatever way they come, it is one identity.
func (b *bed) checkProgramsAtLimit(t *testing.T) {
	b.mustPost(t, siteUID, 1)
	l := newLetter()
	sendmail := "msmtp --file=" + b.msmtpConfig() + " --account=submission --read-recipients"
	for name, cmd := range map[string]*exec.Cmd{
		"curl":             b.program("curl", b.curl(l, "smtp://localhost:587", "--ssl-reqd")...),
		"curl, the socket": b.program("curl", b.curl(l, "smtp://localhost:1", "--unix-socket", b.path("submit.sock"))...),
		"swaks":            b.program("swaks", b.swaks(newLetter(), "--server", "127.0.0.1:2525")...),
		"swaks, redirected": b.program("swaks", b.swaks(newLetter(), "--server", foreign4.String()+":587", "--tls",
			"--auth", "PLAIN", "--auth-user", "somebody", "--auth-password", "junk")...),
		"msmtp": b.msmtp("submissions", l),
		"php": b.program("php", "-d", `sendmail_path="`+sendmail+`"`, "-d", "mail.add_x_header=0",
			b.script(t, "mail.php"), b.letterFile(l)),
	} {
		if said := mustFail(t, cmd); !strings.Contains(said, "450 4.7.1 limit of 1 messages/hour reached (rule \"programs\"), try again after ") {
			t.Errorf("%s says:\n%s", name, said)
		}
	}
	cmd := b.smtplib(t, order{Host: "localhost", Port: 2525, TLS: "none", File: b.letterFile(l)})
	if said := mustSucceed(t, cmd); !strings.Contains(said, "[450, \"4.7.1 limit of 1 messages/hour reached") {
		t.Errorf("smtplib says:\n%s", said)
	}
}

// relayRefusal is what a relay says of a recipient that it does not know.
func relayRefusal(contains string) testkit.Fault {
	return testkit.Fault{Text: "550 5.1.1 no such user", Contains: contains}
}

// TestLimitsOfReadme: the example that people paste is a configuration without
// doubts, and in force as it stands.
func TestLimitsOfReadme(t *testing.T) {
	t.Parallel()
	_, text, found := strings.Cut(readFile(t, "../../README.md"), "```toml\n[policy]\n")
	example, _, ended := strings.Cut("[policy]\n"+text, "```")
	if !found || !ended {
		t.Fatal("README.md has no example of a policy")
	}
	example = strings.Replace(example, `user = ["shop"]`, `user = ["www-data"]`, 1)
	b := newBed(t, setup{config: example})
	if stdout, stderr, status := b.output("check", "--offline"); status != 0 || strings.Contains(stderr, "warning") {
		t.Errorf("of the example in README.md check says, with status %d: %s%s", status, stdout, stderr)
	}
	b.mustPost(t, siteUID, 1)
	for limit, key := range map[string]string{"1000 messages/hour": "uid:33", "5000 recipients/day": "host"} {
		if used := b.used(t, "www-data", key, limit); used != 1 {
			t.Errorf("of %s of %s %d are used, want 1", limit, key, used)
		}
	}
	stdout, _, status := b.output("test", "--as", "www-data", "--from", sender, "--to", "b@example.net")
	if status != 0 || !strings.Contains(stdout, `rule "shop"`) || !strings.Contains(stdout, "hold at 150%") {
		t.Errorf("test ended with status %d: %s", status, stdout)
	}
}

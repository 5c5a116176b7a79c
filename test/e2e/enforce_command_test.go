package e2e_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// plannedEntry is what `plan --json` says of one identity.
type plannedEntry struct {
	UID        uint32 `json:"peer_uid"`
	Refused    int    `json:"refused"`
	Redirected int    `json:"redirected"`
	Decision   struct {
		Result string `json:"decision"`
	} `json:"decision"`
}

// plan runs `plan --json`.
func (b *bed) plan(t testing.TB) (entries []plannedEntry, proposal string) {
	t.Helper()
	stdout, stderr, status := b.output("plan", "--json")
	var p struct {
		Watch struct {
			Running, Cut bool
			Seconds      int
		}
		Identities []plannedEntry
		Proposal   string
	}
	if err := json.Unmarshal([]byte(stdout), &p); err != nil || status != 0 || !p.Watch.Running || p.Watch.Cut {
		t.Fatalf("plan ended with status %d, %v: %s%s", status, err, stdout, stderr)
	}
	return p.Identities, p.Proposal
}

// mode runs enforce, confirm or observe.
func (b *bed) mode(t testing.TB, said string, args ...string) {
	t.Helper()
	if _, stderr, status := b.output(args[0], args[1:]...); status != 0 || !strings.Contains(stderr, said) {
		t.Errorf("%v ended with status %d: %q, want %q", args, status, stderr, said)
	}
}

// reached says what comes of one connection of the web site, from its unit.
func (b *bed) reached(unit *os.File, to netip.AddrPort) string {
	b.t.Helper()
	tries, _, done := b.dial(attempts{from: b.Host, uid: siteUID, to: to, count: 1, unit: unit})
	done()
	return tries[0].Came
}

// TestFromObservingToEnforcing: what was observed is planned, the proposal is
// pasted, a trial goes back by itself, and one that is confirmed stays until
// somebody observes again.
func TestFromObservingToEnforcing(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{mode: "observe"})
	unit := newUnit(t)
	mx, foreign := netip.AddrPortFrom(mx4, 25), netip.AddrPortFrom(foreign4, 587)
	for _, to := range []netip.AddrPort{mx, foreign} {
		b.listen(b.Remote, to)
		if came := b.reached(unit, to); came != "connected" {
			t.Fatalf("observing, a connection to %s came to %s", to, came)
		}
		b.awaitEvent(t, "the attempt", func(e audit.Event) bool { return e.Kind == audit.KindAttempt && e.Destination == to })
	}
	entries, proposal := b.plan(t)
	if len(entries) != 1 || entries[0].UID != siteUID || entries[0].Refused != 1 || entries[0].Redirected != 1 || entries[0].Decision.Result != "allow" {
		t.Errorf("the plan is %+v", entries)
	}
	b.paste(t, proposal)
	b.tryEnforcing(t, unit, mx)
}

// paste puts the proposal into the configuration, and check likes it.
func (b *bed) paste(t testing.TB, proposal string) {
	t.Helper()
	text, err := os.ReadFile(b.path("host.toml"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("host.toml", string(text)+proposal, 0o644, 0)
	if stdout, stderr, status := b.output("check", "--offline"); status != 0 || !strings.Contains(stdout, "1 policy rules") || strings.Contains(stderr, "error") {
		t.Errorf("check of what was pasted ended with status %d: %s%s", status, stdout, stderr)
	}
}

func (b *bed) tryEnforcing(t testing.TB, unit *os.File, mx netip.AddrPort) {
	t.Helper()
	b.mode(t, "unless smtpwall confirm comes", "enforce", "--confirm-within", "10s")
	if came := b.reached(unit, mx); came != "ECONNREFUSED" {
		t.Errorf("on trial, a connection came to %s", came)
	}
	if stdout, _, _ := b.output("status"); !strings.Contains(stdout, "mode enforce, rules in force") || !strings.Contains(stdout, ", on trial until ") {
		t.Errorf("status says %s", stdout)
	}
	back := b.awaitEvent(t, "the end of the trial", func(e audit.Event) bool { return e.Kind == audit.KindMode && e.By == "end of the trial" })
	if came := b.reached(unit, mx); came != "connected" || back.Outcome != audit.OutcomeObserve {
		t.Errorf("after the trial, a connection came to %s: %+v", came, back)
	}
	if _, stderr, status := b.output("confirm"); status != 1 || !strings.Contains(stderr, "there is no trial to confirm") {
		t.Errorf("confirm after the trial ended with status %d: %s", status, stderr)
	}
	b.mode(t, "unless smtpwall confirm comes", "enforce", "--confirm-within", "1h")
	b.mode(t, "enforce mode stays", "confirm")
	if came := b.reached(unit, mx); came != "ECONNREFUSED" {
		t.Errorf("confirmed, a connection came to %s", came)
	}
	b.mode(t, "the block is down", "observe")
	if came := b.reached(unit, mx); came != "connected" {
		t.Errorf("observing again, a connection came to %s", came)
	}
}

// TestSuspendCommand: who is suspended is refused at once, its open session ends,
// its messages in the spool are held, and resume undoes all of it.
func TestSuspendCommand(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	_ = b.relay.Close()
	kept := newLetter()
	txn := b.queue(t, siteUID, kept)
	open := b.talkAs(t, siteUID)
	open.must(250, "MAIL FROM:<%s>", sender)
	b.orders(t, 0, "uid:33 (www-data) is suspended until it is resumed", "suspend", "www-data", "--reason", "it was broken into")
	if got := open.say("NOOP"); got.code != 421 {
		t.Errorf("the open session hears %+v", got)
	}
	if got := b.awaitHeld(t, "suspended", 1); got[0] != txn {
		t.Errorf("held are %v, want %s", got, txn)
	}
	b.checkSuspended(t)
	other := b.talkAs(t, 7001)
	if got := other.say("MAIL FROM:<%s>", sender); got.code != 250 {
		t.Errorf("somebody else hears %+v", got)
	}
	other.close()
	b.relay = b.startRelay(relayAddr)
	b.orders(t, 0, "uid:33 (www-data) may send again", "resume", "uid:33")
	b.awaitDelivery(t, txn)
	findOne(t, b.relay, kept)
	fresh := newLetter()
	k := b.talkAs(t, siteUID)
	defer k.close()
	if got := k.send(fresh, sender, recipient); got.code != 250 {
		t.Errorf("after resume the client hears %+v", got)
	}
	b.orders(t, 1, "uid:33 (www-data) is not suspended", "resume", "www-data")
}

// checkSuspended: the web site cannot submit, the list says so, and the log too.
func (b *bed) checkSuspended(t testing.TB) {
	t.Helper()
	k := b.talkRefused(t)
	if k.code != 550 || !strings.Contains(k.text, "5.7.1 ") || !strings.Contains(k.text, "identity suspended") {
		t.Errorf("a suspended client hears %+v", k)
	}
	stdout, stderr, status := b.output("suspend", "--json")
	var listed struct {
		Key, Reason, By string
		Since           time.Time
	}
	if err := json.Unmarshal([]byte(stdout), &listed); err != nil || status != 0 || listed.Key != "uid:33" ||
		listed.Reason != "it was broken into" || listed.By != "uid 0" || time.Since(listed.Since) > time.Minute {
		t.Errorf("suspend ended with status %d, %v: %s%s", status, err, stdout, stderr)
	}
	if stdout, _, _ := b.output("status"); !strings.Contains(stdout, "\nsuspended: 1, whom smtpwall suspend lists\n") {
		t.Errorf("status says %s", stdout)
	}
	if events := b.events("--kind", "suspension", "--identity", "uid:33"); len(events) != 1 || events[0].Outcome != audit.OutcomeSuspended || events[0].By != "uid 0" {
		t.Errorf("the log says %+v", events)
	}
}

// talkRefused is what the web site hears to MAIL.
func (b *bed) talkRefused(t testing.TB) reply {
	t.Helper()
	k := b.talkAs(t, siteUID)
	defer k.close()
	return k.say("MAIL FROM:<%s>", sender)
}

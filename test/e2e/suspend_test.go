package e2e_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// TestSuspend: by a person's word an identity is off at once, with its open
// sessions and what it has in the spool, and on again as if nothing had been.
func TestSuspend(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.relay.On(testkit.StepMail, testkit.Fault{Text: "451 4.3.0 not now"})
	l := newLetter()
	txn := b.queue(t, siteUID, l)
	other := b.talkAs(t, 7401)
	idle, amid := b.talk(t), b.talk(t)
	idle.must(250, "MAIL FROM:<%s>", sender)
	amid.must(250, "MAIL FROM:<%s>", sender)
	amid.must(250, "RCPT TO:<%s>", recipient)
	amid.must(354, "DATA")

	b.orders(t, 0, "(www-data) is suspended until it is resumed", "suspend", "www-data", "--reason", "sends spam")
	for name, k := range map[string]*talk{"idle": idle, "amid the data": amid} {
		if got := k.say(""); got.code != 421 {
			t.Errorf("%s the client hears %+v, want 421", name, got)
		}
		if line, err := k.text.ReadLine(); err == nil {
			t.Errorf("%s the client hears %q after the 421", name, line)
		}
	}
	other.must(250, "NOOP")
	_, got := b.postAs(t, siteUID)
	if got.code != 550 || !strings.HasPrefix(got.text, "5.7.1 identity suspended [") {
		t.Errorf("a new session hears %+v", got)
	}
	if event := b.transaction(t, got.txn(t)); event.Reason != "identity suspended" || event.Decision != "deny" {
		t.Errorf("the event says %+v", event)
	}
	if ids := b.awaitHeld(t, "suspended", 1); ids[0] != txn {
		t.Errorf("hold has %v, want %s", ids, txn)
	}
	b.checkSuspensionTold(t)

	b.relay.ClearFaults()
	b.orders(t, 0, "may send again", "resume", "uid:33")
	b.awaitDelivery(t, txn)
	l.compare(t, findOne(t, b.relay, l).Bytes)
	b.mustPost(t, siteUID, 1)
	b.orders(t, 1, "is not suspended", "resume", "www-data")
	b.checkSuspensionEvents(t, "uid:33", "sends spam")
}

// checkSuspensionTold: who is suspended is told, and counted.
func (b *bed) checkSuspensionTold(t *testing.T) {
	t.Helper()
	stdout, _, status := b.output("suspend")
	for _, shown := range []string{"uid:33 (www-data)", "sends spam", "uid 0", "resumed"} {
		if status != 0 || !strings.Contains(stdout, shown) {
			t.Errorf("suspend, with status %d, does not show %q:\n%s", status, shown, stdout)
		}
	}
	stdout, _, _ = b.output("suspend", "--json")
	var told struct{ Key, Reason, By, Until string }
	if err := json.Unmarshal([]byte(stdout), &told); err != nil || told.Key != "uid:33" || told.Reason != "sends spam" || told.By == "" || told.Until != "" {
		t.Errorf("suspend --json says %s (%v)", stdout, err)
	}
	if stdout, stderr, status := b.output("status"); !strings.Contains(stdout, "suspended: 1") {
		t.Errorf("status, with %d, does not say that one is suspended:\n%s%s", status, stdout, stderr)
	}
}

func (b *bed) checkSuspensionEvents(t *testing.T, key, reason string) {
	t.Helper()
	events := b.events("--kind", "suspension", "--identity", key)
	if len(events) != 2 || events[0].Outcome != audit.OutcomeSuspended || events[0].Reason != reason || events[1].Outcome != audit.OutcomeResumed ||
		events[0].By == "" || events[1].By == "" {
		t.Errorf("the events are %+v", events)
	}
}

// TestSuspendForAWhile: a suspension with an end is a refusal that passes, and
// ends by itself, also while nothing ran.
func TestSuspendForAWhile(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.relay.On(testkit.StepMail, testkit.Fault{Text: "451 4.3.0 not now"})
	l := newLetter()
	txn := b.queue(t, siteUID, l)
	b.relay.ClearFaults()
	stdout, stderr, status := b.output("suspend", "www-data", "--for", "2s", "--json")
	var told struct{ Until time.Time }
	if err := json.Unmarshal([]byte(stdout), &told); err != nil || status != 0 || !strings.Contains(stderr, "is suspended until ") {
		t.Fatalf("suspend ended with status %d: %s%s", status, stdout, stderr)
	}
	for {
		asked := time.Now()
		_, got := b.postAs(t, siteUID)
		if got.code == 250 {
			break
		}
		if got.code != 450 || !strings.HasPrefix(got.text, "4.7.1 identity suspended, try again after ") || asked.After(told.Until) {
			t.Fatalf("at %s, suspended until %s, the client hears %+v", asked, told.Until, got)
		}
	}
	if now := time.Now(); now.Before(told.Until) {
		t.Errorf("resumed at %s, before %s", now, told.Until)
	}
	b.awaitDelivery(t, txn)
	l.compare(t, findOne(t, b.relay, l).Bytes)
	b.checkSuspensionEvents(t, "uid:33", "")

	for args, says := range map[string]string{
		"suspend --for 2s":                        "suspend needs an identity",
		"suspend nobody-of-this-name":             `this host has no user`,
		"suspend unit:cron":                       "unit:cron.service",
		"suspend address:192.0.2.1":               "uid:N, account:NAME, container:ID",
		"suspend 33 --for 1h --until 2099-01-01":  "leave one of them out",
		"suspend 33 --until 2001-01-01T00:00:00Z": "is over",
		"resume":                      "resume needs one identity",
		"suspend account:a account:b": "suspend needs one identity",
		"suspend uid:99999999999 --reason too-large": "a uid is a number",
	} {
		words := strings.Fields(args)
		if _, stderr, status := b.output(words[0], words[1:]...); status != 2 || !strings.Contains(stderr, says) {
			t.Errorf("%s ended with status %d, want 2 and %q: %s", args, status, says, stderr)
		}
	}
	b.checkSuspendOffline(t)
}

// checkSuspendOffline: while nothing runs, nobody can be suspended or resumed, and
// the commands say what to do.
func (b *bed) checkSuspendOffline(t *testing.T) {
	b.orders(t, 0, "is suspended until ", "suspend", "uid:7412", "--for", "1s")
	b.orders(t, 0, "is suspended until it is resumed", "suspend", "account:webshop")
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"suspend"}, {"suspend", "www-data"}, {"resume", "www-data"}} {
		if stdout, stderr, status := b.output(args[0], args[1:]...); status != 1 || stdout != "" ||
			!strings.Contains(stderr, "no proxy is running") || !strings.Contains(stderr, "hint: systemctl start smtpwall.service") {
			t.Errorf("while nothing runs %v ended with status %d: %s%s", args, status, stdout, stderr)
		}
	}
	b.start(setup{})
	stdout, _, _ := b.output("suspend")
	if !strings.Contains(stdout, "account:webshop") {
		t.Errorf("after a restart suspended are:\n%s", stdout)
	}
	await(t, "a message of who was suspended for a second", func() bool {
		_, got := b.postAs(t, 7412)
		return got.code == 250
	})
}

// TestSuspendSurvives: a suspension stands when the command returns, whatever
// becomes of the processes.
func TestSuspendSurvives(t *testing.T) {
	t.Parallel()
	s := setup{errors: []string{proxyEnded}}
	b := newBed(t, s)
	b.orders(t, 0, "is suspended", "suspend", "uid:7431")
	b.killProxy(t)
	b.orders(t, 0, "is suspended", "suspend", "uid:7432")
	b.orders(t, 0, "may send again", "resume", "uid:7431")
	if err := b.run.end(syscall.SIGKILL); errors.Is(err, errStays) {
		t.Fatal(err)
	}
	b.start(s)
	b.mustPost(t, 7431, 1)
	if _, got := b.postAs(t, 7432); got.code != 550 || !strings.HasPrefix(got.text, "5.7.1 identity suspended") {
		t.Errorf("who was suspended before the kill hears %+v", got)
	}
}

// TestSuspendOthers: units and accounts can be suspended, with all that runs or
// logs in there, and nobody else.
func TestSuspendOthers(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: accountConfig(t)})
	unit := newUnit(t)
	name := unit.Name()[strings.LastIndexByte(unit.Name(), '/')+1:]
	curl := func(args ...string) []string {
		return b.curl(newLetter(), "smtp://localhost:587", append(args, "--ssl-reqd")...)
	}
	login := []string{"--user", accountName + ":" + accountPassword}
	mustSucceed(t, inCGroup(b.program("curl", curl()...), unit))
	b.orders(t, 0, "unit:"+name+" is suspended", "suspend", "unit:"+name)
	for _, uid := range []uint32{siteUID, 7421} {
		if said := mustFail(t, inCGroup(b.programAs(uid, "curl", curl()...), unit)); !strings.Contains(said, "< 550 5.7.1 identity suspended") {
			t.Errorf("in the unit curl says:\n%s", said)
		}
	}
	mustSucceed(t, b.program("curl", curl()...))
	b.orders(t, 0, "account:webshop is suspended", "suspend", "account:webshop", "--for", "1h")
	if said := mustFail(t, b.program("curl", curl(login...)...)); !strings.Contains(said, "< 450 4.7.1 identity suspended, try again after ") {
		t.Errorf("with the account curl says:\n%s", said)
	}
	mustSucceed(t, b.program("curl", curl()...))
	b.orders(t, 0, "may send again", "resume", "account:webshop")
	b.orders(t, 0, "may send again", "resume", "unit:"+name)
	mustSucceed(t, inCGroup(b.program("curl", curl(login...)...), unit))
}

// TestSuspendCutsDirect: a connection that [[firewall.allow]] lets through ends
// with the suspension of whose it is, and no other begins until it is resumed.
func TestSuspendCutsDirect(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{config: fmt.Sprintf("[[firewall.allow]]\nuid = %d\ndestination = \"%s:587\"\n", siteUID, foreign4)})
	to := netip.AddrPortFrom(foreign4, 587)
	b.answer(t, to)
	direct := func() bool { // whoever is redirected hears another name
		conn, heard := b.greeting(t, to)
		_ = conn.Close()
		return heard == "220 outside\r\n"
	}
	conn, heard := b.greeting(t, to)
	defer conn.Close()
	if heard != "220 outside\r\n" {
		t.Fatalf("at %s, which is allowed, a client hears %q", to, heard)
	}
	b.orders(t, 0, "is suspended", "suspend", "uid:33")
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the direct connection ends with %v", err)
	}
	await(t, "the end of direct connections", func() bool { return !direct() })
	b.orders(t, 0, "may send again", "resume", "uid:33")
	await(t, "a direct connection after the resumption", direct)
}

// answer greets whoever connects to an address outside, and stays.
func (b *bed) answer(t *testing.T, at netip.AddrPort) {
	t.Helper()
	listener, err := b.Remote.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { // ends with the listener, below
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { // ends with the connection, which the client or the suspension ends
				defer conn.Close()
				_, _ = io.WriteString(conn, "220 outside\r\n")
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				_, _ = conn.Read(make([]byte, 1))
			})
		}
	})
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
}

// greeting connects as the web site and hears the first line.
func (b *bed) greeting(t *testing.T, at netip.AddrPort) (net.Conn, string) {
	t.Helper()
	conn, err := b.Host.DialAs(t.Context(), siteUID, at)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	line, _ := bufio.NewReader(conn).ReadString('\n') // cut off, it is none
	return conn, line
}

// await waits until something comes true.
func await(t testing.TB, what string, happened func() bool) {
	t.Helper()
	awaitCount(t, what, 1, func() int64 {
		if happened() {
			return 1
		}
		return 0
	})
}

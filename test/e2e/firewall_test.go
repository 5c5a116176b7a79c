package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// othersRules are of some other tool, and none of our business.
const othersRules = `table inet other {
	set busy {
		type inet_service
		elements = { 8080 }
	}

	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport @busy drop
	}
}
`

// loadOthers loads the rules of somebody else, on the host.
func (b *bed) loadOthers() {
	b.t.Helper()
	cmd := b.Host.Command(b.t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(othersRules)
	if said, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("loading rules: %v: %s", err, said)
	}
}

// refused tries port 25 outside as root.
func (b *bed) refused(t testing.TB, v6 bool) bool {
	t.Helper()
	to := destinations(25, mx4, mx6)[map[bool]int{true: 1}[v6]]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := b.Host.Dial(ctx, to)
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// firewallCommand runs smtpwall firewall.
func (b *bed) firewallCommand(t testing.TB, want int, args ...string) string {
	t.Helper()
	stdout, stderr, status := b.output("firewall", append(args, "--uid", fmt.Sprint(proxyUID))...)
	if status != want {
		t.Errorf("smtpwall firewall %s ended with status %d, want %d: %s%s", strings.Join(args, " "), status, want, stdout, stderr)
	}
	return stdout
}

// TestFirewallCommands: the rules without the services, and nothing left of them.
func TestFirewallCommands(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	b.listen(b.Remote, netip.AddrPortFrom(mx4, 25))
	b.listen(b.Remote, netip.AddrPortFrom(mx6, 25))
	b.loadOthers()
	before := b.ruleset()
	if got := b.firewallCommand(t, 3, "status"); got != "no rules are applied\n" {
		t.Errorf("status says %q", got)
	}
	show := b.firewallCommand(t, 0, "show")
	if dry := b.firewallCommand(t, 0, "apply", "--dry-run"); dry != show {
		t.Errorf("apply --dry-run prints\n%s\nshow prints\n%s", dry, show)
	}
	b.firewallCommand(t, 0, "remove")
	if got := b.ruleset(); got != before {
		t.Errorf("commands that change nothing changed the rules:\n%s", got)
	}
	for range 2 { // it may be repeated
		b.firewallCommand(t, 0, "apply")
	}
	table, err := b.Host.Command(t.Context(), "nft", "list", "table", "inet", "smtpwall").Output()
	if err != nil || string(table) != show {
		t.Errorf("nft lists %v\n%s\nshow prints\n%s", err, table, show)
	}
	var state struct {
		Applied bool     `json:"applied"`
		Mode    string   `json:"mode"`
		Drifts  []string `json:"drifts"`
		Relays  []string `json:"relays"`
	}
	err = json.Unmarshal([]byte(b.firewallCommand(t, 0, "status", "--json")), &state)
	if err != nil || !state.Applied || state.Mode != "enforce" || len(state.Drifts) > 0 || len(state.Relays) != 1 {
		t.Errorf("status --json says %+v, %v", state, err)
	}
	if !b.refused(t, false) || !b.refused(t, true) {
		t.Error("port 25 is open")
	}
	if said, err := b.Host.Command(t.Context(), "nft", "flush", "chain", "inet", "smtpwall", "outgoing").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if got := b.firewallCommand(t, 3, "status"); !strings.Contains(got, "differs: ") {
		t.Errorf("of rules that somebody changed status says %s", got)
	}
	b.firewallCommand(t, 0, "remove")
	if got := b.ruleset(); got != before {
		t.Errorf("remove leaves\n%s\nbefore apply there was\n%s", got, before)
	}
	if b.refused(t, false) || b.refused(t, true) {
		t.Error("port 25 is closed after remove")
	}
}

// TestInterrupt: Ctrl-C leaves the host as it was, whenever it comes.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"rules applied", "smtpwall runs in enforce mode", "accepting mail", "relay is ready"} {
		t.Run(when, func(t *testing.T) {
			b := newBed(t, setup{idle: true})
			b.loadOthers()
			before := b.ruleset()
			b.run = launch(t, b.command("run", "--uid", fmt.Sprint(proxyUID)))
			b.run.said.await(t, when, 1)
			if err := b.run.end(syscall.SIGINT); err != nil {
				t.Errorf("run ended with %v:\n%s", err, b.run.said)
			}
			if after := b.ruleset(); after != before {
				t.Errorf("run leaves\n%s\nbefore there was\n%s", after, before)
			}
		})
	}
}

// TestKilled: the rules outlive us, and the next start takes them over.
func TestKilled(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true, errors: []string{proxyEnded}})
	before := b.ruleset()
	b.start(setup{errors: []string{proxyEnded}})
	awaitProxyEnd := awaiter(t, b.proxy(t))
	if err := b.run.end(syscall.SIGKILL); errors.Is(err, errStays) {
		t.Fatal(err)
	}
	awaitProxyEnd()
	for _, v6 := range []bool{false, true} {
		if !b.refused(t, v6) {
			t.Errorf("port 25 is open, IPv6 %v", v6)
		}
	}
	if got := b.firewallCommand(t, 0, "status"); !strings.Contains(got, "mode enforce") {
		t.Errorf("status says %s", got)
	}
	b.start(setup{errors: []string{proxyEnded}})
	l := newLetter()
	if got := b.talk(t).send(l, sender, recipient); got.code != 250 {
		t.Errorf("after the next start the client hears %+v", got)
	}
	b.killProxy(t)
	if !b.refused(t, false) || !b.refused(t, true) {
		t.Error("port 25 is open after the proxy was killed")
	}
	if got := b.talk(t).send(newLetter(), sender, recipient); got.code != 250 {
		t.Errorf("after the proxy was killed the client hears %+v", got)
	}
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Errorf("run ended with %v", err)
	}
	if after := b.ruleset(); after != before {
		t.Errorf("run leaves\n%s", after)
	}
}

// awaiter waits for the end of a process that is nobody's child of ours.
func awaiter(t testing.TB, pid int) (await func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		defer func() { _ = unix.Close(fd) }()
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		if err != nil || n != 1 {
			t.Fatalf("process %d stays: %v", pid, err)
		}
	}
}

// table is our table as nft lists it, without what changes by itself; "" if it
// is not there.
func (b *bed) table() string {
	out, _ := b.Host.Command(b.t.Context(), "nft", "list", "table", "inet", "smtpwall").Output()
	lines := slices.DeleteFunc(strings.SplitAfter(string(out), "\n"), func(line string) bool {
		return strings.Contains(line, "packets ") || strings.Contains(line, "expires ")
	})
	return strings.Join(lines, "")
}

// TestFlushed: what others do to the rules is undone at once, the block holds
// meanwhile, and the audit log tells who it was.
func TestFlushed(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	want := b.table()
	quickest := time.Hour
	for range 5 {
		flush := b.Host.Command(t.Context(), "nft", "flush", "ruleset")
		if said, err := flush.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		began := time.Now()
		if !b.refused(t, false) || !b.refused(t, true) {
			t.Error("port 25 is open")
		}
		for b.table() != want {
			if time.Since(began) > patience {
				t.Fatalf("the rules are not back:\n%s\nwant\n%s", b.table(), want)
			}
		}
		quickest = min(quickest, time.Since(began))
		event := b.awaitEvent(t, "the flush", func(e audit.Event) bool { return e.Kind == audit.KindDrift && e.PeerPID == flush.Process.Pid })
		if event.Outcome != audit.OutcomeRestored || !strings.Contains(event.Reason, `"nft" (pid `) {
			t.Errorf("the event says %+v", event)
		}
	}
	if quickest > 100*time.Millisecond { // a busy machine may be slower now and then
		t.Errorf("the rules were back after %s at the earliest", quickest)
	}
	if got := b.talk(t).send(newLetter(), sender, recipient); got.code != 250 {
		t.Errorf("after that the client hears %+v", got)
	}
	if stdout, stderr, status := b.output("status"); status != 0 || !strings.Contains(stdout, "mode enforce, rules in force") {
		t.Errorf("status %d says %s%s", status, stdout, stderr)
	}
}

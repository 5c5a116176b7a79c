package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// watch runs Watch until the test ends and gives its reports.
func (f *firewall) watch() <-chan nft.Change {
	f.t.Helper()
	changes := make(chan nft.Change, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.conn.Watch(ctx, func(c nft.Change) { changes <- c }) }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			f.t.Errorf("Watch ended with %v", err)
		}
	})
	// Watch is listening once it has seen this.
	f.nft("add", "set", "inet", rules.Table, "probe", "{ type inet_service; }")
	f.await(changes, "set probe: foreign")
	return changes
}

// await returns the first change with a drift that contains the text.
func (f *firewall) await(changes <-chan nft.Change, text string) nft.Change {
	f.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case c := <-changes:
			if c.Err != nil {
				f.t.Fatalf("rules could not be put back: %v", c.Err)
			}
			for _, d := range c.Drifts {
				if strings.Contains(d.String(), text) {
					return c
				}
			}
		case <-timeout:
			f.t.Fatalf("no report of %q", text)
		}
	}
}

func TestFirewallHealsDrift(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.apply(fwOptions())
	golden := f.listTable(rules.Table)
	changes := f.watch()
	for _, c := range []struct{ name, command, want string }{
		{"flush ruleset", "flush ruleset", "table inet smtpwall: missing"},
		{"delete table", "delete table inet smtpwall", "table inet smtpwall: missing"},
		{"flush table", "flush table inet smtpwall", "chain refuse_out: missing: jump count_out"},
		{"flush chain", "flush chain inet smtpwall outgoing", `chain outgoing: missing: oif "lo" fib daddr type local return`},
		{"delete rule", "delete rule inet smtpwall refuse_out handle %d", "chain refuse_out: missing: meta l4proto tcp counter"},
		{"flush answers", "flush chain inet smtpwall filter_input", `chain filter_input: missing: udp sport 53 ct direction reply`},
		{"insert accept", "insert rule inet smtpwall filter_output accept", "chain filter_output: foreign: rule of immediate"},
		{"insert accept for a user", "insert rule inet smtpwall outgoing meta skuid 1234 accept", "chain outgoing: foreign: rule of meta, cmp, immediate"},
		{"delete element", "delete element inet smtpwall mail { 25 }", "set mail: missing: 25"},
		{"add element", "add element inet smtpwall relay4 { 203.0.113.9 . 25 }", "set relay4: foreign: 203.0.113.9 . 25"},
		{"add catch-all", "add element inet smtpwall relay4 { * }", "set relay4: foreign"},
		{"policy drop", "add chain inet smtpwall filter_output { policy drop ; }", "chain filter_output: altered"},
		{"put to sleep", "add table inet smtpwall { flags dormant ; }", "flag dormant: foreign"},
		{"foreign chain", "add chain inet smtpwall sneaky { type filter hook output priority -300 ; }", "chain sneaky: foreign"},
		{"foreign map", "add map inet smtpwall m { type inet_service : verdict ; }", "set m: foreign"},
		{"foreign quota", "add quota inet smtpwall q { 1 mbytes }", "object q: foreign"},
		{"delete times", "flush chain inet smtpwall to_listener ; delete ct timeout inet smtpwall closing", "ct timeout closing: missing"},
		{"other times", "flush chain inet smtpwall to_listener ; delete ct timeout inet smtpwall closing ; " +
			"add ct timeout inet smtpwall closing { protocol tcp ; policy = { close : 900 } ; }", "object closing: foreign"},
		{"delete counter", "reset counters ; flush table inet smtpwall ; delete counter inet smtpwall attempts_out", "counter attempts_out: missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.t = t
			command := c.command
			if strings.Contains(command, "%d") {
				command = fmt.Sprintf(command, f.handle("refuse_out", "reject with tcp reset"))
			}
			pid := f.nftPID(command)
			change := f.await(changes, c.want)
			if change.PID != pid || change.Process != "nft" {
				t.Errorf("reported as done by %d (%s), want %d (nft)", change.PID, change.Process, pid)
			}
			// What was put back may be listed after what stayed.
			if got := f.listTable(rules.Table); sortedLines(got) != sortedLines(golden) {
				t.Errorf("healed to\n%s\nwant\n%s", got, golden)
			}
			f.checkWhole()
		})
	}
}

func sortedLines(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// checkWhole compares order too, by Status, which reads the kernel anew.
func (f *firewall) checkWhole() {
	f.t.Helper()
	status, err := f.conn.Status(f.t.Context(), fwOptions())
	if err != nil {
		f.t.Fatal(err)
	}
	if len(status.Drifts) > 0 {
		f.t.Errorf("the kernel still differs: %s", status.Drifts[0])
	}
}

// nftPID runs commands of nft in the host and returns the process id that nft
// had.
func (f *firewall) nftPID(commands string) int {
	f.t.Helper()
	cmd := f.Host.Command(f.t.Context(), "nft", commands)
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("nft %s: %v\n%s", commands, err, out)
	}
	return cmd.Process.Pid
}

// handle finds the handle of a rule by its text.
func (f *firewall) handle(chain, text string) int {
	f.t.Helper()
	for line := range strings.Lines(f.nft("--handle", "list", "chain", "inet", rules.Table, chain)) {
		if at := strings.LastIndex(line, "# handle "); at >= 0 && strings.Contains(line, text) {
			var handle int
			if _, err := fmt.Sscanf(line[at:], "# handle %d", &handle); err != nil {
				f.t.Fatal(err)
			}
			return handle
		}
	}
	f.t.Fatalf("no rule %q in chain %s", text, chain)
	return 0
}

// TestFirewallFindsDriftWithoutAnEvent: what happened while nobody listened is
// found by comparing.
func TestFirewallFindsDriftWithoutAnEvent(t *testing.T) {
	f := newFirewall(t, nft.Options{})
	f.apply(fwOptions())
	f.nft("flush", "chain", "inet", rules.Table, "outgoing")
	changes := make(chan nft.Change, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.conn.Watch(ctx, func(c nft.Change) { changes <- c }) }()
	change := f.await(changes, "chain outgoing: missing")
	if change.PID != 0 || change.Process != "" {
		t.Errorf("ascribed to %d (%s), though nobody could know", change.PID, change.Process)
	}
	cancel()
	<-done
}

// TestFirewallLockResists: nobody else changes the lock table, and a flush of
// everything passes it by.
func TestFirewallLockResists(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.apply(fwOptions())
	before := f.listTable(rules.LockTable)
	for _, command := range []string{
		"delete table inet smtpwall_lock",
		"flush table inet smtpwall_lock",
		"insert rule inet smtpwall_lock filter_output accept",
		"add element inet smtpwall_lock relay4 { 203.0.113.9 . 25 }",
	} {
		if out, err := f.Host.Command(t.Context(), "nft", command).CombinedOutput(); err == nil {
			t.Errorf("nft %s succeeded: %s", command, out)
		}
	}
	f.nft("flush", "ruleset")
	if after := f.listTable(rules.LockTable); after != before {
		t.Errorf("lock table is now\n%s\nwas\n%s", after, before)
	}
	other := f.open(nft.Options{Lock: true})
	defer other.Close()
	if err := other.Apply(t.Context(), fwOptions()); !errors.Is(err, nft.ErrLocked) {
		t.Errorf("a second holder got %v, want ErrLocked", err)
	}
	if err := other.Remove(t.Context()); !errors.Is(err, nft.ErrLocked) {
		t.Errorf("removing by another process gave %v, want ErrLocked", err)
	}
}

// TestFirewallFlushKeepsRedirectedSessions: the translation of an open session
// lives in the kernel only as long as some table translates.
func TestFirewallFlushKeepsRedirectedSessions(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		f := newFirewall(t, nft.Options{Lock: true})
		f.apply(fwOptions())
		lo := netip.AddrPortFrom(f.address(toLoopback, v6), 12525)
		p := f.redirected(lo, netip.AddrPortFrom(f.Remote.Addr(v6), 2525))
		f.nft("flush", "ruleset")
		if !passes(t, p.client, p.server) || !passes(t, p.server, p.client) {
			t.Errorf("flushing cut the session that was redirected to %s", lo)
		}
		f.apply(fwOptions())
		if !passes(t, p.client, p.server) || !passes(t, p.server, p.client) {
			t.Errorf("applying anew cut the session that was redirected to %s", lo)
		}
	}
}

// redirected opens a connection to dest that arrives at a listener of the host.
func (f *firewall) redirected(listener, dest netip.AddrPort) pipe {
	f.t.Helper()
	ln, err := f.Host.Listen(listener)
	if err != nil {
		f.t.Fatal(err)
	}
	defer ln.Close()
	client, err := f.Host.DialAs(f.t.Context(), fwOrdinary, dest)
	if err != nil {
		f.t.Fatal(err)
	}
	server, err := ln.AcceptTCP()
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return pipe{client, server}
}

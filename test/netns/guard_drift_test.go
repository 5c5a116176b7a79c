package netns_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

// isDrift matches changes that made a difference.
func isDrift(e audit.Event) bool { return e.Kind == audit.KindDrift && e.Count > 0 }

func TestGuardPutsTheRulesBackAndTellsWhoChangedThem(t *testing.T) {
	bed := newGuardBed(t, nil)
	known, flushes := false, 0
	for !known && flushes < 5 { // the guard may not be listening yet at the first
		flushes++
		cmd := bed.Host.Command(t.Context(), "nft", "flush", "ruleset")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		e := bed.events.awaitAll(t, 2*time.Second, "the drift", flushes, isDrift)[flushes-1]
		if e.Outcome != audit.OutcomeRestored {
			t.Errorf("outcome %q", e.Outcome)
		}
		known = e.PeerPID == cmd.Process.Pid && strings.HasPrefix(e.Reason, `"nft" (pid `)
	}
	if !known {
		t.Errorf("nobody knows who flushed the rules")
	}
	status := bed.status()
	if !status.InForce || status.Drifts != uint64(flushes) || status.Lock != "held by this process" || len(status.Conditions) != 0 {
		t.Errorf("status after %d flushes %+v", flushes, status)
	}
	to := guardMX(true, 25)
	bed.dial(bed.Host, 0, to)
	bed.events.await(t, time.Second, "an attempt after the rules are back", isAttempt(to))
}

func (b *guardBed) status() guard.Status {
	b.t.Helper()
	status, err := b.client.Status(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return status
}

func TestGuardReleasesAndReloads(t *testing.T) {
	before := ""
	var bed *guardBed
	options := rules.Options{Mode: rules.Enforce, ProxyUID: fwProxy}
	bed = newGuardBed(t, func(o *guard.Options) { o.Rules = options })
	if err := bed.client.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := bed.nft("list", "ruleset"); got != before {
		t.Errorf("left behind:\n%s", got)
	}
	if status := bed.status(); !status.Released || status.Applied || status.InForce {
		t.Errorf("status %+v", status)
	}
	if err := bed.client.Reload(t.Context()); err == nil {
		t.Error("reloaded without a way to")
	}
	options.ProxyUID = 0
	if err := bed.guard.Reload(t.Context(), guard.Options{Rules: options}); err == nil {
		t.Error("took rules that let root pass")
	}
	options.ProxyUID = fwProxy
	if err := bed.guard.Reload(t.Context(), guard.Options{Rules: options}); err != nil {
		t.Fatal(err)
	}
	if status := bed.status(); status.Released || !status.InForce {
		t.Errorf("status after a reload %+v", status)
	}
	bed.dial(bed.Host, 0, guardMX(false, 25))
}

func TestGuardLeavesTheRulesAtTheEnd(t *testing.T) {
	for _, remove := range []bool{false, true} {
		bed := newGuardBed(t, func(o *guard.Options) { o.RemoveOnExit = remove })
		if err := bed.end(); err != nil {
			t.Fatal(err)
		}
		if got := bed.nft("list", "ruleset"); strings.Contains(got, "table inet smtpwall {") == remove {
			t.Errorf("remove %v, and the ruleset is\n%s", remove, got)
		}
	}
}

// TestGuardGoesOnWhereAnotherEnded gives the lock's socket from one guard to
// the next, as a service manager does.
func TestGuardGoesOnWhereAnotherEnded(t *testing.T) {
	stored := map[string]*os.File{}
	options := guard.Options{}
	relay := netip.AddrPortFrom(fwRelay4, fwRelayPort)
	bed := newGuardBed(t, func(o *guard.Options) {
		o.Relays = []guard.Relay{{Name: "main", Host: fwRelay4.String(), Ports: []uint16{fwRelayPort}}}
		o.StoreFD = func(name string, f *os.File) error {
			stored[name] = dup(t, f)
			return nil
		}
		options = *o
	})
	bed.awaitRelay(relay)
	bed.dial(bed.Host, guardUID, guardMX(false, 25))
	bed.events.await(t, time.Second, "the first guard's attempt", isAttempt(guardMX(false, 25)))
	if err := bed.end(); err != nil {
		t.Fatal(err)
	}
	if stored[guard.LockFD] == nil || !strings.Contains(bed.nft("list", "ruleset"), rules.LockTable) {
		t.Fatal("the lock went with the guard")
	}
	options.StoredFDs = stored
	options.Relays = []guard.Relay{{Name: "main", Host: "no.such.name.invalid", Ports: []uint16{fwRelayPort}}}
	bed.events = newEventLog()
	options.Audit = bed.events
	bed.start(options)
	status := bed.status()
	if status.Lock != "held by this process" || !status.InForce || !slices.Equal(status.Allowed, []netip.AddrPort{relay}) {
		t.Errorf("status of the second guard %+v", status)
	}
	bed.dial(bed.Host, guardUID, guardMX(true, 25))
	bed.events.await(t, time.Second, "the second guard's attempt", isAttempt(guardMX(true, 25)))
	if sum, _ := bed.events.sum(isAttempt(guardMX(false, 25))); sum != 0 {
		t.Errorf("the second guard told of %d attempts that the first had told of", sum)
	}
}

// awaitRelay waits until the guard says that an address may be used, and tries it.
func (b *guardBed) awaitRelay(relay netip.AddrPort) {
	b.t.Helper()
	deadline := time.Now().Add(3 * time.Second)
	for {
		relays, err := b.client.Relays(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		if len(relays) == 1 && slices.Contains(relays[0].Addresses, relay) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("no address of the relay: %+v", relays)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestGuardLetsOnlyTheProxyReachARelay(t *testing.T) {
	relay := netip.AddrPortFrom(fwRelay6, fwRelayPort)
	bed := newGuardBed(t, func(o *guard.Options) {
		o.Relays = []guard.Relay{{Name: "main", Host: fwRelay6.String(), Ports: []uint16{fwRelayPort}}}
	})
	serve(t, bed.Remote, "relay", relay)
	bed.awaitRelay(relay)
	conn, err := bed.Host.DialAs(t.Context(), fwProxy, relay)
	if err != nil {
		t.Fatalf("the proxy does not reach the relay: %v", err)
	}
	conn.Close()
	bed.dial(bed.Host, guardUID, relay)
	bed.events.await(t, time.Second, "the attempt at the relay", isAttempt(relay))
}

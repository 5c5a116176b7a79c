package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// runGuard runs a guard in virtual time.
func runGuard(t *testing.T, k *fakeKernel, o Options, f func(t *testing.T, g *Guard)) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k.changes, k.logged, k.counted = make(chan nft.Change), make(chan []nft.Attempt), make(chan nft.Counts, 1)
		g := k.newGuard(t, o)
		g.attempts.who = newAttributor(zap.NewNop())
		g.attempts.who.procs.root = t.TempDir() // nobody is to be seen
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		synctest.Wait()
		f(t, g)
		cancel()
		err = <-ended
	})
	return err
}

func TestRunPutsTheRulesUpFirstAndEndsInOrder(t *testing.T) {
	k := newFakeKernel()
	k.relays = endpoints("192.0.2.9:587")
	k.counted <- nft.Counts{}
	stored := ""
	o := Options{
		Lock:    true,
		Ready:   func() { k.call("ready") },
		StoreFD: func(name string, f *os.File) error { stored = name; return k.call("store") },
	}
	o.RemoveOnExit = true
	err := runGuard(t, k, o, func(t *testing.T, g *Guard) {
		before := []string{"open with lock", "relays", "allowed", "open counts", "open sockets", "apply", "store", "open log", "ready"}
		if !slices.Equal(k.calls[:len(before)], before) || stored != LockFD {
			t.Errorf("started with %q, stored %q", k.calls, stored)
		}
		if got := g.conditions.all(); len(got) != 0 {
			t.Errorf("conditions %v", got)
		}
	})
	if err != nil {
		t.Error(err)
	}
	at := slices.Index(k.calls, "close log")
	if after := k.calls[at:]; !slices.Equal(after[len(after)-6:], []string{"read counts", "read counts", "close counts", "close sockets", "remove", "close"}) {
		t.Errorf("ended with %q", after)
	}
}

func TestRunRemovesTheRulesInTheEnd(t *testing.T) {
	k := newFakeKernel()
	k.fail["first remove"] = errors.New("device or resource busy")
	if err := runGuard(t, k, Options{RemoveOnExit: true}, func(*testing.T, *Guard) {}); err != nil || k.removed != 2 {
		t.Errorf("got %v after %d tries", err, k.removed)
	}
	k.fail["remove"] = errors.New("no permission")
	if err := runGuard(t, k, Options{RemoveOnExit: true}, func(*testing.T, *Guard) {}); err == nil {
		t.Error("the rules stay, and nobody says so")
	}
}

func TestRunKeepsTheRelaysOfAnEarlierGuard(t *testing.T) {
	k := newFakeKernel()
	k.relays = endpoints("192.0.2.9:587")
	o := Options{Ready: func() {
		if !slices.Equal(k.applied.Relays, k.relays) {
			t.Errorf("applied with %v", k.applied.Relays)
		}
	}}
	if err := runGuard(t, k, o, func(t *testing.T, g *Guard) {
		if want := endpoints("192.0.2.1:587", "192.0.2.9:587"); !slices.Equal(k.applied.Relays, want) {
			t.Errorf("the relays are %v, want %v", k.applied.Relays, want)
		}
	}); err != nil {
		t.Error(err)
	}
	if k.removed != 0 {
		t.Error("the rules went with the guard")
	}
}

func TestRunFailsIfTheRulesCannotBePutUp(t *testing.T) {
	k := newFakeKernel()
	k.fail["apply"] = errors.New("no nf_tables")
	ready := false
	g := k.newGuard(t, Options{Ready: func() { ready = true }})
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no nf_tables") || ready {
		t.Errorf("got %v, ready %v", err, ready)
	}
}

// Somebody who changes the rules in the moment that they are put up must not end
// the guard: they count as applied, and watch puts them back.
func TestRunGoesOnWhenTheRulesDriftAtOnce(t *testing.T) {
	k := newFakeKernel()
	drift := fmt.Errorf("%w: table inet smtpwall: missing", nft.ErrDrift)
	k.fail["apply"], k.fail["set relays"] = drift, drift
	ready := false
	err := runGuard(t, k, Options{Ready: func() { ready = true }}, func(t *testing.T, g *Guard) {
		if !ready || k.called("watch") != 1 {
			t.Errorf("ready %v, calls %q", ready, k.calls)
		}
		other := g.options()
		other.Rules.Mode = rules.Observe
		if err := g.Reload(t.Context(), other); err != nil || g.options().Rules.Mode != rules.Observe {
			t.Errorf("reload: %v, mode %s", err, g.options().Rules.Mode)
		}
		if s := g.relays.status(); len(s) != 1 || len(s[0].Addresses) != 1 || len(g.conditions.all()) != 0 {
			t.Errorf("relays %+v, conditions %v", s, g.conditions.all())
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRunWithoutALock(t *testing.T) {
	for name, prepare := range map[string]func(*fakeKernel){
		"the kernel has none":    func(k *fakeKernel) { k.fail["open with lock"] = nft.ErrNoOwner },
		"another process has it": func(k *fakeKernel) { k.fail["apply"] = nft.ErrLocked },
	} {
		t.Run(name, func(t *testing.T) {
			k := newFakeKernel()
			prepare(k)
			err := runGuard(t, k, Options{Lock: true, StoreFD: func(string, *os.File) error { return k.call("store") }}, func(t *testing.T, g *Guard) {
				if k.applied.ProxyUID != proxyUID || k.called("store") != 0 || g.conditions.all()["lock"] == "" {
					t.Errorf("calls %q, conditions %v", k.calls, g.conditions.all())
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestALoopThatFailsIsACondition(t *testing.T) {
	k := newFakeKernel()
	k.fail["open log"], k.fail["watch"] = errors.New("another reader"), errors.New("no memory")
	err := runGuard(t, k, Options{}, func(t *testing.T, g *Guard) {
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := g.conditions.all(); got["log"] != "another reader" || got["watch"] != "no memory" || len(got) != 2 {
			t.Errorf("conditions %v", got)
		}
		if n := k.called("watch"); n < 3 || n > 5 {
			t.Errorf("tried %d times in 10 s", n)
		}
		k.failing("open log", nil)
		k.failing("watch", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := g.conditions.all(); len(got) != 0 {
			t.Errorf("conditions %v", got)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestGuardTellsOfDrift(t *testing.T) {
	k := newFakeKernel()
	missing := rules.Drift{Table: rules.Table, Change: rules.Missing}
	err := runGuard(t, k, Options{}, func(t *testing.T, g *Guard) {
		k.changes <- nft.Change{PID: 1 << 30, Process: "nft", Drifts: []rules.Drift{missing}}
		k.changes <- nft.Change{Drifts: slices.Repeat([]rules.Drift{missing}, 7), Err: errors.New("no memory")}
		k.changes <- nft.Change{Drifts: []rules.Drift{missing}, Err: errors.New("no memory")} // tried again
		k.changes <- nft.Change{PID: 1 << 29, Process: "ufw"}                                 // left no difference
		synctest.Wait()
		events := k.audited()
		if len(events) != 3 || g.drifts.Load() != 2 {
			t.Fatalf("%d drifts, events %+v", g.drifts.Load(), events)
		}
		if e := events[0]; e.PeerPID != 1<<30 || e.PeerExe != "nft" || e.Outcome != audit.OutcomeRestored || e.Kind != audit.KindDrift ||
			e.Reason != `"nft" (pid 1073741824) changed table inet smtpwall: missing` {
			t.Errorf("got %+v", e)
		}
		if e := events[1]; e.Outcome != audit.OutcomeFailed || e.Error != "no memory" || !strings.HasSuffix(e.Reason, "and 2 more") {
			t.Errorf("got %+v", e)
		}
		if e := events[2]; e.PeerPID != 1<<29 || e.PeerExe != "ufw" || e.Outcome != audit.OutcomeRestored {
			t.Errorf("got %+v", e)
		}
		if got := g.conditions.all(); len(got) != 0 {
			t.Errorf("conditions %v", got)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestGuardTellsOfAttempts(t *testing.T) {
	k := newFakeKernel()
	source := netip.MustParseAddrPort("198.51.100.1:40000")
	err := runGuard(t, k, Options{}, func(t *testing.T, g *Guard) {
		time.Sleep(pollInterval + time.Millisecond) // to the pause after a poll's reading
		k.counted <- counts(count(0, target, 1))
		k.logged <- []nft.Attempt{{Time: time.Now(), HasUID: true, Source: source, Destination: target}}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		events := k.audited()
		if len(events) != 1 {
			t.Fatalf("%d events", len(events))
		}
		e := events[0]
		if uid, known := e.PeerUID.Get(); !known || uid != 0 || e.PeerUser != "root" || e.Source != source || e.Destination != target {
			t.Errorf("got %+v", e)
		}
		if e.Kind != audit.KindAttempt || e.Outcome != audit.OutcomeBlocked || e.Rule != rulePort25 || e.Count != 1 {
			t.Errorf("got %+v", e)
		}
		k.counted <- nft.Counts{Counts: []nft.Count{count(0, target, 40)}, OtherOut: 2}
		time.Sleep(pollInterval * 2)
		if events = k.audited(); len(events) != 2 || events[1].Count != 2 {
			t.Fatalf("got %+v", events)
		}
		if _, known := events[1].PeerUID.Get(); known || events[1].Reason == "" {
			t.Errorf("packets without an owner are those of %+v", events[1])
		}
		k.failing("audit", errors.New("disk full"))
	})
	if err != nil {
		t.Error(err)
	}
	events := k.audited()
	if last := events[len(events)-1]; len(events) != 3 || last.Count != 40 || last.PeerUser != "root" {
		t.Errorf("at the end %+v", last)
	}
}

func TestGuardFindsTheProcessOfAnOpenSocket(t *testing.T) {
	k := newFakeKernel()
	err := runGuard(t, k, Options{}, func(t *testing.T, g *Guard) {
		time.Sleep(pollInterval + time.Millisecond)
		k.counted <- counts(count(33, target, 1), count(34, target, 1))
		k.logged <- []nft.Attempt{
			{Time: time.Now(), HasUID: true, UID: 33, Source: netip.MustParseAddrPort("198.51.100.1:40033"), Destination: target},
			{Time: time.Now(), HasUID: true, UID: 34, Source: netip.MustParseAddrPort("198.51.100.1:40033"), Destination: target},
		}
		time.Sleep(time.Second)
		for _, e := range k.audited() {
			uid, _ := e.PeerUID.Get()
			if want := map[uint32]int{33: 4711}[uid]; e.PeerPID != want {
				t.Errorf("uid %d: pid %d, want %d", uid, e.PeerPID, want)
			}
		}
		if n := len(k.audited()); n != 2 {
			t.Errorf("%d events", n)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDriftTellsOfChangesThatAreTooFast(t *testing.T) {
	k := newFakeKernel()
	g := k.newGuard(t, Options{})
	for range maxChanges + 50 { // while nobody tells
		g.drifted(nft.Change{PID: 7, Drifts: []rules.Drift{{Table: rules.Table, Change: rules.Missing}}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.tellDrifts(ctx)
	events := k.audited()
	if len(events) != maxChanges || g.drifts.Load() != maxChanges+50 || !strings.HasSuffix(events[0].Reason, "and 50 changes that were too fast to be told") {
		t.Errorf("%d events of %d drifts, the first: %+v", len(events), g.drifts.Load(), events[0])
	}
}

func TestReload(t *testing.T) {
	k := newFakeKernel()
	err := runGuard(t, k, Options{}, func(t *testing.T, g *Guard) {
		applied := k.called("apply")
		bad := Options{Rules: rules.Options{Mode: rules.Enforce, ProxyUID: proxyUID}, Relays: []Relay{{Name: "main"}}}
		if err := g.Reload(t.Context(), bad); err == nil || k.called("apply") != applied {
			t.Errorf("a relay without a host: %v, applied %d times", err, k.called("apply")-applied)
		}
		other := Options{Rules: rules.Options{Mode: rules.Observe, ProxyUID: proxyUID}, Relays: []Relay{{Name: "x", Host: "192.0.2.2", Ports: []uint16{465}}}}
		k.failing("apply", errors.New("no memory"))
		if err := g.Reload(t.Context(), other); err == nil || g.options().Rules.Mode != rules.Enforce || g.relays.status()[0].Name != "main" {
			t.Errorf("rules that the kernel refuses: %v, mode %s, relays %v", err, g.options().Rules.Mode, g.relays.status())
		}
		k.failing("apply", nil)
		if err := g.Reload(t.Context(), other); err != nil || g.options().Rules.Mode != rules.Observe {
			t.Errorf("got %v, mode %s", err, g.options().Rules.Mode)
		}
		synctest.Wait()
		if want := endpoints("192.0.2.1:587", "192.0.2.2:465"); !slices.Equal(k.applied.Relays, want) || k.applied.Mode != rules.Observe {
			t.Errorf("applied %+v, want relays %v", k.applied, want)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestReleaseStopsSettingRelays(t *testing.T) {
	k := newFakeKernel()
	err := runGuard(t, k, Options{}, func(t *testing.T, g *Guard) {
		if err := g.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		k.failing("set relays", errors.New("there are no rules"))
		g.relays.adopt(endpoints("192.0.2.77:587")) // to be set
		g.relays.sync(t.Context())
		if s, err := g.Status(t.Context()); err != nil || !s.Released || len(s.Conditions) != 0 {
			t.Errorf("status %+v, %v", s, err)
		}
		k.failing("set relays", nil)
		if err := g.Reload(t.Context(), g.options()); err != nil || g.isReleased() || len(k.applied.Relays) != 2 {
			t.Errorf("reload: %v, released %v, relays %v", err, g.isReleased(), k.applied.Relays)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := rules.Options{Mode: rules.Enforce, ProxyUID: proxyUID}
	relay := Relay{Name: "main", Host: "relay.example.com", Ports: []uint16{587}}
	for name, o := range map[string]Options{
		"root as the proxy":    {Rules: rules.Options{Mode: rules.Enforce}},
		"a relay twice":        {Rules: good, Relays: []Relay{relay, relay}},
		"a relay without port": {Rules: good, Relays: []Relay{{Name: "main", Host: "relay.example.com"}}},
		"port 0":               {Rules: good, Relays: []Relay{{Name: "main", Host: "relay.example.com", Ports: []uint16{0}}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(Options{Rules: good, Relays: []Relay{relay}, Logger: zap.NewNop()}); err != nil {
		t.Error(err)
	}
}

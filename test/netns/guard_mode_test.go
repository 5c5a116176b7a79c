package netns_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

// newModeBed is a guard that observes, as its configuration says, and can be told
// otherwise.
func newModeBed(t *testing.T, options *guard.Options) *guardBed {
	t.Helper()
	bed := newGuardBed(t, func(o *guard.Options) {
		o.Rules.Mode, o.Rules.Redirect = rules.Observe, fwListenPorts
		o.State = t.TempDir()
		if options != nil {
			*options = *o
		}
	})
	bed.answer()
	serve(t, bed.Host, "listener", everywhere(465, 587, 12525)...)
	return bed
}

// passes fails unless everything in observe mode passes, or in enforce mode
// nothing but to the listener.
func (b *guardBed) passes(want rules.Mode) {
	b.t.Helper()
	for _, uid := range []uint32{0, allowedUID, strangerUID} {
		for _, v6 := range []bool{false, true} {
			for port, enforced := range map[uint16]outcome{25: reset, 587: listener, 465: listener, 2525: listener} {
				expected := enforced
				if want == rules.Observe {
					expected = "remote"
				}
				if got := dial(b.t, b.Host, uid, guardMX(v6, port)); got != expected {
					b.t.Errorf("%s mode: uid %d to port %d, v6 %v: %s, want %s", want, uid, port, v6, got, expected)
				}
			}
		}
	}
	for _, v6 := range []bool{false, true} {
		for _, port := range []uint16{25, 587} {
			expected := reset
			if want == rules.Observe {
				expected = "remote"
			}
			if got := dial(b.t, b.Container, strangerUID, guardMX(v6, port)); got != expected {
				b.t.Errorf("%s mode: the container to port %d, v6 %v: %s, want %s", want, port, v6, got, expected)
			}
		}
	}
	tables := b.nft("list", "tables")
	if locked := strings.Contains(tables, rules.LockTable); locked != (want == rules.Enforce) {
		b.t.Errorf("%s mode has the tables\n%s", want, tables)
	}
}

// TestFromObservingToEnforcing goes the way of an administrator: watch, try,
// confirm, and back.
func TestFromObservingToEnforcing(t *testing.T) {
	bed := newModeBed(t, nil)
	bed.passes(rules.Observe)
	for _, uid := range []uint32{0, allowedUID, strangerUID} {
		for port, want := range map[uint16]string{25: audit.OutcomeWouldBlock, 465: audit.OutcomeWouldRedirect, 587: audit.OutcomeWouldRedirect} {
			to := guardMX(false, port)
			bed.events.await(t, 3*time.Second, fmt.Sprintf("uid %d to port %d", uid, port), func(e audit.Event) bool {
				got, known := e.PeerUID.Get()
				return isAttempt(to)(e) && known && got == uid && e.Outcome == want
			})
		}
	}
	bed.events.await(t, 3*time.Second, "the container", func(e audit.Event) bool {
		return isAttempt(guardMX(true, 25))(e) && e.Source.Addr() == bed.Container.Addr6() && e.Outcome == audit.OutcomeWouldBlock
	})

	const trial = 4 * time.Second
	begun := time.Now()
	if err := bed.client.Enforce(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	bed.passes(rules.Enforce)
	if took := time.Since(begun); took > trial {
		t.Fatalf("the connections took %s, longer than the trial", took)
	}
	if s := bed.status().ModeState; s.Mode != "enforce" || s.Configured != "observe" || s.Confirmed || s.Until.IsZero() || s.By == "" {
		t.Errorf("on trial: %+v", s)
	}
	eventually(t, "the trial goes on", func() bool { return bed.status().Mode == "observe" })
	if took := time.Since(begun); took < trial || took > 2*trial {
		t.Errorf("a trial of %s took %s", trial, took)
	}
	bed.passes(rules.Observe)
	if err := bed.client.Confirm(t.Context()); err == nil {
		t.Error("a trial that is over was confirmed")
	}

	if err := bed.client.Enforce(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if err := bed.client.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	bed.passes(rules.Enforce)
	if s := bed.status().ModeState; !s.Confirmed || !s.Until.IsZero() {
		t.Errorf("confirmed: %+v", s)
	}
	bed.inMode(rules.Observe)
	bed.passes(rules.Observe)
	outcomes := []string{audit.OutcomeObserve, audit.OutcomeEnforce, audit.OutcomeObserve, audit.OutcomeEnforce, audit.OutcomeEnforce, audit.OutcomeObserve}
	events := bed.events.awaitAll(t, 2*time.Second, "the modes", len(outcomes), isMode)
	for i, want := range outcomes {
		if events[i].Outcome != want {
			t.Errorf("event %d is of %s mode, want %s", i, events[i].Outcome, want)
		}
	}
}

func isMode(e audit.Event) bool { return e.Kind == audit.KindMode }

// A trial goes on where it was when the guard is started anew, and is over if
// its end came meanwhile: the rules stay as they are until a guard is there.
func TestATrialOverARestartOfTheGuard(t *testing.T) {
	var options guard.Options
	bed := newModeBed(t, &options)
	begun := time.Now()
	if err := bed.client.Enforce(t.Context(), 3*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := bed.end(); err != nil {
		t.Fatal(err)
	}
	if got := dial(t, bed.Host, strangerUID, guardMX(false, 25)); got != reset {
		t.Errorf("without a guard: %s", got)
	}
	bed.start(options)
	if s := bed.status(); s.Mode != "enforce" || s.ModeState.Confirmed || !s.InForce {
		t.Errorf("after a restart: %+v", s)
	}
	eventually(t, "the trial goes on", func() bool { return bed.status().Mode == "observe" })
	if took := time.Since(begun); took < 3*time.Second || took > 6*time.Second {
		t.Errorf("a trial of 3 s took %s over a restart", took)
	}
	bed.passes(rules.Observe)

	if err := bed.client.Enforce(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if err := bed.end(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	bed.start(options)
	bed.passes(rules.Observe)
}

// An open session survives the switch to enforce mode only where it leads to us.
func TestSwitchingEndsDirectConnections(t *testing.T) {
	bed := newGuardBed(t, func(o *guard.Options) {
		o.Rules.Mode, o.Rules.Redirect, o.State = rules.Observe, fwListenPorts, t.TempDir()
	})
	direct := holdOpen(t, bed, strangerUID, guardMX(false, 25))
	bed.inMode(rules.Enforce)
	if err := direct.ends(func() error { _, err := direct.Write([]byte("x")); return err }); err == nil {
		t.Error("a direct connection goes on in enforce mode")
	}
	serve(t, bed.Host, "", netip.AddrPortFrom(netip.IPv4Unspecified(), 587))
	session, err := bed.Host.DialAs(t.Context(), strangerUID, guardMX(false, 587))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	bed.inMode(rules.Observe)
	session.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.ReadAll(session); err != nil {
		t.Errorf("a redirected session at the switch to observe mode: %v", err)
	}
}

// Who watches hears of modes, first attempts and drift as they happen.
func TestWatchTheGuard(t *testing.T) {
	bed := newModeBed(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	heard := make(chan *audit.Event, 100)
	ended := make(chan error, 1)
	watching := guard.NewClient(bed.socket, nil)
	go func() { ended <- watching.Watch(ctx, func(e *audit.Event) { heard <- e }) }()
	await := func(what string, match func(*audit.Event) bool) {
		t.Helper()
		for timeout := time.After(5 * time.Second); ; {
			select {
			case e := <-heard:
				if match(e) {
					return
				}
			case <-timeout:
				t.Fatalf("nobody told of %s", what)
			}
		}
	}
	eventually(t, "nobody watches", func() bool { // each switch is told
		bed.inMode(rules.Enforce)
		bed.inMode(rules.Observe)
		return len(heard) > 0
	})
	bed.inMode(rules.Enforce)
	await("the mode", func(e *audit.Event) bool { return isMode(*e) && e.Outcome == audit.OutcomeEnforce })
	bed.dial(bed.Host, strangerUID, guardMX(false, 25))
	await("the attempt", func(e *audit.Event) bool {
		uid, _ := e.PeerUID.Get()
		return e.Kind == audit.KindAttempt && uid == strangerUID && e.Destination == guardMX(false, 25)
	})
	bed.nft("delete", "table", "inet", rules.Table)
	await("the drift", func(e *audit.Event) bool { return e.Kind == audit.KindDrift && e.Outcome == audit.OutcomeRestored })
	cancel()
	<-ended
}

package netns_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/internal/plan"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

// planned is one connection that is tried in both modes.
type planned struct {
	from *lab.Namespace
	uid  uint32
	to   netip.AddrPort
	fate plan.Fate // of the connection in enforce mode
}

// outcome is what the client of such a connection sees.
func (p planned) outcome() outcome {
	if p.fate == plan.Refuse {
		return reset
	}
	return map[uint16]outcome{465: "listener 465", 587: "listener 587", 2525: "listener 2525"}[p.to.Port()]
}

// everyWay is every port from three users of the host and from a container, by
// both IP versions.
func (b *guardBed) everyWay() []planned {
	var ways []planned
	for _, v6 := range []bool{false, true} {
		for _, uid := range []uint32{0, fwOrdinary, guardUID} {
			ways = append(ways, planned{b.Host, uid, guardMX(v6, 25), plan.Refuse})
			for _, port := range []uint16{465, 587, 2525} {
				ways = append(ways, planned{b.Host, uid, guardMX(v6, port), plan.Redirect})
			}
		}
		for _, port := range []uint16{25, 465, 587, 2525} {
			ways = append(ways, planned{b.Container, 0, guardMX(v6, port), plan.Refuse})
		}
	}
	return ways
}

// What the plan says of what was observed is what enforcing does, for three
// users and a container behind a bridge; and observing again undoes it.
func TestPlanIsWhatEnforcingDoes(t *testing.T) {
	bed := newGuardBed(t, func(o *guard.Options) {
		o.Rules.Mode, o.Rules.Redirect = rules.Observe, fwOptions().Redirect
	})
	bed.serveAll()
	ways := bed.everyWay()
	reach := func(mode string, want func(planned) outcome) {
		t.Helper()
		for _, way := range ways {
			got := dial(t, way.from, way.uid, way.to)
			if got == reset && want(way) != reset {
				got = dial(t, way.from, way.uid, way.to) // as checkCells has it
			}
			if got != want(way) {
				t.Errorf("%s: uid %d in %s to %s: %s, want %s", mode, way.uid, way.from, way.to, got, want(way))
			}
		}
	}
	reach("observing", func(planned) outcome { return "remote" })
	bed.events.awaitAll(t, 30*time.Second, "every way", len(ways), func(e audit.Event) bool { return e.Kind == audit.KindAttempt })
	bed.checkPlan(ways)
	if err := bed.client.Enforce(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	reach("enforcing", planned.outcome)
	if err := bed.client.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	reach("observing again", func(planned) outcome { return "remote" })
}

// checkPlan compares the plan of what the guard has told with what was done.
func (b *guardBed) checkPlan(ways []planned) {
	b.t.Helper()
	now := time.Now()
	g := plan.New(plan.Options{
		Firewall: plan.Firewall{Redirect: map[uint16]bool{465: true, 587: true, 2525: true}},
		Now:      now, Running: true, Started: guard.ReasonStarted, Ended: guard.ReasonEnded,
	})
	events, _ := b.events.all()
	for i := range events {
		g.Add(&events[i])
	}
	p := g.Plan()
	if w := p.Watch; w.From.IsZero() || w.Cut || len(w.Gaps) > 0 || now.Sub(w.From)-w.Duration() > time.Second {
		b.t.Errorf("watched %+v until %v", w, now)
	}
	type fateOf struct {
		uid audit.UID
		to  netip.AddrPort
	}
	told := map[fateOf]plan.Fate{}
	for _, e := range p.Identities {
		if e.Forwarded != (e.Kind != plan.KindUser) {
			b.t.Errorf("%s %v is forwarded: %v", e.Kind, e.UID, e.Forwarded)
		}
		for _, d := range e.Destinations {
			told[fateOf{e.UID, d.Address}] = d.Fate
		}
	}
	for _, way := range ways {
		who := audit.KnownUID(way.uid)
		if way.from == b.Container {
			who = audit.UID{}
		}
		if got := told[fateOf{who, way.to}]; got != way.fate {
			b.t.Errorf("uid %v to %s: the plan is to %q, want %q", who, way.to, got, way.fate)
		}
	}
}

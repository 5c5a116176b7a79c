package guard

import (
	"context"
	"fmt"

	"github.com/smtpwall/smtpwall/rules"
)

// Status reads the state of the rules and of the guard. Call it after Run has
// said that it is ready.
func (g *Guard) Status(ctx context.Context) (Status, error) {
	g.mu.Lock()
	o, released, mode := g.opts.Rules, g.released, g.mode.state()
	g.mu.Unlock()
	o.Relays = nil // those that the kernel has
	g.applying.Lock()
	leftAlone := g.direct.inRules()
	kernel, err := g.firewall.Status(ctx, leftAlone.Into(o))
	g.applying.Unlock()
	if err != nil {
		return Status{}, fmt.Errorf("reading the guard's status: %w", err)
	}
	inForce := kernel.Applied && len(kernel.Drifts) == 0
	if inForce {
		g.conditions.set("rules", nil) // whoever did it
	}
	s := Status{
		Mode:      o.Mode.String(),
		ModeState: mode,
		Applied:   kernel.Applied,
		InForce:   inForce,
		Released:  released,
		Lock:      string(kernel.Lock),
		Drifts:    g.drifts.Load(),
		Attempts:  g.attempts.total.Load(),
		LogLost:   g.attempts.lost.Load(),
		Relays:    g.relays.status(),

		LookupsLost: g.lookups.lost.Load() + g.lookups.missed.Load(),
		Allowed:     kernel.Relays,
		Conditions:  g.conditions.all(),
		LeftAlone:   leftAlone,
	}
	s.Suspended, _ = g.direct.suspendedNow()
	s.Allow = g.direct.status(func(name string) uint64 {
		return kernel.Counters[rules.CounterAllow+name].Packets
	})
	for _, name := range []string{rules.CounterOut, rules.CounterForward} {
		s.Packets += kernel.Counters[name].Packets
	}
	return s, nil
}

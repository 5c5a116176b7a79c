package guard

import "context"

// Resolve finds out once what a guard with these options would leave alone now:
// for rules without a guard. The error is what is amiss with entries, none of
// which keeps the others from being of use.
func Resolve(ctx context.Context, o Options) (LeftAlone, error) {
	g, err := New(o)
	if err != nil {
		return LeftAlone{}, err
	}
	g.openSuspended()
	g.lookAround()
	g.direct.resolveHosts(ctx)
	leftAlone, entries := g.direct.wanted(g.clock.now(), o.Rules.ProxyUID)
	return leftAlone, told(entries)
}

// resolveHosts looks each host up once.
func (d *direct) resolveHosts(ctx context.Context) {
	d.mu.Lock()
	var all []*host
	for _, h := range d.hosts {
		all = append(all, h)
	}
	d.mu.Unlock()
	for _, h := range all {
		h.resolveOnce(ctx)
	}
}

func (k *relayKeeper) resolveOnce(ctx context.Context) {
	k.mu.Lock()
	var all []*relayState
	for _, r := range k.relays {
		all = append(all, r)
	}
	k.mu.Unlock()
	for _, r := range all {
		k.refresh(ctx, r)
	}
}

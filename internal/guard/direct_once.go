package guard

import (
	"context"
	"errors"
	"io/fs"

	"github.com/smtpwall/smtpwall/rules"
)

// Resolve finds out once which rules a guard with these options would put up now,
// for when there is none: in which mode, and what they leave alone. The relays are
// not looked up. The error is what is amiss with the state that a guard left and
// with entries; the rules are of use all the same.
func Resolve(ctx context.Context, o Options) (rules.Options, error) {
	g, err := New(o)
	if err != nil {
		return o.Rules, err
	}
	m, amiss := g.orderedOver(o.Rules.Mode)
	if !errors.Is(amiss, fs.ErrPermission) { // who may not look knows of no order
		o.Rules.Mode = m.running
	}
	g.openSuspended()
	g.lookAround()
	g.direct.resolveHosts(ctx)
	leftAlone, entries := g.direct.wanted(g.clock.now(), o.Rules.ProxyUID)
	return leftAlone.Into(o.Rules), errors.Join(amiss, told(entries))
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

package guard

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// directInterval is how often users, units and times are looked at without a
	// reason; directPause is kept between two looks at the control groups.
	directInterval = 5 * time.Second
	directPause    = 20 * time.Millisecond
)

// refreshDirect puts the rules up anew if what they leave alone is not what the
// entries stand for now.
func (g *Guard) refreshDirect(ctx context.Context) error {
	g.applying.Lock()
	defer g.applying.Unlock()
	o := g.options()
	wanted, entries := g.direct.wanted(g.clock.now(), o.Rules.ProxyUID)
	g.conditions.set("allow", told(entries))
	if g.isReleased() {
		return nil
	}
	if reflect.DeepEqual(wanted, g.direct.inRules()) {
		g.direct.took(wanted, entries)
		return nil
	}
	return g.apply(ctx, o.Rules)
}

// told joins what is amiss with entries. That the time of one is over is as it
// should be.
func told(entries []judged) error {
	var parts []string
	for _, a := range entries {
		if a.amiss != nil && !errors.Is(a.amiss, errOver) {
			parts = append(parts, fmt.Sprintf("%s to %s: %v", a.who(), a.destination(), a.amiss))
		}
	}
	if parts == nil {
		return nil
	}
	return errors.New(strings.Join(parts, "; "))
}

// keepDirect follows what the entries stand for, until ctx is done.
func (g *Guard) keepDirect(ctx context.Context) error {
	tree := treeWatch{guard: g}
	defer tree.close()
	for ctx.Err() == nil {
		g.direct.runHosts(ctx)
		err := tree.look()
		if err := errors.Join(err, g.refreshDirect(ctx)); ctx.Err() == nil && g.conditions.set("direct", err) && err != nil {
			g.log.Error("what is allowed may be other than in the rules", zap.Error(err))
		}
		wait := directInterval
		if at := g.direct.next(g.clock.now()); !at.IsZero() {
			wait = min(wait, at.Sub(g.clock.now()))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-g.direct.wake:
		case <-tree.changed():
			sleep(ctx, directPause) // a unit that starts makes several
		}
		timer.Stop()
	}
	g.direct.endHosts()
	return ctx.Err()
}

// runHosts starts to follow the hosts that nobody follows yet.
func (d *direct) runHosts(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.hosts {
		if h.end != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		h.end, h.ended = cancel, make(chan struct{})
		go func() { // ends by end, or with ctx; endHosts waits for it
			defer close(h.ended)
			h.run(ctx)
		}()
	}
}

func (d *direct) endHosts() {
	d.mu.Lock()
	var ended []chan struct{}
	for _, h := range d.hosts {
		if h.end != nil {
			h.end()
			ended = append(ended, h.ended)
			h.end = nil
		}
	}
	d.mu.Unlock()
	for _, e := range ended {
		<-e
	}
}

// cgroups is what the guard needs of a cgroupTree.
type cgroups interface {
	Look() ([]placed, error)
	Changed() <-chan struct{}
	Close() error
}

// treeWatch has the tree open as long as control groups matter.
type treeWatch struct {
	guard *Guard
	tree  cgroups
}

func (w *treeWatch) look() error {
	if !w.guard.direct.needsTree() {
		w.close()
		w.guard.direct.forget()
		return nil
	}
	if w.tree == nil {
		tree, err := w.guard.kernel.cgroups()
		if err != nil {
			return w.guard.direct.see(nil, err)
		}
		w.tree = tree
	}
	return w.guard.direct.see(w.tree.Look())
}

func (w *treeWatch) changed() <-chan struct{} {
	if w.tree == nil {
		return nil
	}
	return w.tree.Changed()
}

func (w *treeWatch) close() {
	if w.tree != nil {
		w.tree.Close()
		w.tree = nil
	}
}

package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"

	"github.com/smtpwall/smtpwall/rules"
)

// Apply makes the kernel's tables equal to the rulesets for the options, in one
// atomic batch: no packet meets anything between the old rules and the new.
// What counters and attempt sets hold stays where their shape does. In observe
// mode the lock goes. ErrLocked means that another process holds the lock.
// After ErrDrift the rules count as applied, and Watch will put them back.
func (c *Conn) Apply(ctx context.Context, o rules.Options) error {
	want, err := c.rulesets(o)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for range applyTries {
		err = c.transact(ctx, func(r reader) ([]netlink.Message, error) { return c.replacement(ctx, r, want) })
		if err != nil {
			return fmt.Errorf("applying rules: %w", err)
		}
		c.want = want
		if err = c.readBack(ctx); !errors.Is(err, ErrDrift) {
			break
		}
	}
	return err
}

// applyTries is how often Apply puts its rules up against somebody who takes
// them down at the same time.
const applyTries = 3

func (c *Conn) rulesets(o rules.Options) ([]rules.Ruleset, error) {
	o.NoTimeouts = o.NoTimeouts || c.noTimeouts
	plain, err := rules.New(o)
	if err != nil {
		return nil, err
	}
	if !c.lock || o.Mode != rules.Enforce {
		return []rules.Ruleset{plain}, nil
	}
	lock, err := rules.NewLock(o)
	return []rules.Ruleset{plain, lock}, err
}

// SetRelays changes the approved relays of the rules last applied, in all
// tables at once, and nothing else. Its errors are those of Apply.
func (c *Conn) SetRelays(ctx context.Context, relays []netip.AddrPort) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.want) == 0 {
		return errors.New("setting relays: no rules have been applied")
	}
	want := make([]rules.Ruleset, len(c.want))
	for i, w := range c.want {
		want[i] = w.WithRelays(relays)
	}
	if err := c.transact(ctx, func(r reader) ([]netlink.Message, error) { return refill(ctx, r, want) }); err != nil {
		return fmt.Errorf("setting relays: %w", err)
	}
	c.want = want
	return c.readBack(ctx)
}

// refill changes the elements of static sets only, unless there is more amiss.
func refill(ctx context.Context, r reader, want []rules.Ruleset) ([]netlink.Message, error) {
	b, err := newBatch()
	if err != nil {
		return nil, err
	}
	for _, w := range want {
		have, err := r.table(ctx, w)
		if err != nil {
			return nil, err
		}
		if err := b.refill(have, w); err != nil {
			return nil, err
		}
	}
	return b.messages, nil
}

// Remove takes all of smtpwall's tables away and leaves everything else as it
// is. If another process holds the lock it does nothing and fails with ErrLocked.
func (c *Conn) Remove(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.transact(ctx, func(r reader) ([]netlink.Message, error) { return c.removal(ctx, r) }); err != nil {
		return fmt.Errorf("removing rules: %w", err)
	}
	c.want = nil
	return nil
}

func (c *Conn) removal(ctx context.Context, r reader) ([]netlink.Message, error) {
	b, err := newBatch()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{rules.Table, rules.LockTable} {
		have, err := r.head(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := c.mayChange(have); err != nil {
			return nil, err
		}
		if have.Table != "" {
			b.deleteTable(name)
		}
	}
	return b.messages, nil
}

// mayChange fails for a table that another socket owns.
func (c *Conn) mayChange(f found) error {
	if f.owner != 0 && f.owner != c.sock.port {
		return ErrLocked
	}
	return nil
}

// readBack fails if the kernel differs from what it was sent, be it that it took
// something in another way or that somebody changed it already.
func (c *Conn) readBack(ctx context.Context) error {
	drifts, err := c.compare(ctx, c.want)
	if err != nil {
		return fmt.Errorf("reading the rules back: %w", err)
	}
	if len(drifts) > 0 {
		return fmt.Errorf("%w: %s", ErrDrift, drifts[0])
	}
	return nil
}

// compare returns where the kernel differs from want.
func (c *Conn) compare(ctx context.Context, want []rules.Ruleset) ([]rules.Drift, error) {
	var drifts []rules.Drift
	err := c.transact(ctx, func(r reader) ([]netlink.Message, error) {
		drifts = nil
		for _, w := range want {
			have, err := r.table(ctx, w)
			if err != nil {
				return nil, err
			}
			drifts = append(drifts, rules.Diff(have.Ruleset, w)...)
		}
		return nil, nil
	})
	return drifts, err
}

func (c *Conn) replacement(ctx context.Context, r reader, want []rules.Ruleset) ([]netlink.Message, error) {
	b, err := newBatch()
	if err != nil {
		return nil, err
	}
	for _, w := range want {
		have, err := r.table(ctx, w)
		if err != nil {
			return nil, err
		}
		if err := c.mayChange(have); err != nil {
			return nil, err
		}
		if err := b.replace(have, w); err != nil {
			return nil, err
		}
	}
	if err := c.dropLock(ctx, r, b, want); err != nil {
		return nil, err
	}
	return b.messages, nil
}

// dropLock deletes a lock table that is not wanted: enforce mode is over, or
// the lock is an empty one that was made by hand.
func (c *Conn) dropLock(ctx context.Context, r reader, b *batch, want []rules.Ruleset) error {
	if slices.ContainsFunc(want, func(w rules.Ruleset) bool { return w.Table == rules.LockTable }) {
		return nil
	}
	have, err := r.head(ctx, rules.LockTable)
	if err != nil || have.Table == "" {
		return err
	}
	if c.mayChange(have) != nil {
		return nil // a guard holds it; it will do what its own configuration says
	}
	b.deleteTable(rules.LockTable)
	return nil
}

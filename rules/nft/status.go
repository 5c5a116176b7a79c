package nft

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// Status is the state of the firewall as the kernel has it.
type Status struct {
	Applied bool       // the plain table is there
	Mode    rules.Mode // of the plain table; Observe if it is not there
	Lock    Lock
	// Drifts are the differences to the rules for the options; all of them
	// together if nothing is applied.
	Drifts   []rules.Drift
	Counters map[string]Counter // of the plain table, by name
	Relays   []netip.AddrPort   // that the proxy may reach
}

// Lock is the state of the lock table.
type Lock string

// States of the lock: there is none, this Conn holds it, or another does.
const (
	LockNone     Lock = "none"
	LockOurs     Lock = "held by this process"
	LockAnothers Lock = "held"
)

// Counter is what a named counter has counted.
type Counter struct{ Packets, Bytes uint64 }

// Status compares the kernel with the rules for the options and changes
// nothing. If o.Relays is nil, the relays that the kernel has are the wanted
// ones: who asks may not know what their names resolve to.
func (c *Conn) Status(ctx context.Context, o rules.Options) (Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s Status
	err := c.transact(ctx, func(r reader) (_ []netlink.Message, err error) {
		s, err = c.status(ctx, r, o)
		return nil, err
	})
	if err != nil {
		return Status{}, fmt.Errorf("reading the firewall's status: %w", err)
	}
	return s, nil
}

func (c *Conn) status(ctx context.Context, r reader, o rules.Options) (Status, error) {
	o.NoTimeouts = o.NoTimeouts || c.noTimeouts
	plain, err := rules.New(o)
	if err != nil {
		return Status{}, err
	}
	have, err := r.table(ctx, plain)
	if err != nil {
		return Status{}, err
	}
	s := Status{Applied: have.Table != "", Lock: LockNone, Relays: relaysOf(have.Ruleset)}
	if s.Applied && have.Refuses() {
		s.Mode = rules.Enforce
	}
	if o.Relays == nil {
		o.Relays = s.Relays
		plain = plain.WithRelays(o.Relays)
	}
	s.Drifts = rules.Diff(have.Ruleset, plain)
	if s.Counters, err = r.counters(ctx, rules.Table); err != nil {
		return Status{}, err
	}
	err = c.lockStatus(ctx, r, o, &s)
	return s, err
}

func (c *Conn) lockStatus(ctx context.Context, r reader, o rules.Options, s *Status) error {
	head, err := r.head(ctx, rules.LockTable)
	if err != nil || head.Table == "" || head.owner == 0 {
		return err
	}
	s.Lock = LockAnothers
	if head.owner == c.sock.port {
		s.Lock = LockOurs
	}
	if o.Mode != rules.Enforce {
		return nil
	}
	want, err := rules.NewLock(o)
	if err != nil {
		return err
	}
	have, err := r.table(ctx, want)
	s.Drifts = append(s.Drifts, rules.Diff(have.Ruleset, want)...)
	return err
}

// Load returns a table as the kernel has it, for rules.Diff. Rules that like has
// too come out as its own, others are described by their expressions. A table
// that is not there comes out without a name.
func (c *Conn) Load(ctx context.Context, like rules.Ruleset) (rules.Ruleset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var have found
	err := c.transact(ctx, func(r reader) (_ []netlink.Message, err error) {
		have, err = r.table(ctx, like)
		return nil, err
	})
	if err != nil {
		return rules.Ruleset{}, fmt.Errorf("loading table %s: %w", like.Table, err)
	}
	return have.Ruleset, nil
}

// Relays returns the addresses that the proxy may reach by the rules in the
// kernel; none if nothing is applied. A guard that starts anew goes on with them
// until the relays' names have been resolved.
func (c *Conn) Relays(ctx context.Context) ([]netip.AddrPort, error) {
	have, err := c.readSets(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the relays in force: %w", err)
	}
	return relaysOf(have), nil
}

// Allowed returns the single addresses that the rules in the kernel leave alone,
// by the names of the entries; none if nothing is applied. A guard that starts
// anew goes on with them until names have been resolved.
func (c *Conn) Allowed(ctx context.Context) (map[string][]netip.AddrPort, error) {
	have, err := c.readSets(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading what is allowed by the rules in force: %w", err)
	}
	byName := map[string][]netip.AddrPort{}
	for _, s := range have.Sets {
		for _, prefix := range []string{rules.SetAllow4, rules.SetAllow6} {
			name, ok := strings.CutPrefix(s.Name, prefix)
			for _, e := range s.Elements {
				if ok && e.Addr.IsValid() {
					byName[name] = append(byName[name], netip.AddrPortFrom(e.Addr, e.Port))
				}
			}
		}
	}
	return byName, nil
}

// readSets reads the sets of the plain table; none if it is not there.
func (c *Conn) readSets(ctx context.Context) (rules.Ruleset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var f found
	err := c.transact(ctx, func(r reader) (_ []netlink.Message, err error) {
		if f, err = r.head(ctx, rules.Table); err != nil || f.Table == "" {
			return nil, err
		}
		return nil, r.sets(ctx, &f)
	})
	return f.Ruleset, err
}

func relaysOf(r rules.Ruleset) []netip.AddrPort {
	var relays []netip.AddrPort
	for _, name := range []string{rules.SetRelay4, rules.SetRelay6} {
		set, _ := r.Set(name)
		for _, e := range set.Elements {
			if e.Addr.IsValid() {
				relays = append(relays, netip.AddrPortFrom(e.Addr, e.Port))
			}
		}
	}
	return relays
}

// counters reads the named counters of a table.
func (r reader) counters(ctx context.Context, table string) (map[string]Counter, error) {
	objects, err := r.dump(ctx, unix.NFT_MSG_GETOBJ, textAttr(unix.NFTA_OBJ_TABLE, table))
	if err != nil {
		return nil, fmt.Errorf("reading counters: %w", err)
	}
	counters := make(map[string]Counter)
	for _, m := range objects {
		a := messageAttrs(m)
		if a.number(unix.NFTA_OBJ_TYPE) != unix.NFT_OBJECT_COUNTER {
			continue
		}
		data := a.nested(unix.NFTA_OBJ_DATA)
		counters[a.text(unix.NFTA_OBJ_NAME)] = Counter{
			Packets: data.number64(unix.NFTA_COUNTER_PACKETS),
			Bytes:   data.number64(unix.NFTA_COUNTER_BYTES),
		}
	}
	return counters, nil
}

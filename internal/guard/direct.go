package guard

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/rules"
)

// direct keeps what the rules leave alone at what the entries stand for: users,
// groups, units, names of hosts, times, and who is suspended.
type direct struct {
	log    *zap.Logger
	lookup lookupFunc
	wake   chan struct{} // something may be different: to run
	// subordinates are the uids that users have beside their own.
	subordinates func(of func(owner uint32) bool) []peer.UIDRange

	mu        sync.Mutex
	entries   []Allow
	hosts     map[string]*host
	keys      []string // of the suspended
	suspended suspension
	placed    []placed
	tree      error // why placed is not known at all
	inForce   LeftAlone
	judged    []judged // as of then
}

// LeftAlone is what the rules have of the entries and of the suspended.
type LeftAlone struct {
	Allow      []rules.Allow   `json:"allow,omitempty"`
	Suspended  rules.Suspended `json:"suspended,omitzero"`
	Containers []uint64        `json:"containers,omitempty"`
}

// Into puts it into the options of the rules.
func (f LeftAlone) Into(o rules.Options) rules.Options {
	o.Allow, o.Suspended, o.Containers = f.Allow, f.Suspended, f.Containers
	return o
}

// known is what there is to know for the entries at one time.
type known struct {
	now       time.Time
	proxy     uint32
	addresses map[string][]netip.AddrPort
	placed    []placed
	tree      error

	subordinates func(of func(owner uint32) bool) []peer.UIDRange
}

// host is a name that entries have, kept up like a relay's.
type host struct {
	*relayKeeper
	end   context.CancelFunc // nil while nobody runs it
	ended chan struct{}
}

func newDirect(log *zap.Logger, lookup lookupFunc) *direct {
	return &direct{
		log: log, lookup: lookup, wake: make(chan struct{}, 1), subordinates: peer.NewUsers("", "", log).Ranges,
		hosts: map[string]*host{}, tree: errNoLook,
	}
}

var errNoLook = errors.New("control groups have not been looked at")

// SetRelays is relaySetter: the addresses of a host are others now. They are
// asked for when the rules are made.
func (d *direct) SetRelays(context.Context, []netip.AddrPort) error {
	d.changed()
	return nil
}

func (d *direct) changed() {
	select {
	case d.wake <- struct{}{}:
	default: // run has not yet seen the last change; it will see both
	}
}

// configure sets the entries and returns those before. Hosts that stay keep what
// is known of them, and so do those that are gone, until prune.
func (d *direct) configure(entries []Allow) (before []Allow) {
	ports := map[string][]uint16{}
	for _, a := range entries {
		if _, ok := a.network(); !ok {
			ports[a.Host] = append(ports[a.Host], a.Port)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.entries = d.entries, entries
	for name, list := range ports {
		if d.hosts[name] == nil {
			d.hosts[name] = &host{relayKeeper: newRelayKeeper(d.log, d.lookup, d)}
		}
		d.hosts[name].configure([]Relay{{Name: name, Host: name, Ports: list}})
	}
	d.changed()
	return before
}

// prune forgets the hosts that no entry has any more. It does not wait for who
// follows them.
func (d *direct) prune() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, h := range d.hosts {
		if slices.ContainsFunc(d.entries, func(a Allow) bool { return a.Host == name }) {
			continue
		}
		if h.end != nil {
			h.end()
		}
		delete(d.hosts, name)
	}
}

// adopt goes on with the addresses that an earlier guard found, by the entry's
// name in the kernel.
func (d *direct) adopt(byName map[string][]netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.entries {
		if h := d.hosts[a.Host]; h != nil {
			h.adopt(byName[a.name()])
		}
	}
}

func (d *direct) suspend(keys []string, who suspension) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys, d.suspended = keys, who
}

func (d *direct) suspendedNow() (keys []string, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys, d.suspended.unknown == nil
}

// needsTree tells whether control groups matter to anybody.
func (d *direct) needsTree() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.entries) > 0
}

// see takes what a look at the control groups has found. After one that failed
// the ids of the last are still good: none is ever given twice.
func (d *direct) see(found []placed, err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.placed, d.tree = found, nil
	case d.tree != nil:
		d.tree = err
	}
	return err
}

// forget is for when nobody looks any more.
func (d *direct) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.placed, d.tree = nil, errNoLook
}

// judged is an entry, and why it does not count, or not for all, just now.
type judged struct {
	Allow
	amiss error
}

// wanted is what the rules should have.
func (d *direct) wanted(now time.Time, proxy uint32) (LeftAlone, []judged) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := known{
		now: now, proxy: proxy, addresses: map[string][]netip.AddrPort{}, placed: d.placed, tree: d.tree, subordinates: d.subordinates,
	}
	for name, h := range d.hosts {
		k.addresses[name] = h.addresses()
	}
	f := LeftAlone{Suspended: d.suspended.inRules(k)}
	all := make([]judged, len(d.entries))
	names := map[string]bool{}
	for i, a := range d.entries {
		r, err := a.resolved(k)
		if d.suspended.unknown != nil && !errors.Is(err, errOver) {
			r.Owner, r.ID, r.CGroups = rules.CGroup0, 0, nil // of nobody
			err = errors.New("who is suspended is not known")
		}
		if all[i] = (judged{a, err}); !errors.Is(err, errOver) && !names[r.Name] {
			names[r.Name] = true
			f.Allow = append(f.Allow, r)
		}
	}
	if len(f.Allow) == 0 {
		return LeftAlone{}, all // and nobody has to be kept from it
	}
	byID := slices.ContainsFunc(f.Allow, func(r rules.Allow) bool { return r.Owner != rules.CGroup0 })
	for _, p := range d.placed {
		if byID && p.container != "" { // for units they are no matter
			f.Containers = append(f.Containers, p.id)
		}
	}
	slices.Sort(f.Containers)
	f.Containers = slices.Compact(f.Containers)
	return f, all
}

// next is when an entry ends by itself, zero if none does.
func (d *direct) next(now time.Time) (at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.entries {
		if a.Until.After(now) && (at.IsZero() || a.Until.Before(at)) {
			at = a.Until
		}
	}
	return at
}

// took notes what the rules have, and why not more.
func (d *direct) took(f LeftAlone, entries []judged) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inForce, d.judged = f, entries
}

func (d *direct) inRules() LeftAlone {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inForce
}

// destinations are where direct connections can lead by the rules in force.
func (d *direct) destinations() destinations {
	var all destinations
	for _, a := range d.inRules().Allow {
		for _, n := range a.Networks {
			all = append(all, destination{n, a.Port})
		}
	}
	return all
}

type destination struct {
	network netip.Prefix
	port    uint16
}

type destinations []destination

// contain leaves out loopback, whatever an entry says: it is not looked at by
// the rules either.
func (all destinations) contain(remote netip.AddrPort) bool {
	addr := remote.Addr().Unmap().WithZone("")
	return !addr.IsLoopback() && slices.ContainsFunc(all, func(d destination) bool {
		return d.port == remote.Port() && d.network.Contains(addr)
	})
}

// status are the entries as the rules have them, with their counts.
func (d *direct) status(count func(name string) uint64) []AllowStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]AllowStatus, 0, len(d.judged))
	for _, a := range d.judged {
		s := AllowStatus{Who: a.who(), Destination: a.destination(), Until: a.Until, Count: count(a.name())}
		for _, r := range d.inForce.Allow {
			if r.Name == a.name() {
				s.Networks = r.Networks
			}
		}
		if a.amiss != nil {
			s.Error = a.amiss.Error()
		}
		all = append(all, s)
	}
	return all
}

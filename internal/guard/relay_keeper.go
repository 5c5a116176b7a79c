package guard

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
)

// Grace is how long an address that a relay no longer has stays open, for
// connections under way to end: more than the 10 minutes that a client waits for
// the reply to the end of data (RFC 5321 section 4.5.3.2.6).
const Grace = 15 * time.Minute

// maxRelayAddresses bounds the kernel's relay sets; the addresses that left first
// give way.
const maxRelayAddresses = 8192

// sweepInterval is how often addresses past their grace are looked for, and how
// often a change that the kernel did not take is tried again at the latest.
const sweepInterval = 5 * time.Second

// relaySetter puts the relay addresses into the kernel's sets, instead of those
// that are there.
type relaySetter interface {
	SetRelays(ctx context.Context, relays []netip.AddrPort) error
}

// relayKeeper keeps the kernel's relay sets at what the names of the relays
// stand for.
type relayKeeper struct {
	log      *zap.Logger
	lookup   lookupFunc
	firewall relaySetter
	changed  chan struct{} // configure wakes run

	syncing sync.Mutex // one change of the kernel's sets at a time

	mu      sync.Mutex
	relays  map[string]*relayState
	leaving map[netip.AddrPort]time.Time // until when
	applied map[netip.AddrPort]bool      // the last change that it took
	stale   bool                         // applied may not be what the kernel has
}

func newRelayKeeper(log *zap.Logger, lookup lookupFunc, firewall relaySetter) *relayKeeper {
	return &relayKeeper{
		log:      log,
		lookup:   lookup,
		firewall: firewall,
		changed:  make(chan struct{}, 1),
		relays:   map[string]*relayState{},
		leaving:  map[netip.AddrPort]time.Time{},
		stale:    true,
	}
}

// configure sets the relays. Those that were known keep their addresses; those
// that are gone leave, with grace.
func (k *relayKeeper) configure(relays []Relay) {
	k.mu.Lock()
	before := k.current()
	old := k.relays
	k.relays = make(map[string]*relayState, len(relays))
	for _, r := range relays {
		state := &relayState{Relay: r}
		if was := old[r.Name]; was != nil && was.Host == r.Host {
			state.addrs, state.resolved = was.addrs, was.resolved
		}
		k.relays[r.Name] = state
	}
	k.leave(before)
	k.mu.Unlock()
	select {
	case k.changed <- struct{}{}:
	default: // run has not yet seen the last change; it will see both
	}
}

// adopt lets addresses that the kernel has leave, not at once but as those of
// relays do.
func (k *relayKeeper) adopt(endpoints []netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leave(setOf(endpoints))
}

// addresses are what the kernel should have now.
func (k *relayKeeper) addresses() []netip.AddrPort {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.SortedFunc(maps.Keys(k.wanted()), netip.AddrPort.Compare)
}

// run resolves until ctx is done. Each relay has a goroutine, so that a name
// that hangs delays no other.
func (k *relayKeeper) run(ctx context.Context) error {
	for ctx.Err() == nil {
		k.runOnce(ctx)
	}
	return ctx.Err()
}

func (k *relayKeeper) runOnce(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	select {
	case <-k.changed: // about to be seen
	default:
	}
	k.mu.Lock()
	for _, r := range k.relays {
		all.Go(func() { every(ctx, func() time.Duration { return k.refresh(ctx, r) }) })
	}
	k.mu.Unlock()
	all.Go(func() {
		every(ctx, func() time.Duration { k.sync(ctx); return sweepInterval })
	})
	select {
	case <-ctx.Done():
	case <-k.changed:
	}
	cancel()
	all.Wait()
}

// every calls f, waits as long as it says, and again, until ctx is done.
func every(ctx context.Context, f func() time.Duration) {
	for ctx.Err() == nil {
		timer := time.NewTimer(f())
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// refresh looks one relay up and returns when to do so again.
func (k *relayKeeper) refresh(ctx context.Context, r *relayState) time.Duration {
	found, errs := lookupBoth(ctx, k.lookup, r.Host)
	if ctx.Err() != nil {
		return 0
	}
	k.mu.Lock()
	before, wasFailing, isFirst := k.current(), r.failures > 0, r.resolved.IsZero()
	wait := r.update(time.Now(), found, errs)
	k.leave(before)
	err, addrs := r.err, len(r.addrs[0])+len(r.addrs[1])
	k.mu.Unlock()
	// Changes of state are told, not each failure.
	if err != nil && !wasFailing || err == nil && (wasFailing || isFirst) {
		k.report(r.Relay, err, addrs)
	}
	k.sync(ctx)
	return wait
}

func (k *relayKeeper) report(r Relay, err error, addrs int) {
	fields := []zap.Field{
		zap.String(logfields.Relay, r.Name),
		zap.String(logfields.Name, r.Host),
		zap.Int(logfields.Count, addrs),
	}
	if err != nil {
		k.log.Warn("relay does not resolve, its addresses stay", append(fields, zap.Error(err))...)
		return
	}
	k.log.Info("relay resolves", fields...)
}

// current is the set of the addresses that the relays have now. Needs mu.
func (k *relayKeeper) current() map[netip.AddrPort]bool {
	all := map[netip.AddrPort]bool{}
	for _, r := range k.relays {
		for _, e := range r.endpoints() {
			all[e] = true
		}
	}
	return all
}

// leave begins the grace of what was in before and is no longer. Needs mu.
func (k *relayKeeper) leave(before map[netip.AddrPort]bool) {
	now := k.current()
	for e := range before {
		if !now[e] {
			k.leaving[e] = time.Now().Add(Grace)
		}
	}
	for e := range now {
		delete(k.leaving, e)
	}
}

// wanted is what the kernel should have: the current addresses and those in their
// grace. Needs mu.
func (k *relayKeeper) wanted() map[netip.AddrPort]bool {
	if now := time.Now(); k.allResolved() {
		maps.DeleteFunc(k.leaving, func(_ netip.AddrPort, until time.Time) bool { return !now.Before(until) })
	}
	all := k.current()
	last := slices.SortedFunc(maps.Keys(k.leaving), func(a, b netip.AddrPort) int {
		return cmp.Or(k.leaving[b].Compare(k.leaving[a]), a.Compare(b))
	})
	for _, e := range last {
		if len(all) >= maxRelayAddresses {
			delete(k.leaving, e)
			continue
		}
		all[e] = true
	}
	return all
}

// allResolved is false while a relay has no address yet: after a restart
// without name servers, what an earlier guard found is all that there is, for
// however long. Needs mu.
func (k *relayKeeper) allResolved() bool {
	for _, r := range k.relays {
		if r.resolved.IsZero() {
			return false
		}
	}
	return true
}

// sync changes the kernel's sets if they are not as wanted.
func (k *relayKeeper) sync(ctx context.Context) {
	k.syncing.Lock()
	defer k.syncing.Unlock()
	k.mu.Lock()
	wanted := k.wanted()
	done := !k.stale && maps.Equal(wanted, k.applied)
	k.mu.Unlock()
	if done || ctx.Err() != nil {
		return
	}
	err := k.set(ctx, wanted)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.applied, k.stale = wanted, false
		return
	}
	k.stale = true // the next sweep tries again
	k.log.Error("relay addresses are not in the rules", zap.Error(err))
}

// took notes what the kernel's sets hold, after the rules were put up as a whole.
func (k *relayKeeper) took(endpoints []netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.applied, k.stale = setOf(endpoints), false
}

func setOf(endpoints []netip.AddrPort) map[netip.AddrPort]bool {
	set := make(map[netip.AddrPort]bool, len(endpoints))
	for _, e := range endpoints {
		set[e] = true
	}
	return set
}

func (k *relayKeeper) set(ctx context.Context, wanted map[netip.AddrPort]bool) error {
	list := slices.SortedFunc(maps.Keys(wanted), netip.AddrPort.Compare)
	if err := k.firewall.SetRelays(ctx, list); err != nil {
		return fmt.Errorf("setting %d relay addresses: %w", len(list), err)
	}
	k.log.Debug("relay addresses are set", zap.Int(logfields.Count, len(list)))
	return nil
}

// RelayStatus is what the guard knows about one relay.
type RelayStatus struct {
	Name string `json:"name"`
	Host string `json:"host"`
	// Addresses are the current ones that are in the kernel's sets already.
	Addresses []netip.AddrPort `json:"addresses"`
	// Resolved is the time of the last successful look-up, Next that of the
	// next one.
	Resolved time.Time `json:"resolved,omitzero"`
	Next     time.Time `json:"next,omitzero"`
	// Error is why the last look-up failed; the addresses are older then.
	Error string `json:"error,omitempty"`
}

// status returns the relays by name.
func (k *relayKeeper) status() []RelayStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]RelayStatus, 0, len(k.relays))
	for _, name := range slices.Sorted(maps.Keys(k.relays)) {
		r := k.relays[name]
		s := RelayStatus{Name: name, Host: r.Host, Addresses: []netip.AddrPort{}, Resolved: r.resolved, Next: r.next}
		for _, e := range r.endpoints() {
			if k.applied[e] {
				s.Addresses = append(s.Addresses, e)
			}
		}
		if r.err != nil {
			s.Error = r.err.Error()
		}
		all = append(all, s)
	}
	return all
}

package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// How long an answer of the name servers is good for, whatever lifetime its records
// have; and when a failed look-up is tried again, twice as late each time.
const (
	minRefresh = 5 * time.Second
	maxRefresh = time.Hour
	minRetry   = time.Second
	maxRetry   = time.Minute
)

// lookupTimeout bounds all the questions of one look-up.
const lookupTimeout = 20 * time.Second

var errNoAddress = errors.New("the host has no address")

// Relay is one approved relay.
type Relay struct {
	// Name is what the configuration calls it.
	Name string
	// Host is a host name or a literal IP address.
	Host string
	// Ports are those that the proxy may connect to.
	Ports []uint16
}

// relayState is what is known about the addresses of one relay. The keeper's mutex
// guards all but the Relay itself.
type relayState struct {
	Relay
	addrs    [2][]netip.Addr // IPv4, IPv6
	err      error           // of the last look-up
	failures int             // in a row
	resolved time.Time       // last success
	next     time.Time
}

// lookupFunc finds the addresses of host in one family.
type lookupFunc func(ctx context.Context, host string, v6 bool) (answer, error)

// lookupBoth asks for both families at once.
func lookupBoth(ctx context.Context, lookup lookupFunc, host string) (found [2]answer, errs [2]error) {
	if a, err := netip.ParseAddr(host); err == nil {
		literal := []netip.Addr{a}
		for i := range found {
			found[i] = answer{addrs: ofFamily(literal, i == 1), ttl: maxRefresh}
		}
		return found, errs
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var both sync.WaitGroup
	for i := range found {
		both.Go(func() {
			defer func() {
				if p := recover(); p != nil { // over what a stranger sent
					errs[i] = fmt.Errorf("panic while resolving: %v", p)
				}
			}()
			found[i], errs[i] = lookup(ctx, host, i == 1)
		})
	}
	both.Wait()
	return found, errs
}

// update takes the result of a look-up. A family that failed, or a host without any
// address, keeps what it had. It returns when to look again.
func (r *relayState) update(now time.Time, found [2]answer, errs [2]error) time.Duration {
	r.err = errors.Join(errs[:]...)
	if r.err == nil && len(found[0].addrs)+len(found[1].addrs) == 0 {
		r.err = errNoAddress
	}
	refresh := maxRefresh
	for i, f := range found {
		if errs[i] == nil && !errors.Is(r.err, errNoAddress) {
			r.addrs[i] = f.addrs
			refresh = min(refresh, f.ttl)
		}
	}
	refresh = max(refresh, minRefresh)
	if r.err != nil {
		refresh = min(minRetry<<min(r.failures, 6), maxRetry)
		r.failures++
	} else {
		r.failures = 0
		r.resolved = now
	}
	r.next = now.Add(refresh)
	return refresh
}

// endpoints are the addresses of both families with each of the ports.
func (r *relayState) endpoints() []netip.AddrPort {
	var all []netip.AddrPort
	for _, family := range r.addrs {
		for _, a := range family {
			for _, p := range r.Ports {
				all = append(all, netip.AddrPortFrom(a, p))
			}
		}
	}
	return all
}

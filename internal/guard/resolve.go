package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// staticTTL is how long an answer without a lifetime of its own is good for: one of
// the hosts file, or of Go's resolver when our own queries were not answered.
const staticTTL = time.Minute

// maxAddresses bounds what one answer can put into the kernel's sets.
const maxAddresses = 256

var (
	errNoSuchHost = errors.New("no such host")
	errNoServer   = errors.New("no name server answered")
)

// answer is what a look-up found for one address family; no address at all is an
// answer, too.
type answer struct {
	addrs []netip.Addr
	ttl   time.Duration
}

// resolver asks the hosts file, then the name servers of resolv.conf, and
// tells how long an answer lives, which package net does not. Other sources of
// nsswitch.conf need the C library, which a static binary does not have.
type resolver struct {
	hosts    hostsFile
	dns      dnsClient
	fallback func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func newResolver() *resolver {
	return &resolver{
		hosts:    hostsFile{path: "/etc/hosts"},
		dns:      dnsClient{config: "/etc/resolv.conf"},
		fallback: net.DefaultResolver.LookupNetIP,
	}
}

// lookup finds the addresses of host in one family.
func (r *resolver) lookup(ctx context.Context, host string, v6 bool) (answer, error) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if static := r.hosts.lookup(host); len(static) > 0 {
		return answer{addrs: ofFamily(static, v6), ttl: staticTTL}, nil
	}
	found, err := r.dns.lookup(ctx, host, v6)
	if errors.Is(err, errNoServer) {
		return r.lookupFallback(ctx, host, v6, err)
	}
	if err != nil {
		return answer{}, fmt.Errorf("resolving %s: %w", host, err)
	}
	found.addrs = ofFamily(found.addrs, v6)
	return found, nil
}

// lookupFallback lets package net try, which knows more options of resolv.conf
// and more ways round a broken server than we do.
func (r *resolver) lookupFallback(ctx context.Context, host string, v6 bool, cause error) (answer, error) {
	network := "ip4"
	if v6 {
		network = "ip6"
	}
	addrs, err := r.fallback(ctx, network, host)
	if err != nil {
		return answer{}, fmt.Errorf("resolving %s: %w", host, errors.Join(cause, err))
	}
	return answer{addrs: ofFamily(addrs, v6), ttl: staticTTL}, nil
}

// ofFamily keeps the addresses that a relay can have, sorted, each once. A name
// server that blocks a name answers with the unspecified address, which would
// mean this host.
func ofFamily(addrs []netip.Addr, v6 bool) []netip.Addr {
	var kept []netip.Addr
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if a.Is6() == v6 && !a.IsUnspecified() && !a.IsMulticast() {
			kept = append(kept, a)
		}
	}
	slices.SortFunc(kept, netip.Addr.Compare)
	kept = slices.Compact(kept)
	return kept[:min(len(kept), maxAddresses)]
}

package certs

import (
	"context"
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
)

// generation is all that handshakes read between one Reload and the next. It is immutable but for what renews in it.
type generation struct {
	authority  *authority
	hostNames  map[string]bool
	managed    *managed
	redirected *redirected
	source     source // nil for SourceLocal
	tls        configs
	caNames    []string // what the local CA's constraints should be
}

// source is where certificates come from that the local CA's stand in for. Its certificates are good now, or nil.
type source interface {
	// forName is a certificate for name, in lower case.
	forName(name string) *tls.Certificate
	// forAnybody is for clients that ask for no name of the host's.
	forAnybody() *tls.Certificate
	// status lists its certificates, and conditions what is wrong with them.
	status() []Certificate
	conditions(now time.Time) map[string]string
	// renewals are what Renew can do, by the Name of a certificate.
	renewals() map[string]func(context.Context) error
	close()
}

// openGeneration builds what o asks for, but for its source. On an error it leaves nothing running.
func openGeneration(ctx context.Context, o Options, logger *zap.Logger) (*generation, error) {
	a, err := openAuthority(o.authorityOptions())
	if err != nil {
		return nil, err
	}
	host := a.certifiableHost(logger)
	g := &generation{authority: a, hostNames: map[string]bool{}, caNames: o.CANames}
	for _, name := range host.names {
		g.hostNames[name] = true
	}
	if g.redirected, err = newRedirected(a, host, o, logger); err != nil {
		return nil, err
	}
	if g.managed, err = openManaged(ctx, a, host, logger); err != nil {
		return nil, err
	}
	return g, nil
}

// close ends what renews in it, but for a source that the next generation keeps.
func (g *generation) close(next source) {
	if g.source != nil && g.source != next {
		g.source.close()
	}
	g.managed.close()
}

// forDirect picks the certificate for a client that came of its own will. It may ask for any name: it gets one of the
// host's. One that names nobody, or an address, dialled an address: on loopback that is certified by the local CA
// alone, elsewhere perhaps by nobody.
func (g *generation) forDirect(serverName string, onLoopback bool) *tls.Certificate {
	name := lowerASCII(serverName)
	if g.source == nil || isAddress(name) || name == "" && onLoopback {
		return g.managed.certificate()
	}
	if c := g.source.forName(name); c != nil {
		return c
	}
	if !g.hostNames[name] {
		if c := g.source.forAnybody(); c != nil {
			return c
		}
	}
	return g.managed.certificate()
}

// forRedirected picks the certificate for a client that believes it speaks to destination; asker is whose budget pays
// for a new one. A name of the host's is served like a direct client's. Any other is put before AllowName, though a
// wildcard of the host's be for it. What may not or cannot be served gets a certificate of the host that is for the
// host's names alone, which a client that verifies refuses.
func (g *generation) forRedirected(asker, serverName string, destination netip.Addr) *tls.Certificate {
	name := lowerASCII(serverName)
	if g.hostNames[name] && !isWildcard(name) {
		return g.forDirect(name, false)
	}
	var found *tls.Certificate
	if name == "" || isAddress(name) {
		found = g.redirected.byAddress(asker, destination)
	} else {
		if g.source != nil {
			found = g.source.forName(name)
		}
		if found != nil && (isWildcard(name) || !isFor(found.Leaf, name)) && !g.redirected.mayName(name) {
			return g.redirected.ofHost()
		}
		if found == nil {
			found = g.redirected.byName(asker, name)
		}
	}
	if found != nil {
		return found
	}
	if found = g.forDirect(name, false); found == nil || !slices.ContainsFunc(found.Leaf.DNSNames, isWildcard) {
		return found
	}
	return g.redirected.ofHost()
}

func isWildcard(name string) bool { return strings.HasPrefix(name, "*.") }

// isAddress: some clients name the address that they dial, where only a host name may stand (RFC 6066, section 3).
func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

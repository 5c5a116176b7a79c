package certs

import (
	"context"
	"crypto/tls"
	"net/netip"

	"go.uber.org/zap"
)

// generation is all that handshakes read between one Reload and the next. It is immutable but for what renews in it.
type generation struct {
	authority  *authority
	hostNames  map[string]bool
	managed    *managed
	redirected *redirected
	files      *files // nil unless SourceFiles
}

// openGeneration builds what o asks for. On an error it leaves nothing running.
func openGeneration(ctx context.Context, o Options, logger *zap.Logger) (*generation, error) {
	a, err := openAuthority(o.authorityOptions())
	if err != nil {
		return nil, err
	}
	host := a.certifiableHost(logger)
	g := &generation{authority: a, hostNames: map[string]bool{}}
	for _, name := range host.names {
		g.hostNames[name] = true
	}
	if g.redirected, err = newRedirected(a, host, o, logger); err != nil {
		return nil, err
	}
	if g.managed, err = openManaged(ctx, a, host, logger); err != nil {
		return nil, err
	}
	if o.Source == SourceFiles {
		if g.files, err = openFiles(o.CertificateFile, o.KeyFile, logger); err != nil {
			g.close()
			return nil, err
		}
	}
	return g, nil
}

func (g *generation) close() {
	if g.files != nil {
		g.files.close()
	}
	g.managed.close()
}

// forDirect picks the certificate for a client that came of its own will. It may ask for any name: it gets one of the
// host's.
func (g *generation) forDirect(serverName string) *tls.Certificate {
	if g.files != nil {
		p := g.files.current.Load()
		name := lowerASCII(serverName)
		if p.covers(name) || !g.hostNames[name] {
			return &p.certificate
		}
	}
	return g.managed.certificate()
}

// forRedirected picks the certificate for a client that believes it speaks to destination; asker is whose budget pays
// for a new one. What the local CA will not sign gets the host's certificate, which a client that verifies refuses.
func (g *generation) forRedirected(asker, serverName string, destination netip.Addr) *tls.Certificate {
	name := lowerASCII(serverName)
	var issued *tls.Certificate
	switch {
	case name == "":
		issued = g.redirected.byAddress(asker, destination)
	case !g.holds(name):
		issued = g.redirected.byName(asker, name)
	}
	if issued != nil {
		return issued
	}
	return g.forDirect(name)
}

// holds reports whether a certificate of the host is for name, in lower case.
func (g *generation) holds(name string) bool {
	return g.hostNames[name] || g.files != nil && g.files.current.Load().covers(name)
}

package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Manager keeps the certificates and answers handshakes. Open makes one.
type Manager struct {
	current atomic.Pointer[generation]
	config  *tls.Config

	mu     sync.Mutex // Reload and Close
	closed bool
}

// Certificate describes one that is in use, or one that is wanted and not there yet: that one has no times, serial
// number, fingerprint and issuer.
type Certificate struct {
	Name        string    // by which Renew knows it; of a CA, its own name
	Names       []string  // DNS names, then IP addresses; of a CA, its own name
	Source      string    // "local", "files", "acme", or "local-ca" for the root of the local CA
	Issuer      string    // common name of the issuer
	Serial      string    // in hexadecimal
	Fingerprint string    // SHA-256 of the DER form, in hexadecimal
	NotBefore   time.Time // when it begins
	NotAfter    time.Time // when it ends; a renewal comes long before
	RenewAfter  time.Time // when it is renewed; zero: not by us
	Serving     bool      // shown to clients that ask for its names
	LastError   string    // why the last attempt to get a new one failed, in the CA's words; "" if it did not
	ErrorAt     time.Time // when that was
	NextTry     time.Time // when the next attempt comes; zero if there is none or it is not known
}

// Open makes or loads the local CA, issues the host's certificate, and keeps both sources fresh until Close. The
// context bounds the opening only. A damaged local CA and a certificate file without its key are errors;
// Options.Validate tells them beforehand.
func Open(ctx context.Context, options Options) (*Manager, error) {
	m := &Manager{}
	m.config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: m.certificate}
	g, err := prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	m.current.Store(g)
	return m, nil
}

// TLSConfig returns the configuration for every listener: always the same one, so that session tickets (RFC 8446,
// section 2.2) outlive renewals and reloads. The caller must not change it. A connection whose net.Conn has a method
// OriginalDestination() netip.AddrPort that returns a valid value is taken for a redirected one; if it has a method
// PeerKey() string, the budget of new names is that of who bears the key.
func (m *Manager) TLSConfig() *tls.Config { return m.config }

// Reload replaces the options. On an error nothing changes. Sessions under way keep their certificate; certificates
// made for redirected connections are made anew, so that AllowName is asked again.
func (m *Manager) Reload(options Options) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errors.New("reloading certificates after Close")
	}
	next, err := prepare(context.Background(), options)
	if err != nil {
		return err
	}
	m.current.Swap(next).close()
	return nil
}

// Close ends renewing and watching and waits for both. Handshakes are still answered with what was there.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.current.Load().close()
	}
}

// Status lists the certificates of the host and the root of the local CA.
func (m *Manager) Status() []Certificate {
	g := m.current.Load()
	var list []Certificate
	if g.files != nil {
		list = append(list, describe(g.files.current.Load().certificate.Leaf, string(SourceFiles)))
	}
	list = append(list, describe(g.managed.certificate().Leaf, string(SourceLocal)))
	root := describe(g.authority.root, "local-ca")
	root.Names = []string{g.authority.name()}
	return append(list, root)
}

// certificate is tls.Config.GetCertificate.
func (m *Manager) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	g := m.current.Load()
	var found *tls.Certificate
	if destination := originalDestination(hello.Conn); destination.IsValid() {
		found = g.forRedirected(peerKey(hello.Conn), hello.ServerName, destination)
	} else {
		found = g.forDirect(hello.ServerName)
	}
	if found == nil {
		return nil, errors.New("no certificate for the host")
	}
	return found, nil
}

// originalDestination is where a redirected client meant to go, or the zero address for a direct one. The connection
// that the listener hands to TLS says so.
func originalDestination(conn net.Conn) netip.Addr {
	redirected, ok := conn.(interface{ OriginalDestination() netip.AddrPort })
	if !ok {
		return netip.Addr{}
	}
	return redirected.OriginalDestination().Addr()
}

// prepare validates first, so that a refused configuration leaves no new CA behind.
func prepare(ctx context.Context, options Options) (*generation, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options, err := options.normalised()
	if err != nil {
		return nil, err
	}
	return openGeneration(ctx, options, options.Logger.Named("certs"))
}

func describe(leaf *x509.Certificate, source string) Certificate {
	c := Certificate{Names: leaf.DNSNames, Issuer: leaf.Issuer.CommonName, NotAfter: leaf.NotAfter, Source: source}
	for _, address := range leaf.IPAddresses {
		c.Names = append(c.Names[:len(c.Names):len(c.Names)], address.String())
	}
	return c
}

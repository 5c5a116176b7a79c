package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Manager keeps the certificates and answers handshakes. Open makes one.
type Manager struct {
	current atomic.Pointer[generation]
	config  *tls.Config

	// What outlives a Reload.
	challenges    *challenges
	challengeTLS  *tls.Config
	server        *challengeServer // on the listeners of Options
	httpListening bool
	tlsListening  bool
	locks         *locks
	silence       *silence
	legacy        *legacy
	work          sync.WaitGroup // what sources and renewals do

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

// closeTime is what Close waits for a CA or an OCSP responder that is silent.
const closeTime = 5 * time.Second

// Open makes or loads the local CA, issues the host's certificate, and keeps all sources fresh until Close. It waits
// for no CA and no file: until there is a certificate of theirs that is good, the local CA's is shown. The context
// bounds the opening only. A damaged local CA is an error; Options.Validate tells of it beforehand.
func Open(ctx context.Context, options Options) (*Manager, error) {
	m := &Manager{challenges: newChallenges(), locks: &locks{}, silence: &silence{}, legacy: newLegacy()}
	m.challengeTLS = m.challenges.tlsConfig()
	m.config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: m.certificate, GetConfigForClient: m.configFor}
	m.server = newChallengeServer(m.challenges)
	m.listen(options.HTTPListeners, options.TLSALPNListeners)
	options, err := options.usable()
	if err == nil {
		err = m.replace(ctx, options)
	}
	if err != nil {
		m.server.close()
		return nil, err
	}
	return m, nil
}

func (m *Manager) listen(http, tls []net.Listener) {
	m.httpListening, m.tlsListening = len(http) > 0, len(tls) > 0
	for _, listener := range http {
		m.server.serveHTTP(listener)
	}
	for _, listener := range tls {
		m.server.serveTLS(listener)
	}
}

// TLSConfig returns the configuration for every listener: always the same one, so that session tickets (RFC 8446,
// section 2.2) outlive renewals and reloads. The caller must not change it. A connection whose net.Conn has a method
// OriginalDestination() netip.AddrPort that returns a valid value is taken for a redirected one; if it has a method
// PeerKey() string, the budget of new names is that of who bears the key. A CA's hello for tls-alpn-01 is answered; the
// caller closes such a session, whose negotiated protocol is "acme-tls/1", when the handshake is over.
func (m *Manager) TLSConfig() *tls.Config { return m.config }

// Reload replaces the options. On an error, certificate files that are no pair among them, nothing changes. Sessions
// under way keep their certificate; certificates made for redirected connections are made anew, so that AllowName is
// asked again. What is asked of a CA goes on undisturbed if its options are the same.
func (m *Manager) Reload(options Options) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errors.New("reloading certificates after Close")
	}
	if err := options.Validate(); err != nil {
		return err
	}
	options, err := options.normalised()
	if err != nil {
		return err
	}
	return m.replace(context.Background(), options)
}

// replace opens a generation and takes it into use. A refused configuration leaves no new CA behind, and ends nothing.
func (m *Manager) replace(ctx context.Context, o Options) error {
	logger := o.Logger.Named("certs")
	next, err := openGeneration(ctx, o, logger)
	if err != nil {
		return err
	}
	previous := m.current.Load()
	if next.source, err = m.openSource(o, previous, logger); err != nil {
		next.managed.close()
		return err
	}
	next.tls = m.newConfigs(o)
	m.legacy.logger.Store(logger)
	m.current.Store(next)
	if previous != nil {
		previous.close(next.source)
	}
	return nil
}

// openSource opens what o.Source names, or keeps what the previous generation has.
func (m *Manager) openSource(o Options, previous *generation, logger *zap.Logger) (source, error) {
	switch o.Source {
	case SourceFiles:
		return openFiles(o.CertificateFile, o.KeyFile, logger), nil
	case SourceACME:
	default:
		return nil, nil
	}
	if previous != nil {
		if s, ok := previous.source.(*acmeSource); ok {
			if s.directory == o.Directory && s.options.equal(o.ACME) {
				return s, nil
			}
			s.close() // it may have the port that the next one needs; what it has, it still shows
		}
	}
	listening := m.httpListening
	if o.ACME.Challenge == ChallengeTLSALPN {
		listening = m.tlsListening
	}
	return openACME(o.ACME, acmeParts{directory: o.Directory, challenges: m.challenges, listening: listening, locks: m.locks,
		silence: m.silence, work: &m.work, logger: logger})
}

// Close ends renewing, watching and listening, and waits for them; a CA that is silent it leaves behind after five
// seconds. Handshakes are still answered with what was there.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	m.server.close()
	m.current.Load().close(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.work.Wait()
		m.server.wait()
		m.silence.close()
	}()
	select {
	case <-done:
	case <-time.After(closeTime):
	}
}

// certificate is tls.Config.GetCertificate.
func (m *Manager) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	g := m.current.Load()
	var found *tls.Certificate
	if destination := originalDestination(hello.Conn); destination.IsValid() {
		found = g.forRedirected(peerKey(hello.Conn), hello.ServerName, destination)
	} else {
		found = g.forDirect(hello.ServerName, onLoopback(hello.Conn))
	}
	if found == nil {
		return nil, errors.New("no certificate for the host")
	}
	return found, nil
}

// onLoopback reports whether the client came to a loopback address.
func onLoopback(conn net.Conn) bool {
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	return ok && local.IP.IsLoopback()
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

package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// configFor is tls.Config.GetConfigForClient. What it returns for direct clients keeps the tickets of the Manager's own
// configuration: crypto/tls takes the keys of the first one where the second has none of its own.
func (m *Manager) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if isChallengeHello(hello) {
		return m.challengeTLS, nil
	}
	g := m.current.Load()
	m.legacy.look(hello, g.tls.redirected.MinVersion)
	if originalDestination(hello.Conn).IsValid() {
		return g.tls.redirected, nil
	}
	return g.tls.direct, nil
}

// configs are those for the hellos of a generation.
type configs struct {
	direct     *tls.Config // nil if it is the Manager's own
	redirected *tls.Config
}

func (m *Manager) newConfigs(o Options) configs {
	c := configs{redirected: &tls.Config{MinVersion: o.MinVersion, GetCertificate: m.certificate}}
	m.bindTickets(c.redirected, rand.Text())
	if o.MinVersion == m.config.MinVersion && !o.ClientCertificates {
		return c
	}
	c.direct = &tls.Config{MinVersion: o.MinVersion, GetCertificate: m.certificate}
	if o.ClientCertificates {
		c.direct.ClientAuth = tls.RequestClientCert // who it is, is for the account to say; a chain proves nothing here
		c.direct.VerifyConnection = boundedChain
		// A ticket from before anybody was asked brings no certificate, as often as it is used.
		m.bindTickets(c.direct, "asked for a certificate")
	}
	return c
}

const (
	// maxClientChain and maxClientChainSize bound what a client shows of itself: a session keeps all of it, parsed, and
	// its ticket carries it.
	maxClientChain     = 10
	maxClientChainSize = 16 << 10
)

// boundedChain is tls.Config.VerifyConnection: nothing but a client's bound, before its session begins or is resumed.
func boundedChain(state tls.ConnectionState) error {
	size := len(state.OCSPResponse)
	for _, timestamp := range state.SignedCertificateTimestamps {
		size += len(timestamp) + int(unsafe.Sizeof(timestamp))
	}
	for _, certificate := range state.PeerCertificates {
		size += len(certificate.Raw)
	}
	if n := len(state.PeerCertificates); n > maxClientChain || size > maxClientChainSize {
		return fmt.Errorf("the client shows %d certificates, %d octets with what belongs to them; %d and %d are taken: its own is enough",
			n, size, maxClientChain, maxClientChainSize)
	}
	return nil
}

// ticketMark begins what bound tickets have in SessionState.Extra.
const ticketMark = "smtpwall/certs "

// bindTickets has config take the tickets alone that were made under the same circumstances. Those of redirected clients
// are one generation's: who goes on with an old session is shown no certificate, so nobody would ask whether it may still
// have one for that name. The keys are the Manager's, which crypto/tls changes daily.
func (m *Manager) bindTickets(config *tls.Config, circumstances string) {
	mark := []byte(ticketMark + circumstances)
	config.WrapSession = func(connection tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, mark)
		return m.config.EncryptTicket(connection, session)
	}
	config.UnwrapSession = func(ticket []byte, connection tls.ConnectionState) (*tls.SessionState, error) {
		session, err := m.config.DecryptTicket(ticket, connection)
		if err != nil || session == nil || !slices.ContainsFunc(session.Extra, func(e []byte) bool { return bytes.Equal(e, mark) }) {
			return nil, err
		}
		return session, nil
	}
}

// legacy tells of clients that offer nothing that we speak. They get crypto/tls's alert, which says little; their
// administrator finds here what they offered.
type legacy struct {
	logger atomic.Pointer[zap.Logger]
	modern map[uint16]bool // the suites of TLS 1.2 that crypto/tls takes by default
	often  rate.Sometimes
}

// legacyInterval is the least time between two lines.
const legacyInterval = 10 * time.Second

func newLegacy() *legacy {
	l := &legacy{modern: map[uint16]bool{}, often: rate.Sometimes{Interval: legacyInterval}}
	for _, suite := range tls.CipherSuites() {
		l.modern[suite.ID] = slices.Contains(suite.SupportedVersions, tls.VersionTLS12)
	}
	return l
}

// look costs nothing to speak of for a client that offers TLS 1.3.
func (l *legacy) look(hello *tls.ClientHelloInfo, least uint16) {
	best := uint16(0)
	for _, version := range hello.SupportedVersions {
		if version <= tls.VersionTLS13 { // those of RFC 8701 are above
			best = max(best, version)
		}
	}
	switch {
	case best >= tls.VersionTLS13:
	case best < tls.VersionTLS12:
		l.tell("a client offers no version of TLS from 1.2 on and is refused; it must be updated", hello)
	case best < least:
		l.tell("a client offers no TLS 1.3 and is refused, because min_version is 1.3", hello)
	case !slices.ContainsFunc(hello.CipherSuites, func(id uint16) bool { return l.modern[id] }):
		l.tell("a client offers nothing but legacy cipher suites, which are off, and is refused; it must be updated", hello)
	}
}

func (l *legacy) tell(message string, hello *tls.ClientHelloInfo) {
	l.often.Do(func() {
		var versions, suites []string
		for _, version := range hello.SupportedVersions[:min(len(hello.SupportedVersions), maxTold)] {
			versions = append(versions, tls.VersionName(version))
		}
		for _, suite := range hello.CipherSuites[:min(len(hello.CipherSuites), maxTold)] {
			suites = append(suites, tls.CipherSuiteName(suite))
		}
		l.logger.Load().Warn(message, zap.Stringer("client", hello.Conn.RemoteAddr()), zap.String(logfields.TLSName, toldName(hello.ServerName)),
			zap.Strings("versions", versions), zap.Strings("suites", suites))
	})
}

// maxTold bounds the line; a hello has room for thirty thousand suites.
const maxTold = 32

// toldName is as much of a name that a client wrote as a log has room for: a hello has room for 64 KiB.
func toldName(name string) string { return name[:min(len(name), maxName)] }

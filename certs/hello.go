package certs

import (
	"crypto/tls"
	"slices"
	"sync/atomic"
	"time"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// configFor is tls.Config.GetConfigForClient. What it returns keeps the tickets of the Manager's own configuration:
// crypto/tls takes the keys of the first one where the second has none of its own.
func (m *Manager) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if isChallengeHello(hello) {
		return m.challengeTLS, nil
	}
	g := m.current.Load()
	m.legacy.look(hello, g.minVersion())
	return g.tls, nil
}

// generationTLS is the configuration for the hellos of a generation; nil if it is the Manager's own.
func (m *Manager) generationTLS(o Options) *tls.Config {
	if o.MinVersion == m.config.MinVersion && !o.ClientCertificates {
		return nil
	}
	config := &tls.Config{MinVersion: o.MinVersion, GetCertificate: m.certificate}
	if o.ClientCertificates {
		config.ClientAuth = tls.RequestClientCert // who it is, is for the account to say; a chain proves nothing here
	}
	return config
}

func (g *generation) minVersion() uint16 {
	if g.tls == nil {
		return tls.VersionTLS12
	}
	return g.tls.MinVersion
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
		for _, version := range hello.SupportedVersions {
			versions = append(versions, tls.VersionName(version))
		}
		for _, suite := range hello.CipherSuites[:min(len(hello.CipherSuites), maxSuitesTold)] {
			suites = append(suites, tls.CipherSuiteName(suite))
		}
		l.logger.Load().Warn(message, zap.Stringer("client", hello.Conn.RemoteAddr()), zap.String(logfields.TLSName, hello.ServerName),
			zap.Strings("versions", versions), zap.Strings("suites", suites))
	})
}

// maxSuitesTold bounds the line; a hello has room for thirty thousand.
const maxSuitesTold = 32

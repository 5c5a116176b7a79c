package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// renewalWindow is the share of a certificate's life, at its end, in which it is renewed.
const renewalWindow = 1.0 / 3

// managed is the host's certificate from the local CA, which certmagic renews while the process runs. It has a cache
// and a configuration of its own, so that dropping it ends its maintenance and cannot touch what another source
// manages.
type managed struct {
	cache   *certmagic.Cache
	config  *certmagic.Config
	subject string // the name by which certmagic knows the certificate
}

// issuer lets certmagic ask the local CA. A certificate that it issues is for all of the host's names, whichever of
// them certmagic asks for: certmagic manages one name a certificate, clients of one listener use several.
type issuer struct {
	authority *authority
	host      subjects
	logger    *zap.Logger
}

var _ certmagic.Issuer = (*issuer)(nil)

// openManaged issues the host's certificate and keeps it renewed until close.
func openManaged(ctx context.Context, a *authority, host subjects, logger *zap.Logger) (*managed, error) {
	quiet := atLeastWarn(logger)
	m := &managed{subject: host.names[0]}
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		RenewCheckInterval: checkInterval(a.lifetime),
		Logger:             quiet,
	})
	m.config = certmagic.New(m.cache, certmagic.Config{
		RenewalWindowRatio:  renewalWindow,
		Issuers:             []certmagic.Issuer{&issuer{authority: a, host: host, logger: logger}},
		KeySource:           certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		OCSP:                certmagic.OCSPConfig{DisableStapling: true}, // the local CA answers no OCSP and needs none
		Storage:             newMemory(),
		DisableStorageCheck: true,
		DisableARI:          true, // ARI (RFC 9773) is an ACME server's
		Logger:              quiet,
	})
	if err := m.config.ManageSync(ctx, []string{m.subject}); err != nil {
		m.close()
		return nil, fmt.Errorf("issuing the host's certificate: %w", err)
	}
	return m, nil
}

// certificate is what certmagic has now, so that a renewal is shown to the next handshake. Its cache answers in a
// quarter of the time of its GetCertificate (BenchmarkGetCertificate), which prepares log fields and looks for ACME
// challenges.
func (m *managed) certificate() *tls.Certificate {
	found := m.cache.AllMatchingCertificates(m.subject)
	if len(found) == 0 {
		return nil
	}
	return &found[0].Certificate
}

// renew issues a new certificate and shows it from now on.
func (m *managed) renew(ctx context.Context) error {
	old := m.cache.AllMatchingCertificates(m.subject)
	if err := m.config.RenewCertSync(ctx, m.subject, true); err != nil {
		return fmt.Errorf("issuing the host's certificate: %w", err)
	}
	if _, err := m.config.CacheManagedCertificate(ctx, m.subject); err != nil {
		return fmt.Errorf("issuing the host's certificate: %w", err)
	}
	for _, c := range old {
		m.cache.Remove([]string{c.Hash()})
	}
	return nil
}

// close ends the maintenance. Handshakes that still hold m are served from what it has.
func (m *managed) close() { m.cache.Stop() }

// Issue signs the request's key for all of the host's names.
func (i *issuer) Issue(_ context.Context, request *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("checking a certificate request: %w", err)
	}
	if len(request.DNSNames) != 1 || request.DNSNames[0] != i.host.names[0] {
		return nil, certmagic.ErrNoRetry{Err: errors.New("a certificate request for a name that is not the host's")}
	}
	der, notAfter, err := i.authority.issue(i.host, request.PublicKey)
	if err != nil {
		return nil, err
	}
	i.logger.Info("issued the host's certificate", zap.Strings("names", i.host.names), zap.Time("not_after", notAfter),
		zap.String("issuer", i.authority.name()))
	return &certmagic.IssuedCertificate{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// IssuerKey tells certificates of different roots apart.
func (i *issuer) IssuerKey() string { return "local-" + shortID(i.authority.root.SubjectKeyId) }

// checkInterval is how often certmagic looks at the certificate: often enough for a host whose clock was put right,
// or that slept for weeks. certmagic also renews whatever ends within five intervals, so the interval is a small part
// of the lifetime.
func checkInterval(lifetime time.Duration) time.Duration {
	return min(time.Minute, lifetime/20)
}

// atLeastWarn keeps certmagic's steps (locks, look-ups, saved files) out of a log that already says what was issued.
func atLeastWarn(logger *zap.Logger) *zap.Logger {
	logger = logger.Named("certmagic")
	if !logger.Core().Enabled(zapcore.WarnLevel) {
		return logger // raised already; IncreaseLevel would complain on standard error
	}
	return logger.WithOptions(zap.IncreaseLevel(zapcore.WarnLevel))
}

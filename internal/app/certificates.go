package app

import (
	"context"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/config"
)

// Certificates implements admin.Certifier.
func (b *backend) Certificates(context.Context) ([]admin.Certificate, error) {
	var all []admin.Certificate
	for _, c := range b.proxy.certificates.Status() {
		all = append(all, shownCertificate(c))
	}
	return all, nil
}

// RenewCertificates implements admin.Certifier.
func (b *backend) RenewCertificates(ctx context.Context, names []string) error {
	return b.proxy.certificates.Renew(ctx, names...)
}

func shownCertificate(c certs.Certificate) admin.Certificate {
	return admin.Certificate{
		Name: c.Name, Names: append([]string{}, c.Names...), Source: c.Source, Issuer: c.Issuer, Serial: c.Serial, Fingerprint: c.Fingerprint,
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, RenewAfter: c.RenewAfter,
		Serving: c.Serving, Error: c.LastError, ErrorAt: c.ErrorAt, NextTry: c.NextTry,
	}
}

// AskCertificates finds the running proxy that knows of certificates and renews
// them. It fails with ErrNoProxy, ErrNoAdmin or ErrNotAllowed.
func AskCertificates(ctx context.Context, cfg *config.Config) (admin.Certifier, error) {
	return askProxy(ctx, cfg)
}

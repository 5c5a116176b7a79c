package app

import (
	"context"
	"strings"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/internal/admin"
)

// Certificates implements admin.Certifier.
func (b *backend) Certificates(context.Context) ([]admin.Certificate, error) {
	var all []admin.Certificate
	for _, c := range b.proxy.certificates.Status() {
		all = append(all, shownCertificate(c))
	}
	return all, nil
}

func shownCertificate(c certs.Certificate) admin.Certificate {
	return admin.Certificate{Name: strings.Join(c.Names[:min(1, len(c.Names))], ""), Names: c.Names, Source: c.Source, Issuer: c.Issuer, NotAfter: c.NotAfter}
}

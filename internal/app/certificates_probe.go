package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/internal/config"
)

// withStandIns gives keys that are for the service alone, and so were not read, a
// value that is well formed: whoever checks the rest must not miss them.
func withStandIns(cfg *config.Config) *config.Config {
	standIn := config.NewSecret("AAAAAAAAAAAAAAAAAAAAAA") // base64url
	copied := *cfg
	copied.Certificates.Issuers = slices.Clone(cfg.Certificates.Issuers)
	for i := range copied.Certificates.Issuers {
		if issuer := &copied.Certificates.Issuers[i]; issuer.EABKeyID != "" && !issuer.EABKey.IsSet() {
			issuer.EABKey = standIn
		}
	}
	if !copied.Certificates.DNS.Key.IsSet() {
		copied.Certificates.DNS.Key = config.NewSecret("AAAA") // base64
	}
	return &copied
}

// ProbeCertificates looks whether certificates by ACME can be had, without
// asking for one: each issuer is asked for its directory, the name server whether
// it takes the key, and the names are those that a CA certifies. It gives what it
// looked at, with what is wrong with that or nil. With another source there is
// nothing to look at.
func ProbeCertificates(ctx context.Context, cfg *config.Config) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		c := cfg.Certificates
		if c.Source != config.SourceACME {
			return
		}
		names := c.Names
		if len(names) == 0 {
			names = []string{hostName(cfg, machineName(ctx))}
			if err := c.Certifiable(names[0]); err != nil && !yield("name "+names[0], err) {
				return
			}
		}
		for _, issuer := range c.Issuers {
			if !yield("issuer "+issuer.Directory, probeIssuer(ctx, issuer)) {
				return
			}
		}
		if c.Challenge == config.ChallengeDNS && c.DNS.IsSet() && c.DNS.Key.IsSet() {
			yield("name server "+c.DNS.Server, dnsUpdate(c.DNS).Check(ctx, names...))
		}
	}
}

// probeTime is how long one issuer may take to answer.
const probeTime = 15 * time.Second

// probeIssuer reads the directory and compares it with what it will be asked
// for.
func probeIssuer(ctx context.Context, from config.Issuer) error {
	issuer, err := acmeIssuer(from)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: issuer.Roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	client := acme.Client{Directory: issuer.Directory, HTTPClient: &http.Client{Transport: certs.BoundAnswers(transport)}, UserAgent: "smtpwall"}
	directory, err := client.GetDirectory(ctx)
	var stranger x509.UnknownAuthorityError
	var network *url.Error
	switch {
	case errors.As(err, &stranger) && from.CAFile == "":
		return fmt.Errorf("%w: where the CA is one of your own, name its root by ca", stranger)
	case errors.As(err, &network):
		return network
	case err != nil:
		return fmt.Errorf("it is not the directory of an ACME server: %.300s", err)
	case directory.NewNonce == "" || directory.NewAccount == "":
		return errors.New("it is not the directory of an ACME server")
	}
	return judgeIssuer(from, directory.Meta)
}

// judgeIssuer says everything that the CA will refuse.
func judgeIssuer(from config.Issuer, meta *acme.DirectoryMeta) error {
	if meta == nil {
		meta = &acme.DirectoryMeta{}
	}
	var errs []error
	if meta.ExternalAccountRequired && from.EABKeyID == "" {
		errs = append(errs, errors.New("the CA wants accounts bound to one that you have there: get a key from it, and write eab_key_id and eab_key"))
	}
	if _, known := meta.Profiles[from.Profile]; from.Profile != "" && !known {
		has := "it has none"
		if len(meta.Profiles) > 0 {
			has = "it has " + strings.Join(slices.Sorted(maps.Keys(meta.Profiles)), ", ")
		}
		errs = append(errs, fmt.Errorf("the CA has no profile %q: %s", from.Profile, has))
	}
	return errors.Join(errs...)
}

package app

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

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

// StoredCertificates are those in files, while no proxy tells which are shown:
// of the host's own files, of a CA, and the root of the local CA, whose other
// certificates are in no file. What cannot be read is told by the error, beside
// the rest.
func StoredCertificates(cfg *config.Config) ([]admin.Certificate, error) {
	directory := CertificateDirectory(cfg)
	var all []admin.Certificate
	var errs []error
	read := func(path, source string) {
		c, err := readCertificate(path, source)
		if err == nil {
			all = append(all, c)
		} else if !errors.Is(err, fs.ErrNotExist) || source == string(config.SourceFiles) {
			errs = append(errs, err)
		}
	}
	switch cfg.Certificates.Source {
	case config.SourceFiles:
		read(cfg.Certificates.Certificate, string(config.SourceFiles))
	case config.SourceACME:
		paths, err := issuedFiles(filepath.Join(directory, "acme", "certificates"))
		for _, path := range paths {
			read(path, string(config.SourceACME))
		}
		errs = append(errs, err)
	}
	read(certs.RootFile(directory), "local-ca")
	return all, errors.Join(errs...)
}

// issuedFiles are the certificates that CAs issued, by issuer.
func issuedFiles(directory string) (paths []string, err error) {
	err = filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && filepath.Ext(path) == ".crt" {
			paths = append(paths, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return paths, err
}

// maxCertificateFile is far more than a chain has, in bytes.
const maxCertificateFile = 1 << 20

// readCertificate reads the first certificate of a PEM file.
func readCertificate(path, source string) (admin.Certificate, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxCertificateFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxCertificateFile)
	}
	if err != nil {
		return admin.Certificate{}, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return admin.Certificate{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return admin.Certificate{}, fmt.Errorf("%s has no certificate in PEM", path)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return admin.Certificate{}, fmt.Errorf("%s: %w", path, err)
	}
	return describeStored(leaf, source), nil
}

func describeStored(leaf *x509.Certificate, source string) admin.Certificate {
	names := slices.Clone(leaf.DNSNames)
	for _, address := range leaf.IPAddresses {
		names = append(names, address.String())
	}
	if leaf.IsCA || len(names) == 0 {
		names = []string{leaf.Subject.CommonName}
	}
	fingerprint := sha256.Sum256(leaf.Raw)
	return admin.Certificate{
		Name: names[0], Names: names, Source: source, Issuer: leaf.Issuer.CommonName,
		Serial: leaf.SerialNumber.Text(16), Fingerprint: hex.EncodeToString(fingerprint[:]),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}
}

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
	client := acme.Client{Directory: issuer.Directory, HTTPClient: &http.Client{Transport: transport}, UserAgent: "smtpwall"}
	directory, err := client.GetDirectory(ctx)
	var stranger x509.UnknownAuthorityError
	var network *url.Error
	switch {
	case errors.As(err, &stranger) && from.CAFile == "":
		return fmt.Errorf("%w: where the CA is one of your own, name its root by ca", stranger)
	case errors.As(err, &network):
		return network
	case err != nil:
		return fmt.Errorf("it is not the directory of an ACME server: %w", err)
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

package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityDirectory = "local-ca"
	rootFile           = "root.pem" // 0644: clients are given it
	keyFile            = "root.key" // 0600

	rootLifetime = 10 * 365 * 24 * time.Hour
	// maxBackdate lets clients with a slow clock in: a certificate is valid from a little before it was made.
	maxBackdate = time.Hour
	// maxCommonName is ub-common-name of RFC 5280, appendix A.
	maxCommonName = 64
)

var (
	// errNoAuthority means that this host has no local CA yet. A damaged one is another error.
	errNoAuthority  = errors.New("no local CA yet")
	errNotPermitted = errors.New("the local CA's name constraints do not permit it")
)

type authorityOptions struct {
	directory string        // the one that holds local-ca
	lifetime  time.Duration // of a leaf
	now       func() time.Time
	host      subjects // in the form that a certificate holds
	names     []string // what a new root is constrained to, beside the host; none: nothing
}

func (o authorityOptions) path(name string) string {
	return filepath.Join(o.directory, authorityDirectory, name)
}

// authority is the local CA: one P-256 root that signs leafs itself. It is immutable.
type authority struct {
	directory           string // that of its files
	root                *x509.Certificate
	key                 crypto.Signer
	permitted, excluded constraints // of the root
	host                subjects
	lifetime            time.Duration
	now                 func() time.Time
}

// RootFile is where the local CA's root certificate lies, in PEM, under the directory of Options.
func RootFile(directory string) string {
	return authorityOptions{directory: directory}.path(rootFile)
}

// openAuthority loads the local CA, making it first on a host that has none.
func openAuthority(o authorityOptions) (*authority, error) {
	a, err := loadAuthority(o)
	if !errors.Is(err, errNoAuthority) {
		return a, err
	}
	createErr := createAuthority(o)
	// Load even after an error: another process may have made it meanwhile, and swept our files away.
	if a, err = loadAuthority(o); err != nil && createErr != nil {
		return nil, fmt.Errorf("making the local CA: %w", createErr)
	}
	return a, err
}

// loadAuthority reads the local CA. Files that are there but cannot be used are an error that names the remedy, on
// each start: a new CA in their place would break every client that trusts this one, and nobody would know why.
func loadAuthority(o authorityOptions) (*authority, error) {
	keyPEM, keyErr := readKey(o.path(keyFile))
	rootPEM, rootErr := os.ReadFile(o.path(rootFile))
	if errors.Is(keyErr, fs.ErrNotExist) && errors.Is(rootErr, fs.ErrNotExist) {
		return nil, errNoAuthority
	}
	err := errors.Join(keyErr, rootErr)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("reading the local CA as uid %d: %w; %s and what is in it must belong to that user",
			os.Geteuid(), err, filepath.Dir(o.path(keyFile)))
	}
	a := &authority{directory: filepath.Dir(o.path(keyFile)), host: o.host, lifetime: o.lifetime, now: o.now}
	if err == nil {
		err = errors.Join(closedDirectory(a.directory), closedDirectory(o.directory))
	}
	if err == nil {
		err = a.parse(rootPEM, keyPEM)
	}
	if err != nil {
		return nil, fmt.Errorf("the local CA in %s cannot be used: %w; restore %s and %s from a backup, "+
			"or move that directory away: a new CA is then made, which every client must be told to trust",
			a.directory, err, keyFile, rootFile)
	}
	return a, nil
}

func (a *authority) parse(rootPEM, keyPEM []byte) error {
	root, err := parseCertificate(rootPEM)
	if err != nil {
		return fmt.Errorf("%s: %w", rootFile, err)
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return fmt.Errorf("%s: no PEM block", keyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w", keyFile, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(root.PublicKey) {
		return fmt.Errorf("%s is not the key of %s", keyFile, rootFile)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("%s is not a self-signed CA: %w", rootFile, err)
	}
	if a.now().After(root.NotAfter) {
		return fmt.Errorf("%s expired on %s", rootFile, root.NotAfter.Format(time.DateOnly))
	}
	a.root, a.key = root, key
	a.permitted = rootConstraints(root.PermittedDNSDomains, root.PermittedIPRanges)
	a.excluded = rootConstraints(root.ExcludedDNSDomains, root.ExcludedIPRanges)
	if len(a.host.names) > 0 && len(a.certifiable(a.host).names) == 0 {
		return fmt.Errorf("the name constraints of %s permit no name of this host, not even localhost", rootFile)
	}
	return nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// issue signs a certificate for a TLS server. The first name becomes the common name too, for people and for
// certmagic, which knows a certificate by its first name. It returns DER, and when the certificate ends. The root must
// permit all of s.
func (a *authority) issue(s subjects, public crypto.PublicKey) (der []byte, notAfter time.Time, err error) {
	if left := a.certifiable(s); len(left.names) != len(s.names) || len(left.addresses) != len(s.addresses) {
		return nil, time.Time{}, fmt.Errorf("%w: %v %v", errNotPermitted, s.names, s.addresses)
	}
	id, err := keyID(public)
	if err != nil {
		return nil, time.Time{}, err
	}
	now := a.now()
	template := &x509.Certificate{
		NotBefore:             now.Add(-min(maxBackdate, a.lifetime/10)),
		NotAfter:              earlier(now.Add(a.lifetime), a.root.NotAfter),
		DNSNames:              s.names,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		SubjectKeyId:          id,
	}
	for _, address := range s.addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(address.AsSlice()))
	}
	if len(s.names) > 0 && len(s.names[0]) <= maxCommonName {
		template.Subject = pkix.Name{CommonName: s.names[0]}
	}
	der, err = x509.CreateCertificate(rand.Reader, template, a.root, public, a.key)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("signing a certificate: %w", err)
	}
	return der, template.NotAfter, nil
}

// renewAfter is when two thirds of a certificate that ends at notAfter are over.
func (a *authority) renewAfter(notAfter time.Time) time.Time {
	return notAfter.Add(-a.lifetime / 3)
}

// name tells CAs of several hosts, or of one host over the years, apart.
func (a *authority) name() string { return a.root.Subject.CommonName }

// keyID is method 1 of RFC 7093, section 2.
func keyID(public crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encoding a public key: %w", err)
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return nil, fmt.Errorf("reading a public key: %w", err)
	}
	sum := sha256.Sum256(info.Key.RightAlign())
	return sum[:20], nil
}

func shortID(id []byte) string { return hex.EncodeToString(id[:min(len(id), 4)]) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

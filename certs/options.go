package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Source says where the certificate for the host's name comes from.
type Source string

const (
	// SourceLocal is the local CA, made on the host at first use.
	SourceLocal Source = "local"
	// SourceFiles is a certificate and a key in PEM files that another program keeps.
	SourceFiles Source = "files"
	// SourceACME is a CA that speaks ACME (RFC 8555).
	SourceACME Source = "acme"
)

// DefaultLeafLifetime is the lifetime of the certificates that the local CA issues.
// They are renewed when a third of it is left.
const DefaultLeafLifetime = 7 * 24 * time.Hour

// minLeafLifetime keeps the whole-second times of X.509 (RFC 5280, section 4.1.2.5) from
// making a certificate that is born expired.
const minLeafLifetime = 5 * time.Second

// Options says what a Manager shows. Its fields are copied; changing one later has no effect.
type Options struct {
	// Source of the host's certificate; empty is SourceLocal.
	Source Source
	// Directory holds the local CA, in local-ca. It is made, with mode 0700, if absent.
	Directory string
	// Names of the host, the first one its own. A U-label is turned into an A-label (RFC 5890). "localhost"
	// need not be among them.
	Names []string
	// Addresses of the host. The loopback addresses need not be among them.
	Addresses []netip.Addr
	// CertificateFile and KeyFile are the PEM files of SourceFiles; the certificate's comes with its chain.
	CertificateFile, KeyFile string
	// ACME is for SourceACME, and ignored with another.
	ACME ACMEOptions
	// HTTPListeners and TLSALPNListeners are where a CA's challenges come in. Open takes them over: it answers them at
	// once, whatever the source, and closes them when it fails; Close closes them. Reload ignores both fields.
	HTTPListeners, TLSALPNListeners []net.Listener
	// MinVersion is the least version of TLS that clients may speak: tls.VersionTLS12, which 0 stands for, or
	// tls.VersionTLS13.
	MinVersion uint16
	// ClientCertificates asks each client for a certificate, and takes any or none: who reads it has to judge it.
	ClientCertificates bool
	// CANames are the name constraints (RFC 5280, section 4.2.1.10) of the local CA when it is made: domains, each with
	// all below it, and networks. None: no constraint.
	CANames []string
	// LookedUp returns the names by which the host itself looked an address up, the newest first; 16 are used, by clients
	// of redirected connections that name no host. Handshakes call it, several at once. Nil knows none.
	LookedUp func(address netip.Addr) []string
	// AllowName is asked once before the local CA signs a name, in lower case, that the client of a redirected
	// connection asked for, or that LookedUp gives for where it went; it is not asked again while the certificate is kept.
	// It is asked in each handshake of a redirected connection for a name that is the host's by a wildcard alone.
	// Handshakes call it, several at once, and wait for it. Nil allows every host name.
	AllowName func(name string) bool
	// LeafLifetime of the local CA's certificates; 0 is DefaultLeafLifetime, the least is 5 s.
	LeafLifetime time.Duration
	// Logger is the program log; nil is none.
	Logger *zap.Logger
	// Now is the clock of the local CA and of the certificates for redirected connections; nil is time.Now.
	Now func() time.Time
}

// Validate says everything that is wrong with o, the certificate files included. It makes and changes nothing.
func (o Options) Validate() error {
	o, err := o.usable()
	if o.Source == SourceFiles && o.CertificateFile != "" && o.KeyFile != "" {
		_, pairErr := readPair(o.CertificateFile, o.KeyFile)
		err = errors.Join(err, pairErr)
	}
	return err
}

// usable fills in the defaults and checks what Open needs. Certificate files are not among it: the local CA's
// certificate stands in for them.
func (o Options) usable() (Options, error) {
	o, err := o.normalised()
	if err != nil {
		return o, err
	}
	if _, err = loadAuthority(o.authorityOptions()); errors.Is(err, errNoAuthority) {
		err = nil
	}
	return o, err
}

// normalised fills in the defaults and checks what needs no file.
func (o Options) normalised() (Options, error) {
	if o.Source == "" {
		o.Source = SourceLocal
	}
	if o.LeafLifetime == 0 {
		o.LeafLifetime = DefaultLeafLifetime
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS12
	}
	subjects, err := hostSubjects(o.Names, o.Addresses)
	if o.Source == SourceACME {
		var acmeErr error
		o.ACME, acmeErr = o.ACME.normalised(subjects.names)
		err = errors.Join(err, acmeErr)
		for _, name := range o.ACME.Names {
			subjects.addName(name) // the local CA's certificate stands in for the CA's
		}
	}
	o.Names, o.Addresses = subjects.names, subjects.addresses
	return o, errors.Join(err, o.check())
}

// check reports every wrong option at once, because an administrator mends them at once.
func (o Options) check() error {
	var errs []error
	if o.Source != SourceLocal && o.Source != SourceFiles && o.Source != SourceACME {
		errs = append(errs, fmt.Errorf("certificate source %q is none of %q, %q and %q", o.Source, SourceLocal, SourceFiles, SourceACME))
	}
	if o.Directory == "" {
		errs = append(errs, errors.New("no directory for the local CA"))
	}
	if o.Source == SourceFiles && (o.CertificateFile == "" || o.KeyFile == "") {
		errs = append(errs, fmt.Errorf("source %q needs a certificate file and a key file", SourceFiles))
	}
	if _, err := parseConstraints(o.CANames); err != nil {
		errs = append(errs, err)
	}
	if o.MinVersion != tls.VersionTLS12 && o.MinVersion != tls.VersionTLS13 {
		errs = append(errs, fmt.Errorf("least version of TLS %#04x is neither 1.2 nor 1.3", o.MinVersion))
	}
	if o.LeafLifetime < minLeafLifetime {
		errs = append(errs, fmt.Errorf("leaf lifetime %s is shorter than %s", o.LeafLifetime, minLeafLifetime))
	}
	return errors.Join(errs...)
}

func (o Options) authorityOptions() authorityOptions {
	return authorityOptions{directory: o.Directory, lifetime: o.LeafLifetime, now: o.Now,
		host: subjects{names: o.Names, addresses: o.Addresses}, names: o.CANames}
}

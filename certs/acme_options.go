package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/smtpwall/smtpwall/certs/dns01"
)

// Challenges by which a CA is shown that a name is ours.
const (
	ChallengeHTTP    = "http-01"     // RFC 8555, section 8.3
	ChallengeTLSALPN = "tls-alpn-01" // RFC 8737
	ChallengeDNS     = "dns-01"      // RFC 8555, section 8.4
)

// ACMEOptions say what is asked of which CA.
type ACMEOptions struct {
	// Names to be certified, each by a certificate of its own; a wildcard only with ChallengeDNS. None: the first of
	// Options.Names.
	Names []string
	// Email of the account; "" is none.
	Email string
	// Issuers in the order in which they are asked.
	Issuers []ACMEIssuer
	// Challenge is one of the three; "" is ChallengeHTTP.
	Challenge string
	// WebRoot is a directory, whose files a web server shows under http://NAME/, for ChallengeHTTP without a listener;
	// "" is none. It must exist.
	WebRoot string
	// HTTPPort and TLSALPNPort are listened on if Options hands no listener over for the challenge; 0 is never.
	HTTPPort, TLSALPNPort int
	// DNS makes and removes the records of ChallengeDNS by updates to a name server, or Hook does, a program: an absolute
	// path and its first arguments.
	DNS  *dns01.Update
	Hook []string
	// Retries are the pauses after failed attempts to get a first certificate; the last one repeats. None is from one
	// minute to six hours, as CAs would have it. Tests set it.
	Retries []time.Duration

	patience, calm time.Duration // the constants of these names; tests have less
}

// ACMEIssuer is one CA.
type ACMEIssuer struct {
	// Directory is the URL of RFC 8555, section 7.1.1; http only for a loopback host.
	Directory string
	// Roots may have signed the certificate of the directory's host; nil is the system's.
	Roots *x509.CertPool
	// EABKeyID and EABKey, in base64url, are the external account binding of RFC 8555, section 7.3.4; "" is none.
	EABKeyID, EABKey string
	// PreferredChain is the common name of an issuer in the chain that is chosen where the CA offers several; "" is the
	// CA's first.
	PreferredChain string
	// Profile of certificates that the CA is asked for; "" is the CA's default.
	Profile string
}

// defaultRetries leave a CA that counts failures an hour, as Let's Encrypt does, room for what is mended by hand.
var defaultRetries = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute,
	30 * time.Minute, time.Hour, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour}

// normalised fills in the defaults; host are the host's names, its own first.
func (o ACMEOptions) normalised(host []string) (ACMEOptions, error) {
	if o.Challenge == "" {
		o.Challenge = ChallengeHTTP
	}
	if len(o.Retries) == 0 {
		o.Retries = defaultRetries
	}
	if o.patience == 0 {
		o.patience = patience
		if o.DNS != nil {
			o.patience += max(0, o.DNS.Propagation)
		}
	}
	if o.calm == 0 {
		o.calm = calm
	}
	configured := o.Names
	if len(configured) == 0 {
		configured = host[:min(1, len(host))]
	}
	o.Names = nil
	var errs []error
	for _, name := range configured {
		wanted, err := o.certifiable(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("name to be certified %q: %w", name, err))
		} else if !slices.Contains(o.Names, wanted) {
			o.Names = append(o.Names, wanted)
		}
	}
	return o, errors.Join(append(errs, o.check()...)...)
}

// certifiable returns a name as certificates have it.
func (o ACMEOptions) certifiable(name string) (string, error) {
	parent, wildcard := strings.CutPrefix(name, "*.")
	parent, err := hostName(parent)
	switch {
	case err != nil:
		return "", err
	case !strings.Contains(parent, "."):
		return "", errors.New("no public CA certifies a name without a dot")
	case !wildcard:
		return parent, nil
	case o.Challenge != ChallengeDNS:
		return "", fmt.Errorf("a wildcard needs the challenge %q", ChallengeDNS)
	}
	return "*." + parent, nil
}

func (o ACMEOptions) check() (errs []error) {
	if len(o.Names) == 0 {
		errs = append(errs, errors.New("no name to be certified"))
	}
	if len(o.Issuers) == 0 {
		errs = append(errs, errors.New("no CA to ask: an issuer needs a directory"))
	}
	for _, i := range o.Issuers {
		if u, err := url.Parse(i.Directory); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			errs = append(errs, fmt.Errorf("directory of a CA %q is no URL of https", i.Directory))
		}
		if (i.EABKeyID == "") != (i.EABKey == "") {
			errs = append(errs, fmt.Errorf("external account binding of %s needs both a key id and a key", i.Directory))
		}
	}
	if o.WebRoot != "" && !filepath.IsAbs(o.WebRoot) {
		errs = append(errs, fmt.Errorf("web root %q is not an absolute path", o.WebRoot))
	}
	return append(errs, o.checkChallenge()...)
}

func (o ACMEOptions) checkChallenge() (errs []error) {
	switch o.Challenge {
	case ChallengeHTTP, ChallengeTLSALPN:
	case ChallengeDNS:
		if (o.DNS == nil) == (len(o.Hook) == 0) {
			errs = append(errs, fmt.Errorf("the challenge %q needs a name server or a hook, and not both", ChallengeDNS))
		} else if err := o.dnsSolver().(interface{ Validate() error }).Validate(); err != nil {
			errs = append(errs, err)
		}
	default:
		errs = append(errs, fmt.Errorf("challenge %q is none of %q, %q and %q", o.Challenge, ChallengeHTTP, ChallengeTLSALPN, ChallengeDNS))
	}
	if o.WebRoot != "" && o.Challenge != ChallengeHTTP {
		errs = append(errs, fmt.Errorf("a web root is for the challenge %q", ChallengeHTTP))
	}
	return errs
}

// dnsSolver is who answers ChallengeDNS; nil with another challenge. Either waits until the record is seen.
func (o ACMEOptions) dnsSolver() acmez.Solver {
	switch {
	case o.Challenge != ChallengeDNS:
		return nil
	case o.DNS != nil:
		return *o.DNS
	}
	return &dns01.Hook{Command: o.Hook}
}

// equal reports whether both ask the same of the same CAs, so that one may go on for the other.
func (o ACMEOptions) equal(other ACMEOptions) bool {
	sameRoots := func(a, b ACMEIssuer) bool {
		return a.Roots == b.Roots || a.Roots != nil && b.Roots != nil && a.Roots.Equal(b.Roots)
	}
	if !slices.EqualFunc(o.Issuers, other.Issuers, sameRoots) {
		return false
	}
	return reflect.DeepEqual(o.withoutRoots(), other.withoutRoots())
}

func (o ACMEOptions) withoutRoots() ACMEOptions {
	o.Issuers = slices.Clone(o.Issuers)
	for i := range o.Issuers {
		o.Issuers[i].Roots = nil
	}
	return o
}

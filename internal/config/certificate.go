package config

import (
	"slices"
	"strings"
	"time"
)

// Certificates says where the listeners' certificates come from.
type Certificates struct {
	Source           CertificateSource
	Certificate, Key string // PEM chain and its key; set with SourceFiles alone

	// What follows up to Hook is for SourceACME.

	// Names are to be certified, in lower case; "*.example.com" only with
	// ChallengeDNS. None: the host's name.
	Names     []string
	Email     string   // of the ACME account; "": none
	Issuers   []Issuer // in the order to ask; never empty
	Challenge Challenge
	// HTTPPort and TLSALPNPort are where the proxy listens for challenges; 0: it
	// does not. A CA itself comes to 80 and 443.
	HTTPPort, TLSALPNPort uint16
	WebRoot               string    // where challenges become files for a web server; "": the proxy answers them
	DNS                   DNSUpdate // for ChallengeDNS, unless there is a Hook
	Hook                  []string  // absolute path of a program and its first arguments

	// What follows is for each source.

	MinVersion TLSVersion
	// CANames are the names that the local CA may sign, as constraints in its
	// own certificate: domains in lower case, each with all below it, and
	// networks. None: no constraint.
	CANames []string
	// RedirectedNames and RedirectedExclude are patterns of host names in lower
	// case; SignsRedirected knows what they mean.
	RedirectedNames, RedirectedExclude []string
}

// CertificateSource names who issues the certificates.
type CertificateSource string

// Sources of certificates. The local CA serves with each of them where there is
// no other certificate.
const (
	SourceLocal CertificateSource = "local" // our own local CA
	SourceFiles CertificateSource = "files" // files that somebody else renews
	SourceACME  CertificateSource = "acme"  // a CA that speaks RFC 8555
)

// Challenge is how a CA is shown that a name is ours.
type Challenge string

// Challenges.
const (
	ChallengeHTTP    Challenge = "http-01"     // RFC 8555 section 8.3
	ChallengeTLSALPN Challenge = "tls-alpn-01" // RFC 8737
	ChallengeDNS     Challenge = "dns-01"      // RFC 8555 section 8.4
)

// TLSVersion is the least that clients may speak.
type TLSVersion string

// Versions of TLS.
const (
	TLS12 TLSVersion = "1.2" // RFC 5246
	TLS13 TLSVersion = "1.3" // RFC 8446
)

// LetsEncrypt is the directory of the default issuer.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Issuer is one CA that speaks ACME.
type Issuer struct {
	Directory      string // URL; https, or http to a loopback host
	CAFile         string // PEM: who may have signed the directory's own certificate; "": the system's roots
	EABKeyID       string // external account binding, RFC 8555 section 7.3.4; "": none
	EABKey         Secret // its MAC key in base64url
	PreferredChain string // common name of an issuer in the chain to be chosen; "": the CA's default
	Profile        string // draft-ietf-acme-profiles; "": the CA's default
}

// DNSUpdate is a name server that takes the records of challenges by RFC 2136.
// The zero Server is none.
type DNSUpdate struct {
	Server      string        // host:port
	Zone        string        // "": it is asked for
	KeyName     string        // TSIG, RFC 8945; "": updates are not signed
	Algorithm   string        // of TSIG, "hmac-sha256"
	Key         Secret        // of TSIG, in base64
	Resolvers   []string      // host:port of those who know which servers have a zone; none: the server itself, and the host's
	Propagation time.Duration // how long the zone's servers may take to show a record
}

// IsSet reports whether the file names a name server.
func (u DNSUpdate) IsSet() bool { return u.Server != "" }

// SignsRedirected reports whether the local CA may sign name, in lower case and
// without a dot at its end, for a client that was redirected.
func (c Certificates) SignsRedirected(name string) bool {
	matches := func(pattern string) bool { return matchesHost(pattern, name) }
	return slices.ContainsFunc(c.RedirectedNames, matches) && !slices.ContainsFunc(c.RedirectedExclude, matches)
}

// matchesHost reports whether a pattern means name: a name itself, "*.domain"
// for every name below a domain, or "*".
func matchesHost(pattern, name string) bool {
	if below, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(name, below) && len(name) > len(below)
	}
	return pattern == name
}

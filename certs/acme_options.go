package certs

import (
	"crypto/x509"
	"time"
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
	// Hook is a program, an absolute path and its first arguments, that makes and removes the records of ChallengeDNS.
	Hook []string
	// Retries are the pauses after failed attempts to get a first certificate; the last one repeats. None is from one
	// minute to six hours, as CAs would have it. Tests set it.
	Retries []time.Duration
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

package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// challengePath is where a CA looks for a token (RFC 8555, section 8.3).
const challengePath = "/.well-known/acme-challenge/"

// challenges are those that a CA is looking at now, in the form in which it is answered. Its methods may be called by
// any number of goroutines.
type challenges struct {
	mu           sync.RWMutex
	tokens       map[string]string           // key authorizations by token
	certificates map[string]*tls.Certificate // for tls-alpn-01, by name
}

func newChallenges() *challenges {
	return &challenges{tokens: map[string]string{}, certificates: map[string]*tls.Certificate{}}
}

// Present answers the challenge from now on.
func (c *challenges) Present(challenge acme.Challenge) error {
	if challenge.Type != acme.ChallengeTypeTLSALPN01 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tokens[challenge.Token] = challenge.KeyAuthorization
		return nil
	}
	certificate, err := acmez.TLSALPN01ChallengeCert(challenge)
	if err != nil {
		return fmt.Errorf("making the certificate of a challenge: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certificates[lowerASCII(challenge.Identifier.Value)] = certificate
	return nil
}

// CleanUp answers it no more.
func (c *challenges) CleanUp(challenge acme.Challenge) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if challenge.Type == acme.ChallengeTypeTLSALPN01 {
		delete(c.certificates, lowerASCII(challenge.Identifier.Value))
	} else {
		delete(c.tokens, challenge.Token)
	}
	return nil
}

// ServeHTTP answers a CA's request for a token, by whatever name it comes, and 404 to any other.
func (c *challenges) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.URL.Path, challengePath)
	c.mu.RLock()
	answer, known := c.tokens[token]
	c.mu.RUnlock()
	if !ok || !known || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write([]byte(answer))
}

// certificate answers a CA's hello (RFC 8737, section 3). Without a challenge for the name the handshake ends with
// unrecognized_name.
func (c *challenges) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if !isChallengeHello(hello) {
		return nil, errors.New("not a CA's hello")
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.certificates[lowerASCII(hello.ServerName)], nil
}

// isChallengeHello: a CA offers exactly one protocol (RFC 8737, section 4). It costs other hellos two comparisons.
func isChallengeHello(hello *tls.ClientHelloInfo) bool {
	return slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol})
}

// tlsConfig is what a CA's hello is answered with: no other protocol, no ticket, no question for a certificate.
func (c *challenges) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12, // RFC 8737, section 4
		NextProtos:             []string{acmez.ACMETLS1Protocol},
		GetCertificate:         c.certificate,
		SessionTicketsDisabled: true,
	}
}

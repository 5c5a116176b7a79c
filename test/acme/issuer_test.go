package acme_test

import (
	"crypto/rand"
	"encoding/base64"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
)

// TestBinding: an account that is bound to one at the CA, and what the CA says
// if the key is wrong.
func TestBinding(t *testing.T) {
	t.Parallel()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	s := setup{
		ca:     pebble.Options{EAB: map[string]string{"kid-1": base64.RawURLEncoding.EncodeToString(key)}},
		config: acmeConfig + "eab_key_id = \"kid-1\"\neab_key = { file = \"$DIR/eab-key\" }\n",
	}
	b := newBed(t, s)
	b.write("eab-key", base64.RawURLEncoding.EncodeToString(make([]byte, 32))+"\n", 0o600, proxyUID)
	b.configure(s)
	b.start()
	b.awaitComplaint(t, "external account binding")
	b.write("eab-key", s.ca.EAB["kid-1"]+"\n", 0o600, proxyUID)
	b.reload(t)
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	b.awaitWell(t)
}

// TestChain: the chain to another root that the CA offers, and a profile.
func TestChain(t *testing.T) {
	t.Parallel()
	s := setup{ca: pebble.Options{
		AlternateRoots: 2,
		Profiles:       map[string]time.Duration{"long": 90 * 24 * time.Hour, "short": 6 * 24 * time.Hour},
	}}
	b := newBed(t, s)
	s.config = acmeConfig + "preferred_chain = \"" + b.ca.Root(2).Subject.CommonName + "\"\nprofile = \"short\"\n"
	b.configure(s)
	b.start()
	shown := b.awaitCertificate(t, b.ca.Roots(2), hostName)
	for n := range 2 {
		if _, err := b.handshake(submissions, b.ca.Roots(n), hostName); err == nil {
			t.Errorf("the chain leads to root %d too", n)
		}
	}
	if got := shown.NotAfter.Sub(shown.NotBefore).Round(time.Minute); got != 6*24*time.Hour {
		t.Errorf("the certificate is good for %s, want six days", got)
	}
	b.awaitWell(t)
}

// TestFallback: the second issuer certifies what the first refuses.
func TestFallback(t *testing.T) {
	t.Parallel()
	s := setup{ca: pebble.Options{Blocked: []string{domain}}}
	b := newBed(t, s)
	second := b.startCA(secondAddr, pebble.Options{})
	b.write("second.pem", string(second.PEM()), 0o644, 0)
	s.config = acmeConfig + "[[certificates.fallback]]\ndirectory = \"" + second.Directory() + "\"\nca = \"$DIR/second.pem\"\n"
	b.configure(s)
	b.start()
	shown := b.awaitCertificate(t, second.Roots(0), hostName)
	if got := b.certificate(t, "acme", hostName); got.Issuer != shown.Issuer.CommonName || !got.Serving {
		t.Errorf("cert status says %+v, want issuer %s", got, shown.Issuer.CommonName)
	}
	b.awaitWell(t)
}

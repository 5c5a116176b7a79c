package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-sasl"
)

// Fingerprint is the SHA-256 of a certificate's DER form. The zero value is
// none.
type Fingerprint [sha256.Size]byte

// String is the form that the configuration takes: "sha256:" and hexadecimal
// digits.
func (f Fingerprint) String() string { return "sha256:" + hex.EncodeToString(f[:]) }

// Certificate is one whose key the client proved to have in the TLS handshake.
// No chain is checked: an account names the certificate itself. Its dates are
// checked when it is used, so that one that was forgotten ends some day.
type Certificate struct {
	Fingerprint         Fingerprint
	NotBefore, NotAfter time.Time
}

// valid is nil while the certificate may be used.
func (c *Certificate) valid(now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return ErrExpired
	case now.Before(c.NotBefore):
		return ErrNotYetValid
	}
	return nil
}

// Client is a Store as one client sees it: with EXTERNAL, if the client showed
// the certificate of an account.
type Client struct {
	store       *Store
	certificate *Certificate
}

// For gives the Store for a client that proved the key of certificate; nil is
// none.
func (s *Store) For(certificate *Certificate) Client {
	return Client{store: s, certificate: certificate}
}

// Mechanisms lists what AUTH may offer this client, for the EHLO reply.
func (c Client) Mechanisms() []string {
	mechanisms := c.store.Mechanisms()
	if c.certificate == nil || c.store.certificates[c.certificate.Fingerprint] == nil {
		return mechanisms
	}
	return append([]string{sasl.External}, mechanisms...)
}

// Begin starts an exchange; see Store.Begin. EXTERNAL is refused with
// ErrNoCertificate where the client showed none.
func (c Client) Begin(mech string, initial []byte) (*Exchange, error) {
	switch {
	case !strings.EqualFold(mech, sasl.External) || len(c.store.certificates) == 0:
		return c.store.Begin(mech, initial)
	case c.certificate == nil:
		clear(initial)
		return nil, ErrNoCertificate
	}
	x := &Exchange{store: c.store, certificate: c.certificate, initial: initial}
	x.mechanism = &externalServer{account: c.store.certificates[c.certificate.Fingerprint], certificate: c.certificate}
	return x, nil
}

// externalServer is EXTERNAL (RFC 4422 appendix A) over TLS.
type externalServer struct {
	account     *entry // whose certificate it is; nil for nobody's
	certificate *Certificate
}

// Next looks at what the client has before it looks at what the client says: the
// name of an account is nothing that a stranger's certificate may ask about.
func (e *externalServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return []byte{}, false, nil
	}
	// extern-resp = *( UTF8-char-no-nul )
	if len(response) > maxName || !utf8.Valid(response) || bytes.IndexByte(response, 0) >= 0 {
		return nil, true, ErrMalformed
	}
	if e.account == nil {
		return nil, true, ErrUnknownCertificate
	}
	if err := e.certificate.valid(time.Now()); err != nil {
		return nil, true, err
	}
	// An empty identity stands for that of the certificate; no account may act as another.
	if len(response) > 0 && string(prepare(response)) != e.account.name {
		return nil, true, ErrCredentials
	}
	return nil, true, nil
}

func (e *externalServer) claim() claim { return claim{name: []byte(e.account.name), proven: true} }

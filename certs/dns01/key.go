package dns01

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/miekg/dns"
)

const defaultAlgorithm = "hmac-sha256"

// key signs and verifies messages. It is a dns.TsigProvider.
type key struct {
	name, algorithm string // as on the wire, lower case
	hash            func() hash.Hash
	secret          []byte
}

// newKey refuses HMAC-MD5 and HMAC-SHA1, which RFC 8945 section 6 keeps for old
// servers only.
func newKey(name, algorithm, secret string) (key, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return key{}, fmt.Errorf("key name: %q is not a domain name", name)
	}
	if algorithm == "" {
		algorithm = defaultAlgorithm
	}
	k := key{name: dns.CanonicalName(name), algorithm: dns.CanonicalName(algorithm)}
	switch k.algorithm {
	case dns.HmacSHA224:
		k.hash = sha256.New224
	case dns.HmacSHA256:
		k.hash = sha256.New
	case dns.HmacSHA384:
		k.hash = sha512.New384
	case dns.HmacSHA512:
		k.hash = sha512.New
	default:
		return key{}, fmt.Errorf("algorithm: %q is none of hmac-sha224, hmac-sha256, hmac-sha384 and hmac-sha512", algorithm)
	}
	var err error
	if k.secret, err = base64.StdEncoding.DecodeString(strings.TrimSpace(secret)); err != nil || len(k.secret) == 0 {
		return key{}, errors.New("key: not a secret in base64, as tsig-keygen prints it") // the error would quote it
	}
	return k, nil
}

// Generate gives the MAC of a message, whole.
func (k key) Generate(message []byte, _ *dns.TSIG) ([]byte, error) {
	mac := hmac.New(k.hash, k.secret)
	mac.Write(message)
	return mac.Sum(nil), nil
}

// Verify takes no MAC that is cut short: a server that agrees to our key has no
// reason to send one.
func (k key) Verify(message []byte, t *dns.TSIG) error {
	if !strings.EqualFold(t.Hdr.Name, k.name) || !strings.EqualFold(t.Algorithm, k.algorithm) {
		return dns.ErrKey
	}
	want, err := k.Generate(message, t)
	if err != nil {
		return err
	}
	if got, err := hex.DecodeString(t.MAC); err != nil || !hmac.Equal(got, want) {
		return dns.ErrSig
	}
	return nil
}

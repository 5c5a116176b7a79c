package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/pbkdf2"
)

const scramName = "SCRAM-SHA-256"

// Bounds of the iteration count. RFC 7677 section 4 asks for 4096 at least.
const (
	minIterations = 4096
	maxIterations = 1_000_000
)

// scramKeys is what RFC 5802 section 3 has a server store.
type scramKeys struct {
	iterations           int
	salt                 []byte
	storedKey, serverKey []byte
}

// parseSCRAM reads SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey, the form
// of RFC 5803 that PostgreSQL also uses.
func parseSCRAM(text string) (*scramKeys, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 3 || parts[0] != scramName {
		return nil, errors.New("is not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey" + hint)
	}
	count, salt, _ := strings.Cut(parts[1], ":")
	stored, server, _ := strings.Cut(parts[2], ":")
	k := &scramKeys{}
	var err error
	if k.iterations, err = strconv.Atoi(count); err != nil || k.iterations < minIterations || k.iterations > maxIterations {
		return nil, fmt.Errorf("iteration count is not within %d and %d"+hint, minIterations, maxIterations)
	}
	if k.salt, err = decodeBounded(base64.StdEncoding, salt, minSalt, maxSalt); err != nil {
		return nil, fmt.Errorf("salt %w", err)
	}
	if k.storedKey, err = decodeBounded(base64.StdEncoding, stored, sha256.Size, sha256.Size); err != nil {
		return nil, fmt.Errorf("StoredKey %w", err)
	}
	if k.serverKey, err = decodeBounded(base64.StdEncoding, server, sha256.Size, sha256.Size); err != nil {
		return nil, fmt.Errorf("ServerKey %w", err)
	}
	return k, nil
}

// newSCRAMKeys computes the keys of a password (RFC 5802 section 3).
func newSCRAMKeys(password, salt []byte, iterations int) *scramKeys {
	salted := pbkdf2.Key(password, salt, iterations, sha256.Size, sha256.New)
	defer clear(salted)
	clientKey := mac(salted, []byte("Client Key"))
	storedKey := sha256.Sum256(clientKey)
	return &scramKeys{iterations: iterations, salt: salt, storedKey: storedKey[:], serverKey: mac(salted, []byte("Server Key"))}
}

func (k *scramKeys) String() string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", scramName, k.iterations, encode(k.salt), encode(k.storedKey), encode(k.serverKey))
}

func (k *scramKeys) matches(password []byte) bool {
	computed := newSCRAMKeys(password, k.salt, k.iterations)
	return subtle.ConstantTimeCompare(computed.storedKey, k.storedKey) == 1
}

func (k *scramKeys) decoy() hash {
	return &scramKeys{k.iterations, randomOctets(len(k.salt)), randomOctets(sha256.Size), randomOctets(sha256.Size)}
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

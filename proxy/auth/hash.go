package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// hash is a stored password.
type hash interface {
	// matches computes the hash of password, which is the whole cost of a check.
	matches(password []byte) bool
	// decoy is a hash that costs the same and that no password is known for.
	decoy() hash
}

// hint says how to make what was expected; the value itself is never shown,
// since it may be a password in clear.
const hint = `; "smtpwall account hash" makes one`

func parseHash(text string) (hash, error) {
	switch {
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon2(text)
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		return parseBcrypt(text)
	}
	return nil, errors.New("is not an argon2id or bcrypt hash" + hint)
}

// Bounds of argon2id. Below them a stolen configuration is guessed quickly;
// above them a login costs the host more than it should.
const (
	minArgonMemory = 7 << 10 // KiB; the least that OWASP names, then with 5 passes
	maxArgonMemory = 256 << 10
	maxArgonTime   = 16
	maxArgonLanes  = 16
	minArgonCost   = 5 * 7 << 10 // KiB times passes
	minSalt        = 8           // octets, RFC 9106 section 3.1
	maxSalt        = 64
	minKey         = 16
	maxKey         = 64
)

// argon2Hash is argon2id, version 0x13 (RFC 9106).
type argon2Hash struct {
	memory, passes uint32 // memory in KiB
	lanes          uint8
	salt, key      []byte
}

// parseArgon2 reads the PHC string format:
// $argon2id$v=19$m=65536,t=3,p=4$salt$key, base64 without padding.
func parseArgon2(text string) (hash, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, errors.New("argon2id hash is not $argon2id$v=19$m=…,t=…,p=…$salt$hash" + hint)
	}
	var values [3]uint64
	fields := strings.Split(parts[3], ",")
	for i, name := range []string{"m=", "t=", "p="} {
		if len(fields) != 3 || !strings.HasPrefix(fields[i], name) {
			return nil, errors.New("argon2id parameters are not m=…,t=…,p=…" + hint)
		}
		value, err := strconv.ParseUint(fields[i][2:], 10, 31)
		if err != nil {
			return nil, fmt.Errorf("argon2id parameter %s is not a number"+hint, name)
		}
		values[i] = value
	}
	if err := checkArgon2(values[0], values[1], values[2]); err != nil {
		return nil, err
	}
	h := &argon2Hash{memory: uint32(values[0]), passes: uint32(values[1]), lanes: uint8(values[2])}
	var err error
	if h.salt, err = decodeBounded(base64.RawStdEncoding, parts[4], minSalt, maxSalt); err != nil {
		return nil, fmt.Errorf("argon2id salt %w", err)
	}
	if h.key, err = decodeBounded(base64.RawStdEncoding, parts[5], minKey, maxKey); err != nil {
		return nil, fmt.Errorf("argon2id hash %w", err)
	}
	return h, nil
}

func checkArgon2(memory, passes, lanes uint64) error {
	switch {
	case memory < minArgonMemory || memory > maxArgonMemory:
		return fmt.Errorf("argon2id memory of %d KiB is not within %d and %d"+hint, memory, minArgonMemory, maxArgonMemory)
	case passes < 1 || passes > maxArgonTime:
		return fmt.Errorf("argon2id with %d passes is not within 1 and %d"+hint, passes, maxArgonTime)
	case lanes < 1 || lanes > maxArgonLanes:
		return fmt.Errorf("argon2id with parallelism %d is not within 1 and %d"+hint, lanes, maxArgonLanes)
	case memory*passes < minArgonCost:
		return fmt.Errorf("argon2id with %d KiB and %d passes is too weak"+hint, memory, passes)
	}
	return nil
}

func (h *argon2Hash) matches(password []byte) bool {
	key := argon2.IDKey(password, h.salt, h.passes, h.memory, h.lanes, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

func (h *argon2Hash) decoy() hash {
	d := *h
	d.salt, d.key = randomOctets(len(h.salt)), randomOctets(len(h.key))
	return &d
}

// Bounds of bcrypt's cost: 10 takes some 50 ms, 15 some 1.6 s.
const (
	minBcryptCost = 10
	maxBcryptCost = 15
)

// bcryptAlphabet is bcrypt's own base64.
const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// bcryptHash is the whole string, $2b$12$ and 53 characters. Bcrypt looks at the
// first 72 octets of a password.
type bcryptHash []byte

func parseBcrypt(text string) (hash, error) {
	if len(text) != 60 || text[6] != '$' || strings.Trim(text[7:], bcryptAlphabet) != "" {
		return nil, errors.New("bcrypt hash is not $2b$cost$ and 53 characters" + hint)
	}
	cost, err := strconv.Atoi(text[4:6])
	if err != nil || cost < minBcryptCost || cost > maxBcryptCost {
		return nil, fmt.Errorf("bcrypt cost is not within %d and %d"+hint, minBcryptCost, maxBcryptCost)
	}
	if _, err := bcrypt.Cost([]byte(text)); err != nil {
		return nil, errors.New("bcrypt hash cannot be read" + hint)
	}
	return bcryptHash(text), nil
}

func (h bcryptHash) matches(password []byte) bool {
	return bcrypt.CompareHashAndPassword(h, password) == nil
}

func (h bcryptHash) decoy() hash {
	d := append(bcryptHash(nil), h[:7]...)
	for _, c := range randomOctets(53) {
		d = append(d, bcryptAlphabet[c%64])
	}
	d[28] = '.' // 22 characters of salt are 128 bits and a rest that must be 0
	return d
}

// decodeBounded decodes strict base64 of a length in octets.
func decodeBounded(encoding *base64.Encoding, text string, least, most int) ([]byte, error) {
	octets, err := encoding.Strict().DecodeString(text)
	if err != nil || len(octets) < least || len(octets) > most {
		return nil, fmt.Errorf("is not base64 of %d to %d octets"+hint, least, most)
	}
	return octets, nil
}

func randomOctets(n int) []byte {
	octets := make([]byte, n)
	rand.Read(octets) // never fails (crypto/rand)
	return octets
}

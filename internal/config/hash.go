package config

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// hashHint is for what stands in the place of a hash, which may well be a
// password: it is never quoted.
const hashHint = "`smtpwall account hash` makes one"

// checkPasswordHash accepts argon2id in PHC string form, with RFC 9106's
// parameters, and bcrypt.
func checkPasswordHash(hash string) error {
	switch {
	case strings.HasPrefix(hash, "$argon2id$"):
		return checkArgon2id(hash)
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		return checkBcrypt(hash)
	default:
		return flaw{"must be a hash, $argon2id$… or $2b$…", hashHint}
	}
}

// The bounds of stored passwords are those of package proxy/auth, which has the
// last word; a test keeps the two alike. Here they come with a line and a hint.
const (
	leastArgonMemory, mostArgonMemory = 7 << 10, 256 << 10 // KiB
	leastArgonCost                    = 5 * 7 << 10        // KiB times passes
	mostArgonPasses, mostArgonLanes   = 16, 16
	leastBcryptCost, mostBcryptCost   = 10, 15
	leastIterations, mostIterations   = 4096, 1_000_000 // RFC 7677 section 4
	leastSalt, mostSalt               = 8, 64           // bytes
	leastKey, mostKey                 = 16, 64
)

// checkArgon2id bounds the parameters, because each login pays for them.
func checkArgon2id(hash string) error {
	malformed := flaw{"the argon2id hash is malformed", hashHint}
	parts := strings.Split(hash, "$") // "", argon2id, v=19, m=…,t=…,p=…, salt, hash
	if len(parts) != 6 || parts[2] != "v=19" {
		return malformed
	}
	var costs [3]uint64
	words := strings.Split(parts[3], ",")
	for i, name := range []string{"m=", "t=", "p="} {
		if len(words) != len(costs) || !strings.HasPrefix(words[i], name) {
			return malformed
		}
		var err error
		if costs[i], err = strconv.ParseUint(words[i][2:], 10, 31); err != nil {
			return malformed
		}
	}
	raw := base64.RawStdEncoding.Strict()
	if !encodes(raw, parts[4], leastSalt, mostSalt) || !encodes(raw, parts[5], leastKey, mostKey) {
		return malformed
	}
	return checkArgonCosts(costs[0], costs[1], costs[2])
}

func checkArgonCosts(memory, passes, lanes uint64) error {
	switch {
	case memory < leastArgonMemory || memory*passes < leastArgonCost:
		return flaw{fmt.Sprintf("the argon2id hash is too weak: m=%d,t=%d", memory, passes),
			"use m=65536 (64 MiB) and t=3; " + hashHint}
	case memory > mostArgonMemory || passes > mostArgonPasses || lanes > mostArgonLanes || lanes == 0:
		return flaw{fmt.Sprintf("the argon2id hash has parameters out of range: m=%d,t=%d,p=%d", memory, passes, lanes),
			fmt.Sprintf("the most is m=%d,t=%d,p=%d; %s", mostArgonMemory, mostArgonPasses, mostArgonLanes, hashHint)}
	}
	return nil
}

// checkBcrypt accepts $2b$cost$ and 53 characters of salt and hash.
func checkBcrypt(hash string) error {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if len(hash) != 60 || hash[6] != '$' || strings.Trim(hash[7:], alphabet) != "" {
		return flaw{"the bcrypt hash is malformed", hashHint}
	}
	cost, err := strconv.ParseUint(hash[4:6], 10, 8)
	if err != nil || cost < leastBcryptCost || cost > mostBcryptCost {
		return flaw{fmt.Sprintf("the bcrypt hash has a cost that is not from %d to %d", leastBcryptCost, mostBcryptCost), hashHint}
	}
	return nil
}

// checkSCRAM accepts a stored SCRAM-SHA-256 key of RFC 5803 section 3.
func checkSCRAM(stored string) error {
	malformed := flaw{"must be SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", hashHint}
	parts := strings.Split(stored, "$")
	if len(parts) != 3 || parts[0] != "SCRAM-SHA-256" {
		return malformed
	}
	iterations, salt, _ := strings.Cut(parts[1], ":")
	storedKey, serverKey, _ := strings.Cut(parts[2], ":")
	strict := base64.StdEncoding.Strict()
	if !encodes(strict, salt, leastSalt, mostSalt) || !encodes(strict, storedKey, sha256.Size, sha256.Size) ||
		!encodes(strict, serverKey, sha256.Size, sha256.Size) {
		return malformed
	}
	number, err := strconv.ParseUint(iterations, 10, 31)
	if err != nil {
		return malformed
	}
	if number < leastIterations || number > mostIterations {
		return flaw{"the SCRAM key has a number of iterations out of range",
			fmt.Sprintf("use %d to %d; %s", leastIterations, mostIterations, hashHint)}
	}
	return nil
}

// encodes reports whether text is base64 of least to most bytes.
func encodes(encoding *base64.Encoding, text string, least, most int) bool {
	decoded, err := encoding.DecodeString(text)
	return err == nil && len(decoded) >= least && len(decoded) <= most
}

// parsePin reads "sha256:" and the digest of a public key, in base64 as RFC
// 7469 has it, or in hexadecimal.
func parsePin(text string) (Pin, error) {
	malformed := flaw{fmt.Sprintf("%q is not a pin", text),
		`write "sha256:" and the base64 or hexadecimal SHA-256 of the SubjectPublicKeyInfo`}
	digest, ok := strings.CutPrefix(text, "sha256:")
	if !ok {
		return Pin{}, malformed
	}
	var pin Pin
	decoded, err := base64.StdEncoding.DecodeString(digest)
	if len(digest) == 2*len(pin) {
		decoded, err = hex.DecodeString(digest)
	}
	if err != nil || len(decoded) != len(pin) {
		return Pin{}, malformed
	}
	return Pin(decoded), nil
}

// String returns the pin as the file has it, in base64.
func (p Pin) String() string { return "sha256:" + base64.StdEncoding.EncodeToString(p[:]) }

// MarshalText implements encoding.TextMarshaler.
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

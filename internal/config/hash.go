package config

import (
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

// checkArgon2id bounds the parameters, because each login pays for them.
func checkArgon2id(hash string) error {
	malformed := flaw{"the argon2id hash is malformed", hashHint}
	parts := strings.Split(hash, "$") // "", argon2id, v=19, m=…,t=…,p=…, salt, hash
	if len(parts) != 6 || parts[2] != "v=19" {
		return malformed
	}
	var memory, passes, lanes uint32
	costs := fmt.Sprintf("m=%d,t=%d,p=%d", memory, passes, lanes)
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes); err != nil {
		return malformed
	}
	if costs = fmt.Sprintf("m=%d,t=%d,p=%d", memory, passes, lanes); costs != parts[3] {
		return malformed
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[5])
	if saltErr != nil || keyErr != nil || len(salt) < 8 || len(key) < 16 {
		return malformed
	}
	if memory < 8*lanes || memory > 1<<20 || passes < 1 || passes > 64 || lanes < 1 || lanes > 64 {
		return flaw{"the argon2id hash has parameters out of range: " + costs,
			"at most m=1048576 (1 GiB), t=64, p=64; " + hashHint}
	}
	return nil
}

// checkBcrypt accepts $2b$cost$ and 53 characters of salt and hash.
func checkBcrypt(hash string) error {
	cost, err := strconv.ParseUint(hash[4:min(6, len(hash))], 10, 8)
	if err != nil || len(hash) != 60 || hash[6] != '$' || cost < 4 || cost > 18 {
		return flaw{"the bcrypt hash is malformed, or its cost is not from 4 to 18", hashHint}
	}
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if strings.Trim(hash[7:], alphabet) != "" {
		return flaw{"the bcrypt hash is malformed, or its cost is not from 4 to 18", hashHint}
	}
	return nil
}

// checkSCRAM accepts a stored SCRAM-SHA-256 key of RFC 5803 section 3, at least
// RFC 7677's 4096 iterations strong.
func checkSCRAM(stored string) error {
	malformed := flaw{"must be SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", hashHint}
	parts := strings.Split(stored, "$")
	if len(parts) != 3 || parts[0] != "SCRAM-SHA-256" {
		return malformed
	}
	iterations, salt, ok := strings.Cut(parts[1], ":")
	storedKey, serverKey, both := strings.Cut(parts[2], ":")
	if !ok || !both || !isBase64(salt, 0) || !isBase64(storedKey, 32) || !isBase64(serverKey, 32) {
		return malformed
	}
	number, err := strconv.ParseUint(iterations, 10, 32)
	if err != nil {
		return malformed
	}
	if number < 4096 || number > 10_000_000 {
		return flaw{"the SCRAM key has a number of iterations out of range", "use 4096 to 10000000; " + hashHint}
	}
	return nil
}

// isBase64 reports whether text encodes length bytes; length 0 stands for any
// number but none.
func isBase64(text string, length int) bool {
	decoded, err := base64.StdEncoding.DecodeString(text)
	return err == nil && len(decoded) > 0 && (length == 0 || len(decoded) == length)
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

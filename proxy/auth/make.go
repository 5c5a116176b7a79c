package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Parameters of new hashes. Argon2id: 19 MiB and two passes, which OWASP counts
// equal to the 64 MiB and three of RFC 9106 for a login, and which leaves a small
// host its memory. SCRAM: the client pays for each login, so less than for a hash
// at rest alone.
const (
	newMemory     = 19 << 10 // KiB
	newPasses     = 2
	newLanes      = 1
	newIterations = 64 << 10
	newSalt       = 16 // octets
	newKey        = 32
)

// HashPassword makes the two values of an account: password and scram, either
// of which is enough. The password must be UTF-8 of 1 to 1024 octets without
// NUL; it is not changed.
func HashPassword(password []byte) (argon2id, scram string, err error) {
	switch {
	case len(password) == 0:
		return "", "", errors.New("the password is empty")
	case len(password) > maxPassword:
		return "", "", fmt.Errorf("the password is longer than %d octets", maxPassword)
	case !utf8.Valid(password):
		return "", "", errors.New("the password is not UTF-8")
	case bytes.IndexByte(password, 0) >= 0: // RFC 4616 section 2 cannot send it
		return "", "", errors.New("the password has a NUL")
	}
	prepared := prepare(password)
	salt := randomOctets(newSalt)
	key := argon2.IDKey(prepared, salt, newPasses, newMemory, newLanes, newKey)
	encode := base64.RawStdEncoding.EncodeToString
	argon2id = fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", newMemory, newPasses, newLanes, encode(salt), encode(key))
	return argon2id, newSCRAMKeys(prepared, randomOctets(newSalt), newIterations).String(), nil
}

package auth

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// maxName and maxPassword bound what a client may send and an account may have,
// in octets. RFC 4616 section 2 asks for 255 at least.
const (
	maxName     = 255
	maxPassword = 1024
)

// Account is one [[account]] of the configuration. It needs a Password, a SCRAM
// entry or a certificate; with SCRAM alone PLAIN and LOGIN are checked against
// that, and with certificates alone there is no password that fits.
type Account struct {
	Name         string
	Password     string     // hash: "$argon2id$v=19$m=…,t=…,p=…$salt$hash" or "$2b$cost$…"
	SCRAM        string     // "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey"
	Certificates [][32]byte // SHA-256 of the DER form of each: they log in by EXTERNAL
}

// digest is HMAC-SHA-256 of a name and a password.
type digest [32]byte

// entry is an account ready for use.
type entry struct {
	from     Account
	name     string
	hash     hash                    // what Verify computes; nil without a password
	scram    *scramKeys              // nil without SCRAM
	verified *atomic.Pointer[digest] // the pair that was found right, nil until then
}

func newEntry(from Account) (*entry, error) {
	name, err := checkName(from.Name)
	if err != nil {
		return nil, err
	}
	e := &entry{from: from, name: name, verified: new(atomic.Pointer[digest])}
	if from.Password == "" && from.SCRAM == "" && len(from.Certificates) == 0 {
		return nil, errors.New("has neither password nor scram nor certificate")
	}
	if from.SCRAM != "" {
		if e.scram, err = parseSCRAM(from.SCRAM); err != nil {
			return nil, fmt.Errorf("scram: %w", err)
		}
		e.hash = e.scram
	}
	if from.Password != "" {
		if e.hash, err = parseHash(from.Password); err != nil {
			return nil, fmt.Errorf("password: %w", err)
		}
	}
	return e, nil
}

// samePassword tells whether the account is as it was, as far as passwords go.
// The answer for a nil entry is no.
func (e *entry) samePassword(before *entry) bool {
	return e != nil && before != nil && e.from.Password == before.from.Password && e.from.SCRAM == before.from.SCRAM
}

func checkName(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("has no name")
	case len(name) > maxName:
		return "", fmt.Errorf("name is longer than %d octets", maxName)
	case !utf8.ValidString(name):
		return "", errors.New("name is not UTF-8")
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return "", fmt.Errorf("name has the character %U", r)
		}
	}
	return string(prepare([]byte(name))), nil
}

package auth

import "github.com/xdg-go/stringprep"

// prepare brings a name or a password into the form in which it is compared, by
// SASLprep (RFC 4013, asked for by RFC 4616 section 2 and RFC 5802 section 5.1).
// Octets that SASLprep refuses are compared as they are: a password that was
// hashed elsewhere without it must still fit. ASCII is returned without a copy,
// so that it is overwritten with the buffer.
func prepare(octets []byte) []byte {
	ascii := true
	for _, c := range octets {
		ascii = ascii && c < 0x80
	}
	if ascii {
		return octets // SASLprep maps nothing in ASCII
	}
	prepared, err := stringprep.SASLprep.Prepare(string(octets))
	if err != nil || prepared == "" {
		return octets
	}
	return []byte(prepared)
}

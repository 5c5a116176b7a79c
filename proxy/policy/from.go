package policy

import (
	"bytes"
	"errors"
)

// Bounds of a From field; no honest message comes near them.
const (
	maxFromOctets    = 64 << 10 // all From fields together
	maxFromAddresses = 100
	maxAddress       = 1000 // octets of one
)

var (
	errFromTooLong = errors.New("From field is too long")
	errNoField     = errors.New("header section begins with a continuation line")
)

// FromAddresses returns the addresses of every From field in a header section,
// which ends at the first empty line or with the octets given. Duplicated
// fields all count, since readers differ in which one they show (RFC 5322
// section 3.6 allows one). An address without a domain is returned as its local
// part alone. Anything that the grammar does not allow is an error: readers
// would differ in what they make of it. No From field is no error.
//
// Time and memory are linear in the length of the section.
func FromAddresses(headerSection []byte) ([]string, error) {
	if len(headerSection) > 0 && isSpace(headerSection[0]) {
		return nil, errNoField
	}
	var addresses []string
	total := 0
	for rest := headerSection; len(rest) > 0; {
		var field []byte
		field, rest = nextField(rest)
		if isEmptyLine(field) {
			break
		}
		value, isFrom := fromValue(field)
		if !isFrom {
			continue
		}
		if total += len(value); total > maxFromOctets {
			return nil, errFromTooLong
		}
		p := mailboxParser{in: value, address: make([]byte, 0, 64), out: addresses}
		if err := p.addressList(); err != nil {
			return nil, err
		}
		addresses = p.out
	}
	return addresses, nil
}

// nextField cuts one field with its continuation lines off the front. Lines
// that are no field are cut off alike: some readers skip them and read on.
func nextField(in []byte) (field, rest []byte) {
	end := 0
	for {
		n := bytes.IndexByte(in[end:], '\n')
		if n < 0 {
			return in, nil
		}
		end += n + 1
		if end == len(in) || !isSpace(in[end]) || isEmptyLine(in[:end]) {
			return in[:end], in[end:]
		}
	}
}

func isEmptyLine(line []byte) bool { return string(line) == "\r\n" || string(line) == "\n" }

// fromValue returns the value of a From field. White space before the colon is
// obsolete (RFC 5322 section 4.5) but read by many.
func fromValue(field []byte) ([]byte, bool) {
	if field[0]|0x20 != 'f' { // most fields are another
		return nil, false
	}
	name, value, found := bytes.Cut(field, []byte{':'})
	if !found || !bytes.EqualFold(bytes.TrimRight(name, " \t\r\n"), []byte("From")) {
		return nil, false
	}
	return value, true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

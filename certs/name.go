package certs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxName  = 253 // RFC 1035, section 2.3.4, less the root's length octet and the leading one
	maxLabel = 63
)

// subjects are the names that one certificate is for.
type subjects struct {
	names     []string // in lower case, A-labels
	addresses []netip.Addr
}

// hostSubjects returns the configured names and addresses of the host in the form that a certificate holds,
// then localhost and the loopback addresses, each once.
func hostSubjects(names []string, addresses []netip.Addr) (subjects, error) {
	var s subjects
	var errs []error
	for _, configured := range names {
		name, err := hostName(configured)
		if err != nil {
			errs = append(errs, fmt.Errorf("host name %q: %w", configured, err))
			continue
		}
		s.addName(name)
	}
	s.addName("localhost")
	for _, address := range addresses {
		s.addAddress(address)
	}
	s.addAddress(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	s.addAddress(netip.IPv6Loopback())
	return s, errors.Join(errs...)
}

// hostName returns a configured name in lower case, its U-labels as A-labels.
func hostName(configured string) (string, error) {
	name := lowerASCII(strings.TrimSuffix(configured, "."))
	if validHostName(name) {
		return name, nil
	}
	name, err := idna.Lookup.ToASCII(name)
	if err == nil && !validHostName(name) {
		err = errors.New("not a host name")
	}
	return name, err
}

func (s *subjects) addName(name string) {
	if !slices.Contains(s.names, name) {
		s.names = append(s.names, name)
	}
}

// addAddress drops the zone: an iPAddress in a certificate has none (RFC 5280, section 4.2.1.6).
func (s *subjects) addAddress(address netip.Addr) {
	address = address.Unmap().WithZone("")
	if address.IsValid() && !address.IsUnspecified() && !slices.Contains(s.addresses, address) {
		s.addresses = append(s.addresses, address)
	}
}

// lowerASCII returns name in lower case if it is ASCII. Any other is left alone and so refused: Unicode's lower case
// of the Kelvin sign is the letter k, and a certificate would name what the client did not ask for.
func lowerASCII(name string) string {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return name
		}
	}
	return strings.ToLower(name)
}

// validHostName reports whether name, in lower case, may stand in a server_name extension and in a certificate:
// ASCII labels of letters, digits and hyphens (RFC 5890, section 2.3.1), valid A-labels, no wildcard, no IP
// address (RFC 6066, section 3, forbids a literal). An underscore passes: containers' names have it, and verifiers
// accept it.
func validHostName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !validLabel(label) {
			return false
		}
	}
	// An all-numeric last label can only be an IPv4 address in some notation; no such top-level domain exists.
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func validLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		c := label[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	if !strings.HasPrefix(label, "xn--") {
		return true
	}
	_, err := idna.Lookup.ToUnicode(label)
	return err == nil
}

package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// nullPattern allows the null reverse-path (RFC 5321 section 4.5.5).
const nullPattern = "<>"

// maxLabel is the octets of a label of a domain (RFC 1035 section 2.3.4).
const maxLabel = 63

// addressSet is a compiled list of address patterns.
type addressSet struct {
	all      bool // "*" or an empty list: anything, the null reverse-path too
	null     bool // "<>"
	patterns []addressPattern
}

// addressPattern has a glob on each side of the @, so that * never reaches
// across it.
type addressPattern struct {
	local, domain pattern

	own bool // it names a domain, and does not take any
}

func (set *addressSet) add(text string) error {
	switch text {
	case "":
		return errors.New("empty pattern")
	case "*":
		set.all = true
		return nil
	case nullPattern:
		set.null = true
		return nil
	}
	at := strings.LastIndexByte(text, '@')
	switch {
	case at < 0:
		return fmt.Errorf("%q has no @; for a whole domain write %q", text, "*@"+text)
	case at == 0 || at == len(text)-1:
		return fmt.Errorf("%q lacks a side of the @; write * for any", text)
	}
	domain, err := patternDomain(text[at+1:])
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	set.patterns = append(set.patterns, addressPattern{
		local: newPattern(canonicalLocal(text[:at])), domain: newPattern(domain), own: namesDomain(domain),
	})
	return nil
}

// namesDomain says whether a pattern of domains stays within what somebody can
// have registered: no wildcard at all, or two labels without one at the end.
// "*.com" and "example.*" are anybody's.
func namesDomain(domain string) bool {
	if strings.HasPrefix(domain, "[") {
		return !strings.ContainsAny(domain, "*?")
	}
	labels := strings.Split(domain, ".")
	end := labels[max(0, len(labels)-2):]
	return !strings.ContainsAny(strings.Join(end, ""), "*?")
}

// fitReversePath is fit for a path that may be null.
func (set *addressSet) fitReversePath(path string) bool {
	if path == "" {
		return set.all || set.null
	}
	return set.fit(path)
}

// fit tells whether an address fits one of the patterns. Both sides of the @
// are compared without regard to case. RFC 5321 section 2.4 leaves the local
// part to the receiving host, but hosts that tell people apart by case are all
// but extinct, and an application that writes "Shop@" for "shop@" is not forging.
func (set *addressSet) fit(address string) bool {
	return set.all || set.fitPattern(address, false)
}

// fitOwn tells whether an address fits a pattern that names its domain: one that
// the administrator gave to somebody, and no catch-all.
func (set *addressSet) fitOwn(address string) bool { return set.fitPattern(address, true) }

func (set *addressSet) fitPattern(address string, own bool) bool {
	local, domain, ok := splitAddress(address)
	if !ok {
		return false
	}
	for i := range set.patterns {
		p := &set.patterns[i]
		if (p.own || !own) && p.domain.fit(domain) && p.local.fit(local) {
			return true
		}
	}
	return false
}

// Canonical is an address in the form in which addresses are compared: one for
// all ways to write it. What has no two sides is only in lower case.
func Canonical(address string) string {
	local, domain, ok := splitAddress(address)
	if !ok {
		return lowerCase(address)
	}
	return local + "@" + domain
}

// splitAddress gives the two sides of an address in the form in which they are
// compared.
func splitAddress(address string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || at == len(address)-1 {
		return "", "", false
	}
	return canonicalLocal(address[:at]), canonicalDomain(address[at+1:]), true
}

// canonicalLocal is in lower case, and without quotes that it does not need:
// "shop"@example.com is shop@example.com (RFC 5321 section 4.1.2).
func canonicalLocal(local string) string {
	if n := len(local); n > 2 && local[0] == '"' && local[n-1] == '"' && isDotAtom(local[1:n-1]) {
		local = local[1 : n-1]
	}
	return lowerCase(local)
}

// lowerCase maps no character into ASCII: the Kelvin sign is not a k, and an
// address with it is somebody else's.
func lowerCase(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		if lower := unicode.ToLower(r); r < utf8.RuneSelf || lower >= utf8.RuneSelf {
			return lower
		}
		return r
	}, s)
}

// canonicalDomain is in lower case, with each A-label as its U-label. Nothing is
// mapped beyond case: an address that only looks like a domain (full-width
// letters, soft hyphens) is not that domain.
func canonicalDomain(domain string) string {
	lower := lowerCase(domain)
	if !strings.Contains(lower, "xn--") {
		return lower
	}
	labels := strings.Split(lower, ".")
	for i, label := range labels {
		labels[i] = unicodeLabel(label)
	}
	return strings.Join(labels, ".")
}

// unicodeLabel decodes a valid A-label (RFC 5890 section 2.3.2.1); what is none
// stays as it is.
func unicodeLabel(label string) string {
	if !strings.HasPrefix(label, "xn--") || len(label) > maxLabel {
		return label
	}
	decoded, err := idna.Lookup.ToUnicode(label)
	if err != nil {
		return label
	}
	if back, err := idna.Lookup.ToASCII(decoded); err != nil || back != label {
		return label
	}
	return decoded
}

// patternDomain is canonicalDomain for what an administrator wrote: labels
// without wildcards are also normalised, and refused if they can be no name.
func patternDomain(domain string) (string, error) {
	if strings.HasPrefix(domain, "[") { // an address literal
		return lowerCase(domain), nil
	}
	labels := strings.Split(canonicalDomain(domain), ".")
	for i, label := range labels {
		if label == "" {
			return "", errors.New("empty label in the domain")
		}
		if strings.ContainsAny(label, "*?") || isASCII(label) && !strings.HasPrefix(label, "xn--") {
			continue
		}
		decoded, err := idna.Lookup.ToUnicode(label)
		if err != nil {
			return "", fmt.Errorf("%q is not a valid label of a domain", label)
		}
		labels[i] = decoded
	}
	return strings.Join(labels, "."), nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

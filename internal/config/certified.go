package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// parseCertifiedName reads a host name, or "*.example.net", that a CA is asked
// to certify.
func parseCertifiedName(text string) (string, error) {
	if _, err := netip.ParseAddr(text); err == nil {
		return "", flaw{fmt.Sprintf("%q is an address: certificates are asked for names", text), "write the name that leads to it; the local CA certifies the host's addresses"}
	}
	base, wildcard := strings.CutPrefix(text, "*.")
	if strings.Contains(base, "*") {
		return "", flaw{fmt.Sprintf("%q: a wildcard is the first part of a name and stands alone there", text), `write "*.example.net"`}
	}
	if err := checkHostName(base); err != nil {
		return "", err
	}
	if wildcard && !strings.Contains(base, ".") {
		return "", flaw{fmt.Sprintf("%q: no CA certifies that", text), `write "*.example.net"`}
	}
	return strings.ToLower(text), nil
}

// privateDomains are below no domain of the Internet's, so that no CA for the
// public can look whose they are: RFC 6761, RFC 6762, RFC 8375, and ICANN's
// reservation of internal.
var privateDomains = []string{"local", "internal", "home.arpa", "lan", "home", "corp", "localdomain"}

// Certifiable says why none of the issuers certifies name, and nil if one might.
// Whoever names its own roots may know networks that others do not.
func (c Certificates) Certifiable(name string) error {
	private := slices.ContainsFunc(c.Issuers, func(i Issuer) bool { return i.CAFile != "" })
	switch reason := doubtfulName(name); {
	case isLocalhost(strings.TrimPrefix(name, "*.")):
		return flaw{fmt.Sprintf("%q is every host, and no CA certifies it", name), "name this host; the local CA certifies localhost in any case"}
	case reason != "" && !private:
		return flaw{reason + ", and no CA for the public certifies it", `use a name in a domain of your own, or source = "local"; with a CA of your own name its root by ca`}
	}
	return nil
}

// doubtfulName says why a CA for the public does not certify name, and "" if it
// might.
func doubtfulName(name string) string {
	name = strings.TrimPrefix(name, "*.")
	if !strings.Contains(name, ".") {
		return fmt.Sprintf("%q has no domain", name)
	}
	for _, domain := range privateDomains {
		if inDomain(name, domain) {
			return fmt.Sprintf("%q is in %s, which exists in networks of one's own alone", name, domain)
		}
	}
	return ""
}

// isLocalhost reports whether name is this host itself, RFC 6761 section 6.3.
func isLocalhost(name string) bool { return inDomain(name, "localhost") }

// inDomain reports whether name is domain or below it.
func inDomain(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// checkDirectoryURL accepts the URL of an ACME directory, RFC 8555 section
// 7.1.1. It is never quoted: that of some CAs says whose account it is.
func checkDirectoryURL(text string) error {
	return checkURL(text, urlWords{
		hint:   "write directory = " + quote(LetsEncrypt),
		user:   "remove it: eab_key_id and eab_key say who you are",
		clear:  flaw{"RFC 8555 asks for https", "write https; http is for a CA on this host alone"},
		scheme: "is not an https URL",
	})
}

// sameDirectory is equal for URLs that lead to one directory.
func sameDirectory(text string) string {
	target, err := url.Parse(text)
	if err != nil {
		return text
	}
	port := target.Port()
	if port == "443" && target.Scheme == "https" || port == "80" && target.Scheme == "http" {
		port = ""
	}
	return target.Scheme + "://" + strings.ToLower(target.Hostname()) + ":" + port + strings.TrimSuffix(target.EscapedPath(), "/") + "?" + target.RawQuery
}

// checkKeyID accepts the name of a key that binds an account.
func checkKeyID(text string) error { return printable("key id", text) }

// checkCommonName accepts the common name of an issuer.
func checkCommonName(text string) error { return printable("common name", text) }

func printable(what, text string) error {
	if text == "" || len(text) > 255 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return flaw{"the " + what + " is empty, too long or holds a character that does not print", "write it as the CA tells it"}
	}
	return nil
}

// parseConstraint reads a domain or a network that the local CA may sign for.
func parseConstraint(text string) (string, error) {
	if strings.Contains(text, "/") {
		network, err := netip.ParsePrefix(text)
		switch {
		case err != nil || network.Addr().Is4In6():
			return "", flaw{fmt.Sprintf("%q is not a network", text), `write "192.0.2.0/24" or "2001:db8::/32"`}
		case network != network.Masked():
			return "", flaw{fmt.Sprintf("%s has bits set behind its length", text), "write " + quote(network.Masked().String())}
		}
		return network.String(), nil
	}
	if address, err := netip.ParseAddr(text); err == nil {
		return "", flaw{fmt.Sprintf("%q is an address, not a network", text), fmt.Sprintf(`write "%s/%d" for this address alone`, address.Unmap(), address.Unmap().BitLen())}
	}
	if domain := strings.TrimPrefix(strings.TrimPrefix(text, "*"), "."); domain != text && checkHostName(domain) == nil {
		return "", flaw{fmt.Sprintf("%q is a pattern", text), fmt.Sprintf("write %q, which is all below it as well", domain)}
	}
	return strings.ToLower(text), checkHostName(text)
}

// parseHostPattern reads a name, "*.example.com" or "*".
func parseHostPattern(text string) (string, error) {
	if text == "*" {
		return text, nil
	}
	base := strings.TrimPrefix(text, "*.")
	if strings.ContainsAny(base, "*?") {
		return "", flaw{fmt.Sprintf("%q: the only wildcard is *, alone or as the first part of a name", text), `write "*.example.com" for every name below example.com`}
	}
	return strings.ToLower(text), checkHostName(base)
}

// parseDomain reads the name of a zone or of a TSIG key, with or without the
// dot at its end.
func parseDomain(text string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	for _, label := range strings.Split(name, ".") {
		// "_acme-challenge.example.net" is a zone of its own in many places.
		if len(name) > 253 || !isLabel(strings.ReplaceAll(label, "_", "a")) {
			return "", flaw{fmt.Sprintf("%q is not a domain name", text), "write letters, digits, hyphens and underscores, with dots between"}
		}
	}
	return name, nil
}

// parseNameServer reads host:port; port 53 may be left out.
func parseNameServer(text string) (string, error) {
	host, port, err := parseRelayAddress(text)
	if err != nil {
		found := asFlaw(err)
		found.hint = `write "ns1.example.net:53" or "192.0.2.53:53"`
		return "", found
	}
	if port == 0 {
		port = 53
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port))), nil
}

// algorithmBinding binds an algorithm of TSIG, and says of those that RFC 8945
// section 6 gives up what is wrong with them.
type algorithmBinding struct{ enum[string] }

func (b algorithmBinding) decode(d *decoder, at place, v *value) {
	switch strings.ToLower(v.text) {
	case "hmac-sha1", "hmac-md5", "hmac-md5.sig-alg.reg.int":
		d.problem(v.line, at.key, flaw{fmt.Sprintf("%q is too weak", v.text),
			`make a key for hmac-sha256: tsig-keygen -a hmac-sha256 smtpwall-acme`})
	default:
		b.enum.decode(d, at, v)
	}
}

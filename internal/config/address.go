package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// checkPath accepts a clean, absolute path.
func checkPath(path string) error {
	switch {
	case strings.ContainsFunc(path, unicode.IsControl):
		return flaw{"the path holds a control character", "write an absolute path"}
	case !filepath.IsAbs(path):
		return flaw{fmt.Sprintf("%q is not an absolute path", path), "begin it with /"}
	case path != filepath.Clean(path):
		return flaw{fmt.Sprintf("%q is not a plain path", path), "write " + quote(filepath.Clean(path))}
	}
	return nil
}

// checkSocketPath accepts a path that fits into a Unix socket's address, or
// none.
func checkSocketPath(path string) error {
	if path == "" {
		return nil
	}
	const longest = 107 // unix(7): 108 bytes with the final NUL
	if len(path) > longest {
		return flaw{fmt.Sprintf("the path is longer than the %d bytes that a socket's may have", longest),
			"choose a shorter one"}
	}
	return checkPath(path)
}

// checkHostName accepts a host name as RFC 1123 section 2.1 has it.
func checkHostName(name string) error {
	if _, err := netip.ParseAddr(name); err == nil {
		return flaw{fmt.Sprintf("%q is an address, not a host name", name), `write a name: "vps1.example.net"`}
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		return flaw{fmt.Sprintf("%q is not written in ASCII", name), `write the A-label form, "xn--…"`}
	}
	if len(name) > 253 {
		return flaw{"the host name is longer than 253 characters", ""}
	}
	for _, label := range strings.Split(name, ".") {
		if !isLabel(label) {
			return flaw{fmt.Sprintf("%q is not a host name", name),
				`write letters, digits and hyphens, with dots between: "vps1.example.net"`}
		}
	}
	return nil
}

// isLabel reports whether label is one part of a host name.
func isLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, c := range []byte(label) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// parseRelayAddress reads host:port, or a host alone, for which port is 0.
func parseRelayAddress(text string) (host string, port uint16, err error) {
	if _, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		host, err = parseHost(strings.Trim(text, "[]"))
		return host, 0, err
	}
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		if strings.Contains(text, ":") {
			return "", 0, flaw{fmt.Sprintf("%q is neither host:port nor a host", text),
				`write "smtp.example.com:587" or "[2001:db8::7]:587"`}
		}
		host, err = parseHost(text)
		return host, 0, err
	}
	number, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || number == 0 {
		return "", 0, flaw{fmt.Sprintf("%q is not a port", digits), "write a number from 1 to 65535"}
	}
	host, err = parseHost(host)
	return host, uint16(number), err
}

// parseHost reads the name or the address of one server, and returns the form
// that is usual for it.
func parseHost(text string) (string, error) {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return strings.ToLower(text), checkHostName(text)
	}
	if address.IsUnspecified() || address.IsMulticast() || address.Zone() != "" {
		return "", flaw{fmt.Sprintf("%s is not the address of a server", text), "write the relay's own"}
	}
	return address.Unmap().String(), nil
}

// parseListener reads address:port; a listener has no name to look up, so that
// nothing but the file decides where it is.
func parseListener(text string) (netip.AddrPort, error) {
	address, err := netip.ParseAddrPort(text)
	if err == nil && address.Port() != 0 && !address.Addr().Is4In6() && address.Addr().Zone() == "" {
		return address, nil
	}
	hint := `write an address and a port: "127.0.0.1:587" or "[::1]:587"`
	if host, port, split := net.SplitHostPort(text); split == nil {
		switch host {
		case "localhost":
			hint = fmt.Sprintf(`write "127.0.0.1:%s" and "[::1]:%s"`, port, port)
		case "", "*":
			hint = fmt.Sprintf(`write "0.0.0.0:%s" and "[::]:%s"`, port, port)
		}
	}
	return netip.AddrPort{}, flaw{fmt.Sprintf("%q is not address:port", text), hint}
}

// parseInside reads a network that containers or machines behind this host are
// in. A wide one would be a hole instead.
func parseInside(text string) (netip.Prefix, error) {
	const hint = `write networks of your own: "172.18.0.0/16" or "fd00:1::/64"`
	network, err := netip.ParsePrefix(text)
	if err != nil || network.Addr().Is4In6() {
		if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" && !address.Is4In6() {
			return netip.Prefix{}, flaw{fmt.Sprintf("%q is an address, not a network", text),
				fmt.Sprintf(`write "%s/%d" for this address alone`, address, address.BitLen())}
		}
		return netip.Prefix{}, flaw{fmt.Sprintf("%q is not a network", text), hint}
	}
	switch {
	case network.Bits() < shortest(network.Addr()):
		return netip.Prefix{}, flaw{fmt.Sprintf("%s is too wide to be inside: mail to all of it would go unchecked", text), hint}
	case network != network.Masked():
		return netip.Prefix{}, flaw{fmt.Sprintf("%s has bits set behind its length", text), "write " + quote(network.Masked().String())}
	case network.Overlaps(netip.MustParsePrefix("127.0.0.0/8")) || network.Overlaps(netip.MustParsePrefix("::1/128")):
		return netip.Prefix{}, flaw{fmt.Sprintf("%s is this host itself, which is left alone anyway", text), "remove it"}
	}
	return network, nil
}

// shortest returns the least length of a network that somebody may have for
// inner use: 10.0.0.0/8, fc00::/7, or the allocation of a large provider.
func shortest(address netip.Addr) int {
	switch {
	case address.Is4():
		return 8
	case netip.MustParsePrefix("fc00::/7").Contains(address):
		return 7
	}
	return 16
}

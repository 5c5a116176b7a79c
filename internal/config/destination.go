package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// watchedPorts are those that the firewall closes to the outside.
var watchedPorts = []uint16{25, 465, 587, 2525}

// parseDestination reads host:port, address:port or network:port, of which an
// IPv6 one is in brackets. Host has no bits set behind a network's length.
func parseDestination(text string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, flaw{fmt.Sprintf("%q is not host:port", text), destinationHint}
	}
	number, err := strconv.ParseUint(digits, 10, 16)
	switch {
	case err != nil || number == 0:
		return "", 0, flaw{fmt.Sprintf("%q is not a port", digits), "write 25, 465, 587 or 2525"}
	case !slices.Contains(watchedPorts, uint16(number)):
		return "", 0, flaw{fmt.Sprintf("port %d is left alone anyway", number),
			"remove the entry, or write 25, 465, 587 or 2525"}
	}
	if strings.Contains(host, "/") {
		host, err = parseNetwork(host)
		return host, uint16(number), err
	}
	host, err = parseHost(host)
	if err != nil && host == "" {
		err = flaw{asFlaw(err).message, destinationHint}
	}
	return host, uint16(number), err
}

// parseNetwork reads a network of other hosts.
func parseNetwork(text string) (string, error) {
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil || network.Addr().Is4In6():
		return "", flaw{fmt.Sprintf("%q is not a network", text), destinationHint}
	case network != network.Masked():
		return "", flaw{fmt.Sprintf("%s has bits set behind its length", text), "write " + network.Masked().String()}
	case network.Addr().IsMulticast():
		return "", flaw{fmt.Sprintf("%s is not a network of servers", text), destinationHint}
	}
	return network.String(), nil
}

// parseMilter reads "unix:/path" or "inet:host:port".
func parseMilter(text string) (network, address string, err error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch kind {
	case "unix":
		if rest == "" {
			return "", "", flaw{fmt.Sprintf("%q names no path", text), milterHint}
		}
		return "unix", rest, checkSocketPath(rest)
	case "inet":
		address, err = parseMilterAddress(text, rest)
		return "tcp", address, err
	}
	if strings.HasPrefix(text, "/") {
		return "", "", flaw{fmt.Sprintf("%q does not say what it is", text), `write milter = "unix:` + text + `"`}
	}
	return "", "", flaw{fmt.Sprintf("%q is not the address of a milter", text), milterHint}
}

func parseMilterAddress(text, rest string) (string, error) {
	if port, host, found := strings.Cut(rest, "@"); found {
		return "", flaw{fmt.Sprintf("%q is written as for other programs", text),
			`write milter = "inet:` + net.JoinHostPort(strings.Trim(host, "[]"), port) + `"`}
	}
	host, digits, err := net.SplitHostPort(rest)
	if err != nil {
		return "", flaw{fmt.Sprintf("%q is not inet:host:port", text), milterHint}
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 {
		return "", flaw{fmt.Sprintf("%q is not a port", digits), "write a number from 1 to 65535"}
	}
	if host, err = parseHost(host); err != nil {
		return "", flaw{asFlaw(err).message, milterHint}
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10)), nil
}

// maxURL bounds a URL, in bytes.
const maxURL = 2048

// checkWebhook accepts a URL that alerts may be posted to. It is never quoted:
// the path of many is as good as a password.
func checkWebhook(text string) error {
	return checkURL(text, urlWords{
		hint:   `write webhook = "https://alerts.example.com/smtpwall"`,
		user:   "remove it: secret signs each alert instead",
		clear:  flaw{"alerts would cross the network in clear", "write https"},
		scheme: "is neither an https nor an http URL",
	})
}

// urlWords say what is wrong with a URL, of which nothing but the port is quoted.
type urlWords struct {
	hint   string // how one is written
	user   string // what to do instead of a name and a password
	clear  flaw   // http, and not to a loopback host
	scheme string // neither https nor http
}

// checkURL accepts an https URL, and http to a loopback host.
func checkURL(text string, words urlWords) error {
	target, err := url.Parse(text)
	if err != nil || target.Hostname() == "" || target.Opaque != "" || len(text) > maxURL {
		return flaw{"is not a URL", words.hint}
	}
	if _, err := parseHost(target.Hostname()); err != nil {
		return flaw{"is not the URL of a server", words.hint}
	}
	if port := target.Port(); port != "" {
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			return flaw{fmt.Sprintf("%q is not a port", port), words.hint}
		}
	}
	switch {
	case target.User != nil:
		return flaw{"a name or password must not stand in a URL", words.user}
	case target.Fragment != "":
		return flaw{"has a fragment, which no server is told", "remove # and what follows"}
	case target.Scheme == "http" && !isLoopback(target.Hostname()):
		return words.clear
	case target.Scheme != "https" && target.Scheme != "http":
		return flaw{words.scheme, words.hint}
	}
	return nil
}

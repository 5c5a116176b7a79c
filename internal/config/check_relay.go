package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// checkRelay checks one relay's table: no mail and no password crosses a
// network in clear.
func (d *decoder) checkRelay(r *Relay, at ref) {
	if !at.has("address") {
		d.wrong(at.at("address"), flaw{"is missing", `write address = "smtp.example.com:587"`})
	}
	if r.Host == "" {
		return // nothing below means anything without it
	}
	if r.Port != 0 {
		r.TLS = r.TLS.on(r.Port)
	}
	d.checkRelayTLS(r, at)
	d.checkRelayLogin(r, at)
	if d.isOurs(r) {
		d.wrong(at.at("address"), flaw{"is one of our own listeners, so mail would go round in circles",
			"name the server that takes the mail from here"})
	}
}

func (d *decoder) checkRelayTLS(r *Relay, at ref) {
	switch {
	case r.TLS == TLSNone && !isLoopback(r.Host):
		d.wrong(at.at("tls"), flaw{fmt.Sprintf("%q is refused for %s: mail and password would cross the network in clear", r.TLS, r.Host),
			`write tls = "starttls" or "implicit"; "none" is for 127.0.0.1, [::1] and localhost`})
	case r.TLS == TLSNone && r.Port == 25:
		d.wrong(at.at("tls"), flaw{`"none" is refused on port 25`, `write tls = "starttls", or another port`})
	case r.TLS == TLSImplicit && (r.Port == 25 || r.Port == 587 || r.Port == 2525):
		d.doubt(at.at("tls"), flaw{fmt.Sprintf("servers speak STARTTLS on port %d", r.Port),
			`write tls = "starttls", or port 465`})
	case r.TLS == TLSStartTLS && r.Port == 465:
		d.doubt(at.at("tls"), flaw{"servers speak implicit TLS on port 465", `write tls = "implicit", or port 587`})
	}
	for _, name := range []string{"ca", "pin"} {
		if r.TLS == TLSNone && at.has(name) {
			d.doubt(at.at(name), flaw{`has no effect with tls = "none"`, "remove it"})
		}
	}
}

func (d *decoder) checkRelayLogin(r *Relay, at ref) {
	switch {
	case at.has("username") && !at.has("password"):
		d.wrong(at.at("password"), flaw{"is missing, but there is a username", "write password = " + secretForms})
	case at.has("password") && !at.has("username"):
		d.wrong(at.at("username"), flaw{"is missing, but there is a password", `write username = "relay-user"`})
	case at.has("auth") && !at.has("username"):
		d.doubt(at.at("auth"), flaw{"has no effect without username and password", "add them, or remove it"})
	}
}

// isOurs reports whether the relay is one of our own listeners.
func (d *decoder) isOurs(r *Relay) bool {
	address, err := netip.ParseAddr(r.Host)
	return slices.ContainsFunc(d.config.Listen.all(), func(l netip.AddrPort) bool {
		switch {
		case l.Port() != r.Port:
			return false
		case l.Addr().IsUnspecified():
			return isLoopback(r.Host)
		default:
			return err == nil && address == l.Addr() || r.Host == "localhost" && l.Addr().IsLoopback()
		}
	})
}

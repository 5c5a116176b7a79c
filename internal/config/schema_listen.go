package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

func listenSection(v *Listen) section {
	return section{
		name: "listen",
		doc: "Where clients reach the proxy. In enforce mode connections that are redirected arrive here as well, so IPv4 and IPv6 loopback addresses " +
			"must both be listed for each of the three roles then. An empty list closes a role. " +
			"With the packaged service smtpwall.socket and smtpwall-admin.socket open these sockets, and must list the same addresses.",
		fields: []field{
			{
				name:    "submission",
				binding: listeners(&v.Submission, 587),
				doc:     "Submission with STARTTLS.",
			}, {
				name:    "submissions",
				binding: listeners(&v.Submissions, 465),
				doc:     "Submission with implicit TLS.",
			}, {
				name:    "alternate",
				binding: listeners(&v.Alternate, 2525),
				doc:     "Submission with STARTTLS on the third, unregistered port.",
			}, {
				name:    "socket",
				binding: text(&v.Socket, "an absolute path", v.Socket, checkSocketPath),
				doc:     "A Unix socket for local programs, and for containers by bind mount; \"\" for none.",
			}, {
				name:    "admin",
				binding: text(&v.Admin, "an absolute path", v.Admin, checkSocketPath),
				doc: "A Unix socket for `smtpwall status`, `smtpwall queue` and `smtpwall hold`; \"\" for none. " +
					"Root and members of its group, smtpwall, may use it: they can read and drop all mail in the spool.",
			}, {
				name:    "containers",
				binding: nothing{"mount the socket of [listen] into the container"},
				doc:     "Bridges whose containers are served.",
			}, {
				name:    "auth_without_tls",
				binding: truth(&v.AuthWithoutTLS),
				doc:     "Whether clients may log in before TLS is on.",
			},
		},
	}
}

// listeners binds the addresses of one role.
func listeners(into *[]netip.AddrPort, port int) binding {
	return list[netip.AddrPort]{into, false, "address:port", fmt.Sprintf("\"127.0.0.1:%d\"", port), parseListener,
		func(address netip.AddrPort) string { return quote(address.String()) }}
}

func firewallSection(v *Firewall) section {
	return section{
		name: "firewall",
		doc:  "What becomes of connections to other hosts in enforce mode. Loopback and the host's own addresses are always left alone.",
		fields: []field{
			{
				name: "port25",
				binding: enum[Port25]{&v.Port25, []option{
					{word: "reject", doc: "a TCP reset at once"},
					{word: "explain", later: true}, {word: "redirect", later: true},
				}},
				doc: "Port 25, direct-to-MX.",
			}, {
				name: "submission_ports",
				binding: enum[SubmissionPorts]{&v.SubmissionPorts, []option{
					{word: "redirect", doc: "to our listener of the same role"},
					{word: "reject", doc: "a TCP reset at once"},
					{word: "explain", later: true},
				}},
				doc: "Ports 465, 587 and 2525.",
			}, {
				name: "any_port",
				binding: enum[AnyPort]{&v.AnyPort, []option{
					{word: "off", doc: "they are left alone"},
					{word: "log", later: true}, {word: "reject", later: true},
				}},
				doc: "SMTP on other ports.",
			}, {
				name: "dns_answers",
				binding: enum[DNSAnswers]{&v.DNSAnswers, []option{
					{word: "note", doc: "the proxy is told the answers that come to this host, so that a client that names no server in its TLS handshake is shown a certificate for the name that it looked up"},
					{word: "ignore", doc: "nobody looks at them, and such a client is shown the host's certificate"},
				}},
				doc: "The answers to the host's own look-ups, in enforce mode with submission_ports = \"redirect\".",
			}, {
				name: "inside",
				binding: list[netip.Prefix]{&v.Inside, false, "a network", `"172.18.0.0/16"`, parseInside,
					func(network netip.Prefix) string { return quote(network.String()) }},
				doc: "Networks behind this host whose own mail ports are not outside: forwarded traffic to them is left alone. Name the " +
					"network of a container that takes mail from elsewhere, or a published port 25 stays closed. What comes from " +
					"these networks is treated as ever.",
			},
		},
		sections: []section{allowSection()},
	}
}

func allowSection() section {
	return section{
		name:  "firewall.allow",
		shape: repeated,
		doc: "A direct connection that is left alone, and counted: exactly one of user, uid, group and unit says whose. " +
			"It has no effect while that identity is suspended.",
		fields: allowFields(&AllowEntry{}),
		open: func(d *decoder, _ string, at ref) []field {
			d.config.Firewall.Allow = append(d.config.Firewall.Allow, AllowEntry{})
			d.allows = append(d.allows, at)
			return allowFields(&d.config.Firewall.Allow[len(d.config.Firewall.Allow)-1])
		},
	}
}

func allowFields(a *AllowEntry) []field {
	return []field{
		{
			name:    "user",
			binding: text(&a.User, "a user's name", "postfix", checkPlainName),
			doc:     "The user whose processes may connect. No pattern, and not for processes in containers.",
			example: `"postfix"`,
		}, {
			name:    "uid",
			binding: uidBinding{&a.UID},
			doc:     "The number of that user.",
			instead: true,
		}, {
			name:    "group",
			binding: text(&a.Group, "a group's name", "postfix", checkPlainName),
			doc:     "The group that the processes which may connect run with, not one that their user merely belongs to.",
			instead: true,
		}, {
			name:    "unit",
			binding: text(&a.Unit, "a unit's full name", "postfix@-.service", checkUnitName),
			doc:     "The systemd unit whose processes may connect.",
			instead: true,
		}, {
			name:    "destination",
			binding: destinationBinding{a},
			doc:     "Where to, host:port, address:port or network:port; the port is 25, 465, 587 or 2525. A host name is looked up as those of the relays are.",
			example: `"smtp.gmail.com:587"`,
		}, {
			name:    "until",
			binding: moment(&a.Until),
			doc:     "When this ends. By default never.",
			example: "2037-01-31T00:00:00Z",
		},
	}
}

// addressBinding binds a relay's host and port, which are one key.
type addressBinding struct{ relay *Relay }

func (b addressBinding) decode(d *decoder, at place, v *value) {
	if v.kind != kindString {
		d.problem(v.line, at.key, flaw{"must be host:port, not " + v.kind.String(),
			`write address = "smtp.example.com:587"`})
		return
	}
	host, port, err := parseRelayAddress(v.text)
	if err != nil {
		d.problem(v.line, at.key, asFlaw(err))
		return
	}
	b.relay.Host, b.relay.Port = host, port
}

func (b addressBinding) describe() string { return `host:port, or a host alone` }

func (b addressBinding) show() string {
	if b.relay.Host == "" {
		return ""
	}
	if b.relay.Port == 0 {
		return quote(b.relay.Host)
	}
	return quote(net.JoinHostPort(b.relay.Host, strconv.Itoa(int(b.relay.Port))))
}

// destinationBinding binds the destination of an entry, which is two fields.
type destinationBinding struct{ entry *AllowEntry }

const destinationHint = `write destination = "smtp.gmail.com:587", "192.0.2.7:25", "192.0.2.0/24:25" or "[2001:db8::/32]:25"`

func (b destinationBinding) decode(d *decoder, at place, v *value) {
	if v.kind != kindString {
		d.problem(v.line, at.key, flaw{"must be host:port, not " + v.kind.String(), destinationHint})
		return
	}
	host, port, err := parseDestination(v.text)
	if err != nil {
		d.problem(v.line, at.key, asFlaw(err))
		return
	}
	b.entry.Host, b.entry.Port = host, port
}

func (b destinationBinding) describe() string { return `host:port, address:port or network:port` }

func (b destinationBinding) show() string { return "" }

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
				name: "inside",
				binding: list[netip.Prefix]{&v.Inside, false, "a network", `"172.18.0.0/16"`, parseInside,
					func(network netip.Prefix) string { return quote(network.String()) }},
				doc: "Networks behind this host whose own mail ports are not outside: forwarded traffic to them is left alone. Name the " +
					"network of a container that takes mail from elsewhere, or a published port 25 stays closed. What comes from " +
					"these networks is treated as ever.",
			},
		},
		sections: []section{{
			name: "firewall.allow", shape: repeated,
			later: "let the program submit to 127.0.0.1:587 instead, and name its user or unit in a [[policy.rule]]",
		}},
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

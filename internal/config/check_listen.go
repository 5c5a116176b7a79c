package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// all returns every listener's address.
func (l Listen) all() []netip.AddrPort {
	return slices.Concat(l.Submission, l.Submissions, l.Alternate)
}

// role is one list of addresses, with the port that the firewall redirects to
// it.
type role struct {
	key       string
	addresses []netip.AddrPort
	port      uint16
	implicit  bool // TLS from the first byte
}

func (l Listen) roles() []role {
	return []role{
		{"submission", l.Submission, 587, false},
		{"submissions", l.Submissions, 465, true},
		{"alternate", l.Alternate, 2525, false},
	}
}

// Redirects maps each port that is redirected, 587, 465 and 2525, to ours: the
// first of its role that answers on both loopback addresses, where the kernel
// sends what it redirects. A role without such a port is not in the map.
func (l Listen) Redirects() map[uint16]uint16 {
	redirects := make(map[uint16]uint16)
	for _, r := range l.roles() {
		if port := redirectPort(r.addresses); port != 0 {
			redirects[r.port] = port
		}
	}
	return redirects
}

func redirectPort(addresses []netip.AddrPort) uint16 {
	for _, address := range addresses {
		if answers(addresses, 4, address.Port()) && answers(addresses, 6, address.Port()) {
			return address.Port()
		}
	}
	return 0
}

// answers reports whether one of the addresses takes connections to the
// loopback address of an IP version.
func answers(addresses []netip.AddrPort, version int, port uint16) bool {
	loopback, any := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv4Unspecified()
	if version == 6 {
		loopback, any = netip.IPv6Loopback(), netip.IPv6Unspecified()
	}
	return slices.Contains(addresses, netip.AddrPortFrom(loopback, port)) || slices.Contains(addresses, netip.AddrPortFrom(any, port))
}

func (d *decoder) checkListen() {
	l, at := d.config.Listen, d.table("listen")
	if len(l.all()) == 0 && l.Socket == "" {
		d.wrong(at.at("submission"), flaw{"there is no listener at all",
			`write submission = ["127.0.0.1:587", "[::1]:587"]`})
	}
	if l.Admin != "" && l.Admin == l.Socket {
		d.wrong(at.at("admin"), flaw{"is the same path as socket, on which everybody may send mail",
			`write admin = "/run/smtpwall/admin.sock"`})
	}
	d.checkOverlap(at)
	for _, r := range l.roles() {
		for _, address := range r.addresses {
			d.checkRolePort(at.at(r.key), r, address)
			d.checkExposure(at.at(r.key), r, address)
		}
	}
}

// checkOverlap refuses two listeners that the kernel would not bind at one
// time.
func (d *decoder) checkOverlap(at ref) {
	type bound struct {
		key     string
		address netip.AddrPort
	}
	var before []bound
	for _, r := range d.config.Listen.roles() {
		for _, address := range r.addresses {
			i := slices.IndexFunc(before, func(b bound) bool { return overlap(b.address, address) })
			if i >= 0 {
				d.wrong(at.at(r.key), flaw{fmt.Sprintf("%s collides with %s of %s", address, before[i].address, before[i].key),
					"give each listener an address and port of its own"})
			}
			before = append(before, bound{r.key, address})
		}
	}
}

// overlap reports whether both take the same connections.
func overlap(a, b netip.AddrPort) bool {
	if a.Port() != b.Port() || a.Addr().Is4() != b.Addr().Is4() {
		return false
	}
	return a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified()
}

// checkRolePort refuses ports on which clients expect another kind of TLS, or
// another server.
func (d *decoder) checkRolePort(at place, r role, address netip.AddrPort) {
	switch port := address.Port(); {
	case port == 25:
		d.wrong(at, flaw{fmt.Sprintf("%s: port 25 belongs to the server for inbound mail", address),
			fmt.Sprintf("write port %d", r.port)})
	case r.implicit && (port == 587 || port == 2525):
		d.wrong(at, flaw{fmt.Sprintf("%s: clients speak STARTTLS on port %d", address, port),
			"move it to submission or alternate, or write port 465"})
	case !r.implicit && port == 465:
		d.wrong(at, flaw{fmt.Sprintf("%s: clients speak implicit TLS on port 465", address),
			fmt.Sprintf("move it to submissions, or write port %d", r.port)})
	}
}

// checkExposure looks at listeners that other hosts can reach. They are never
// an open relay, since an unknown identity may not send, but may be less than
// was hoped for.
func (d *decoder) checkExposure(at place, r role, address netip.AddrPort) {
	if address.Addr().IsLoopback() {
		return
	}
	if len(d.config.Accounts) == 0 {
		d.doubt(at, flaw{fmt.Sprintf("%s can be reached by other hosts, but nobody there can be identified: there is no [[account]]", address),
			"add accounts, or listen on 127.0.0.1 and [::1] alone"})
	}
	if d.config.Listen.AuthWithoutTLS && !r.implicit {
		d.doubt(at, flaw{fmt.Sprintf("%s can be reached by other hosts, whose passwords may cross the network in clear", address),
			"remove auth_without_tls = true"})
	}
}

// checkRedirect makes sure that what the firewall redirects is answered, in
// both address families: a role that answers in one only would make IPv4 and
// IPv6 differ.
func (d *decoder) checkRedirect() {
	if d.config.Mode != Enforce || d.config.Firewall.SubmissionPorts != SubmissionRedirect {
		return
	}
	for _, r := range d.config.Listen.roles() {
		if redirectPort(r.addresses) == 0 {
			d.wrong(d.table("listen").at(r.key), flaw{
				fmt.Sprintf("must answer on both loopback addresses and one port, because connections to port %d of other hosts are redirected to it", r.port),
				fmt.Sprintf(`write %s = ["127.0.0.1:%d", "[::1]:%d"], or submission_ports = "reject" in [firewall]`, r.key, r.port, r.port)})
		}
	}
}

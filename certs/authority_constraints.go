package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
)

// maxConstraints keeps the root small enough for whoever reads it.
const maxConstraints = 256

// constraints are domains and networks of name constraints (RFC 5280, section 4.2.1.10).
type constraints struct {
	names    []string // in lower case; each stands for all names below it too
	networks []netip.Prefix
}

// parseConstraints reads what the administrator lists, and reports every wrong entry at once.
func parseConstraints(configured []string) (constraints, error) {
	var c constraints
	var errs []error
	if len(configured) > maxConstraints {
		errs = append(errs, fmt.Errorf("%d names for the local CA, at most %d are possible", len(configured), maxConstraints))
	}
	for _, entry := range configured {
		if err := c.parse(entry); err != nil {
			errs = append(errs, fmt.Errorf("name %q for the local CA: %w", entry, err))
		}
	}
	return c, errors.Join(errs...)
}

func (c *constraints) parse(entry string) error {
	if strings.HasPrefix(entry, "*.") || strings.HasPrefix(entry, ".") {
		return fmt.Errorf("a domain stands for all names below it: write %q", strings.TrimLeft(entry, "*."))
	}
	if address, err := netip.ParseAddr(entry); err == nil {
		c.addNetwork(singleAddress(address))
		return nil
	}
	if network, err := netip.ParsePrefix(entry); err == nil {
		if network != network.Masked() {
			return fmt.Errorf("bits are set beyond the network: write %q", network.Masked())
		}
		if network.Addr().Is4In6() {
			return errors.New("write an IPv4 network as such")
		}
		c.addNetwork(network)
		return nil
	}
	name, err := hostName(entry)
	if err != nil {
		return fmt.Errorf("neither a domain nor a network: %w", err)
	}
	c.addName(name)
	return nil
}

// rootConstraints are those of a root, which need not be ours.
func rootConstraints(names []string, networks []*net.IPNet) constraints {
	var c constraints
	for _, name := range names {
		c.names = append(c.names, lowerASCII(name))
	}
	for _, network := range networks {
		address, ok := netip.AddrFromSlice(network.IP)
		if bits, _ := network.Mask.Size(); ok {
			c.networks = append(c.networks, netip.PrefixFrom(address, bits))
		}
	}
	return c
}

func (c constraints) empty() bool { return len(c.names) == 0 && len(c.networks) == 0 }

func (c *constraints) addName(name string) {
	if !c.coversName(name) {
		c.names = append(c.names, name)
	}
}

func (c *constraints) addNetwork(network netip.Prefix) {
	if !c.coversNetwork(network) {
		c.networks = append(c.networks, network)
	}
}

// addHost adds what the host needs itself. A wildcard is within its domain, and no constraint has one.
func (c *constraints) addHost(host subjects) {
	for _, name := range host.names {
		c.addName(strings.TrimPrefix(name, "*."))
	}
	for _, address := range host.addresses {
		c.addNetwork(singleAddress(address))
	}
}

// coversName reports whether name, in lower case, is or lies below a domain of c. A leading dot, which a root that is
// not ours may have, leaves the domain itself out; an empty domain covers every name. So do verifiers read it.
func (c constraints) coversName(name string) bool {
	return slices.ContainsFunc(c.names, func(domain string) bool {
		rest, below := strings.CutSuffix(name, domain)
		return below && (domain == "" || rest == "" || strings.HasSuffix(rest, ".") || domain[0] == '.' && rest != "")
	})
}

func (c constraints) coversNetwork(network netip.Prefix) bool {
	return slices.ContainsFunc(c.networks, func(have netip.Prefix) bool {
		return have.Bits() <= network.Bits() && have.Contains(network.Addr())
	})
}

// singleAddress is the network of one address.
func singleAddress(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	return netip.PrefixFrom(address, address.BitLen())
}

// String lists c for people.
func (c constraints) String() string {
	list := slices.Clone(c.names)
	for _, network := range c.networks {
		list = append(list, network.String())
	}
	return strings.Join(list, ", ")
}

// constrain puts c into the template of a root. Verifiers read each form of name for itself, so a root that permits
// domains alone would certify any address; the host's loopback addresses see to it that none does.
func (c constraints) constrain(template *x509.Certificate) {
	template.PermittedDNSDomainsCritical = true // RFC 5280: conforming CAs MUST mark it so; it is of the whole extension
	template.PermittedDNSDomains = c.names
	for _, network := range c.networks {
		template.PermittedIPRanges = append(template.PermittedIPRanges, &net.IPNet{
			IP:   network.Addr().AsSlice(),
			Mask: net.CIDRMask(network.Bits(), network.Addr().BitLen()),
		})
	}
}

// permitsName reports whether verifiers accept name, in lower case, in a certificate of this CA. Some refuse a wildcard
// for what is excluded below it.
func (a *authority) permitsName(name string) bool {
	if domain, wildcard := strings.CutPrefix(name, "*."); wildcard {
		below := constraints{names: []string{domain}}
		if slices.ContainsFunc(a.excluded.names, below.coversName) {
			return false
		}
	}
	return (len(a.permitted.names) == 0 || a.permitted.coversName(name)) && !a.excluded.coversName(name)
}

func (a *authority) permitsAddress(address netip.Addr) bool {
	network := singleAddress(address)
	return (len(a.permitted.networks) == 0 || a.permitted.coversNetwork(network)) && !a.excluded.coversNetwork(network)
}

// certifiable returns what of s the root permits. One name that it does not makes verifiers refuse the certificate for
// all the others too.
func (a *authority) certifiable(s subjects) subjects {
	var left subjects
	for _, name := range s.names {
		if a.permitsName(name) {
			left.addName(name)
		}
	}
	for _, address := range s.addresses {
		if a.permitsAddress(address) {
			left.addAddress(address)
		}
	}
	return left
}

// condition says how the root's constraints differ from what names ask for, and what to do; it is empty where they
// agree. The host's own names and addresses belong to what is asked for. Addresses that were the host's once, and may
// be again, make no difference.
func (a *authority) condition(names []string) string {
	asked, err := parseConstraints(names)
	if err != nil {
		return "" // Options.Validate says it
	}
	var differs string
	switch {
	case asked.empty() && a.permitted.empty() && a.excluded.empty():
	case asked.empty():
		differs = "signs only for " + a.describeConstraints() + ", and ca_names asks for no constraint"
	case a.permitted.empty():
		differs = "signs for any name, and ca_names asks for " + asked.String()
	default:
		differs = a.difference(asked)
	}
	if missing := a.hostNamesLeftOut(); len(missing) > 0 {
		if differs != "" {
			differs += "; it "
		}
		differs += "does not permit the host's name " + strings.Join(missing, ", ")
	}
	if differs == "" {
		return ""
	}
	return fmt.Sprintf("the local CA %s; it is used as it is: to have another made, move %s away, restart smtpwall, and run "+
		"`smtpwall trust install` again wherever the old one is trusted", differs, a.directory)
}

// difference compares two sets of constraints, neither of them empty, by what they cover.
func (a *authority) difference(asked constraints) string {
	var missing, beyond constraints
	for _, name := range asked.names {
		if !a.permitsName(name) {
			missing.addName(name)
		}
	}
	for _, network := range asked.networks {
		if len(a.permitted.networks) > 0 && !a.permitted.coversNetwork(network) || a.excluded.coversNetwork(network) {
			missing.addNetwork(network)
		}
	}
	asked.addHost(a.host)
	for _, name := range a.permitted.names {
		if !asked.coversName(name) {
			beyond.addName(name)
		}
	}
	for _, network := range a.permitted.networks {
		if !network.IsSingleIP() && !asked.coversNetwork(network) {
			beyond.addNetwork(network)
		}
	}
	var parts []string
	if len(a.permitted.names) == 0 {
		parts = append(parts, "permits every domain")
	}
	if len(a.permitted.networks) == 0 {
		parts = append(parts, "permits every address")
	}
	if !missing.empty() {
		parts = append(parts, "does not permit "+missing.String()+" of ca_names")
	}
	if !beyond.empty() {
		parts = append(parts, "permits "+beyond.String()+" beside ca_names")
	}
	return strings.Join(parts, " and ")
}

func (a *authority) describeConstraints() string {
	switch {
	case a.permitted.empty():
		return "what is not below " + a.excluded.String()
	case a.excluded.empty():
		return a.permitted.String()
	default:
		return a.permitted.String() + " without " + a.excluded.String()
	}
}

func (a *authority) hostNamesLeftOut() []string {
	return slices.DeleteFunc(slices.Clone(a.host.names), a.permitsName)
}

// certifiableHost is what the host's certificate is for. What the root does not permit is left out, and that is logged:
// addresses come and go, so they make no condition.
func (a *authority) certifiableHost(logger *zap.Logger) subjects {
	host := a.certifiable(a.host)
	for _, address := range a.host.addresses {
		if !a.permitsAddress(address) {
			logger.Warn("the local CA does not permit an address of the host, and its certificate is not for it; "+
				"list the address's network in ca_names before the next CA is made",
				zap.Stringer(logfields.Address, address), zap.String("issuer", a.name()))
		}
	}
	return host
}

package plan

import (
	"net/netip"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// Firewall is what enforcing does to connections, as the configuration says.
type Firewall struct {
	// Redirect are the submission ports whose connections go to a listener of
	// ours; those to the others are refused.
	Redirect map[uint16]bool
	// Inside are networks behind this host, of which forwarded connections are
	// left alone.
	Inside []netip.Prefix
	Allow  []AllowEntry
}

// AllowEntry is one [[firewall.allow]]: connections that are left alone.
type AllowEntry struct {
	Who  func(*Identity) bool
	To   []netip.Prefix
	Port uint16
	Text string // as people know it
}

// The ports that the rules watch.
const (
	portSMTP        = 25
	portSubmissions = 465
	portSubmission  = 587
	portAlternate   = 2525
)

// fate is what becomes of a connection of somebody.
func (f *Firewall) fate(id *Identity, e *audit.Event, forwarded bool) (fate Fate, by string) {
	to := netip.AddrPortFrom(e.Destination.Addr().Unmap(), e.Destination.Port())
	switch {
	case !to.IsValid(): // it was not told apart: what the rules said then
		if e.Outcome == audit.OutcomeWouldRedirect || e.Outcome == audit.OutcomeRedirected {
			return Redirect, ""
		}
		return Refuse, ""
	case forwarded:
		if contains(f.Inside, to.Addr()) {
			return Allow, "firewall.inside"
		}
		return Refuse, ""
	}
	for i := range f.Allow {
		if entry := &f.Allow[i]; entry.Port == to.Port() && contains(entry.To, to.Addr()) && entry.Who(id) {
			return Allow, entry.Text
		}
	}
	if f.Redirect[to.Port()] {
		return Redirect, ""
	}
	return Refuse, ""
}

func contains(prefixes []netip.Prefix, address netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}

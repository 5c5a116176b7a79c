package config

import (
	"fmt"
	"net/netip"
	"time"
)

// checkAllows checks [[firewall.allow]].
func (d *decoder) checkAllows() {
	seen := make(map[AllowEntry]int)
	for i := range d.config.Firewall.Allow {
		entry, at := &d.config.Firewall.Allow[i], d.allows[i]
		d.checkWho(at)
		if !at.has("destination") {
			d.wrong(at.at("destination"), flaw{"is missing", destinationHint})
		}
		d.checkDestination(entry, at)
		d.checkUsers(at.at("user"), given(entry.User))
		d.checkGroups(at.at("group"), given(entry.Group))
		d.checkUnits(at.at("unit"), given(entry.Unit))
		if now := d.options.Now; !now.IsZero() && !entry.Until.IsZero() && !now.Before(entry.Until) {
			d.doubt(at.at("until"), flaw{"has passed: this entry lets nothing through any more", "remove the entry"})
		}
		if !entry.complete() {
			continue
		}
		same := *entry
		same.Until = time.Time{}
		if first, twice := seen[same]; twice {
			d.wrong(at.at(""), flaw{fmt.Sprintf("the same entry was already given in line %d", first), "keep one of the two"})
		}
		seen[same] = at.table.line
	}
}

// complete reports whether the entry says who may connect where.
func (a *AllowEntry) complete() bool {
	return a.Host != "" && (a.User != "" || a.UID != "" || a.Group != "" || a.Unit != "")
}

// given returns a list of one name, or of none.
func given(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// checkWho wants one identity, no more and no less.
func (d *decoder) checkWho(at ref) {
	first := ""
	for _, key := range []string{"user", "uid", "group", "unit"} {
		switch {
		case !at.has(key):
		case first != "":
			d.wrong(at.at(key), flaw{fmt.Sprintf("there is %s already, and an entry has only one of them", first),
				"make an entry for each, or remove one"})
		default:
			first = key
		}
	}
	if first == "" {
		d.wrong(at.at(""), flaw{"does not say who may connect", `write user = "postfix", or uid, group or unit`})
	}
}

// checkDestination warns of destinations that are too wide, or need no entry.
func (d *decoder) checkDestination(entry *AllowEntry, at ref) {
	network, err := netip.ParsePrefix(entry.Host)
	if err == nil && network.Bits() < shortest(network.Addr()) {
		servers := "every server"
		if network.Bits() > 0 {
			servers = "each of the many servers of " + network.String()
		}
		d.doubt(at.at("destination"), flaw{fmt.Sprintf("%s can be reached on port %d, past every check", servers, entry.Port),
			"name the servers, or let the program submit to 127.0.0.1:587 instead"})
	}
	if isLoopback(entry.Host) || err == nil && network.Addr().IsLoopback() {
		d.doubt(at.at("destination"), flaw{"this host itself is left alone anyway", "remove the entry"})
	}
}

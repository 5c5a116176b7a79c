package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checkExpects checks [[expect]]. Nothing here stops the service, which does not
// try the cases: only what says no case at all is an error.
func (d *decoder) checkExpects() {
	var names []string
	for _, rule := range d.config.Policy.Rules {
		names = append(names, rule.Name)
	}
	for i := range d.config.Expects {
		expect, at := &d.config.Expects[i], d.expects[i]
		if !at.has("from") {
			d.wrong(at.at("from"), flaw{"is missing", `write from = "shop@example.com", or "<>" for the null reverse-path`})
		}
		if !at.has("decision") {
			d.wrong(at.at("decision"), flaw{"is missing", `write decision = "allow" or "deny"`})
		}
		if at.has("as") && at.has("uid") {
			d.wrong(at.at("uid"), flaw{"there is as already", "keep one of the two"})
		}
		if expect.Rule != "" && !slices.Contains(names, expect.Rule) {
			d.doubt(at.at("rule"), flaw{fmt.Sprintf("there is no rule %q, so this case fails", expect.Rule),
				meant(expect.Rule, names, "name a rule that there is, or remove it")})
		}
		d.checkUsers(at.at("as"), given(expect.User))
		d.checkUnits(at.at("unit"), given(expect.Unit))
		d.checkAccountNames(at.at("account"), given(expect.Account))
	}
}

// checkFilters checks [[filter]].
func (d *decoder) checkFilters() {
	seen := make(map[string]int)
	for i, filter := range d.config.Filters {
		at := d.filters[i]
		if !at.has("name") {
			d.wrong(at.at("name"), flaw{"is missing", `write name = "rspamd"; events tell it`})
		}
		if !at.has("milter") {
			d.wrong(at.at("milter"), flaw{"is missing", milterHint})
		}
		if first, twice := seen[filter.Name]; twice && filter.Name != "" {
			d.wrong(at.at("name"), flaw{fmt.Sprintf("filter %q was already given in line %d", filter.Name, first),
				"give each filter a name of its own"})
		}
		seen[filter.Name] = at.at("name").line
		d.checkMilter(filter, at.at("milter"))
	}
}

// firstOpenPort is the first that everybody may listen on, ip(7).
const firstOpenPort = 1024

// checkMilter looks at where a filter is: the protocol has no TLS, and nothing
// tells one filter from another but its address.
func (d *decoder) checkMilter(filter Filter, at place) {
	if filter.Network == "unix" && (filter.Address == d.config.Listen.Socket || filter.Address == d.config.Listen.Admin) {
		d.wrong(at, flaw{"is one of our own listeners", milterHint})
	}
	if shared := d.options.machine().Shared; filter.Network == "unix" && shared != nil && shared(filepath.Dir(filter.Address)) {
		d.doubt(at, flaw{fmt.Sprintf("any user can take the place of %s while the filter is down, and read and change all mail", filter.Address),
			"put it into a directory that only the filter's user can write, as /run/rspamd"})
	}
	host, port, err := net.SplitHostPort(filter.Address)
	if filter.Network != "tcp" || err != nil {
		return
	}
	if address, err := netip.ParseAddrPort(filter.Address); err == nil &&
		slices.ContainsFunc(d.config.Listen.all(), func(l netip.AddrPort) bool { return overlap(l, address) }) {
		d.wrong(at, flaw{"is one of our own listeners", milterHint})
		return
	}
	switch number, _ := strconv.Atoi(port); {
	case isLoopback(host) && number >= firstOpenPort:
		d.doubt(at, flaw{fmt.Sprintf("any user can take port %s while the filter is down, and read and change all mail", port),
			`let it listen on a socket of its own: milter = "unix:/run/rspamd/milter.sock"`})
	case !isLoopback(host):
		d.doubt(at, flaw{fmt.Sprintf("messages cross the network to %s in clear", host), "run the filter on this host, or make sure that the way there is safe"})
	}
}

// checkAlerts checks [[alert]].
func (d *decoder) checkAlerts() {
	for i, alert := range d.config.Alerts {
		at := d.alerts[i]
		switch {
		case at.has("exec") && at.has("webhook"):
			d.wrong(at.at("webhook"), flaw{"there is exec already, and an alert has only one of them", "make an [[alert]] for each"})
		case !at.has("exec") && !at.has("webhook"):
			d.wrong(at.at(""), flaw{"does not say how to tell", `write exec = ["/usr/local/bin/alert"], or webhook and secret`})
		case at.has("webhook") && !at.has("secret"):
			d.wrong(at.at("secret"), flaw{"is missing, so nobody could tell our alerts from another's", "write secret = " + secretForms})
		}
		d.checkAlertKeys(alert, at)
		if len(alert.Exec) > 0 {
			d.checkProgram(at.at("exec"), alert.Exec[0])
		}
	}
}

// checkAlertKeys looks for keys that have no use.
func (d *decoder) checkAlertKeys(alert Alert, at ref) {
	for _, key := range []string{"secret", "ca"} {
		if at.has("exec") && at.has(key) {
			d.doubt(at.at(key), flaw{"has no effect with exec", "remove it"})
		}
	}
	if at.has("ca") && strings.HasPrefix(alert.Webhook, "http:") {
		d.doubt(at.at("ca"), flaw{"has no effect with http", "remove it"})
	}
	if at.has("events") && len(at.table.member("events").value.items) == 0 && !d.blames(at.at("events")) {
		d.wrong(at.at("events"), flaw{"is an empty list, so nobody would be told anything", "remove it for all events"})
	}
}

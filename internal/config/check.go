package config

import (
	"fmt"
	"slices"
	"strings"
)

// check looks at what no single key can tell, once every key was read.
func (d *decoder) check() {
	d.checkHost()
	for i := range d.config.Relays {
		d.checkRelay(&d.config.Relays[i], d.relays[i])
	}
	d.checkDelivery()
	d.checkListen()
	d.checkRedirect()
	d.checkAllows()
	d.checkCertificates()
	d.checkAccounts()
	d.checkPolicy()
	d.checkExpects()
	d.checkFilters()
	d.checkAlerts()
	d.checkSession()
}

// wrong and doubt report an error and a warning at a key.
func (d *decoder) wrong(at place, f flaw) { d.problem(at.line, at.key, f) }
func (d *decoder) doubt(at place, f flaw) { d.warn(at.line, at.key, f) }

func (d *decoder) checkHost() {
	if name := d.config.Host.Name; name != "" && !strings.Contains(name, ".") {
		d.doubt(d.table("host").at("name"), flaw{fmt.Sprintf("%q is not a fully qualified name; relays may refuse it in EHLO", name),
			`write the name with its domain: "` + name + `.example.net"`})
	}
}

// checkDelivery also settles the default order: all relays as in the file.
func (d *decoder) checkDelivery() {
	c, at := d.config, d.table("delivery")
	for _, name := range c.Delivery.Relays {
		d.checkRelayName(at.at("relays"), name)
	}
	switch {
	case !at.has("relays"):
		c.Delivery.Relays = c.relayNames()
	case len(c.Delivery.Relays) == 0 && len(c.Relays) > 0 && !d.blames(at.at("relays")):
		// Messages would be taken that nobody ever delivers.
		d.wrong(at.at("relays"), flaw{"no relay in the list, so a message whose rule names none could not be delivered",
			"name the relays in the order to try, or leave relays out for all of them"})
	}
	for i, relay := range c.Relays {
		named := slices.ContainsFunc(c.Policy.Rules, func(r Rule) bool { return r.Relay == relay.Name })
		if !named && !slices.Contains(c.Delivery.Relays, relay.Name) {
			d.doubt(d.relays[i].at(""), flaw{"nothing uses this relay",
				fmt.Sprintf("add %q to relays of [delivery]", relay.Name)})
		}
	}
	d.checkSpool(at)
}

// checkSpool also settles what one identity may fill where the file does not
// say: half of the spool, but enough for one message.
func (d *decoder) checkSpool(at ref) {
	c := &d.config.Delivery
	d.checkRoom(at.at("spool_max"), c.SpoolMax)
	limit := at.at("spool_max_per_identity")
	if !at.has("spool_max_per_identity") || d.blames(limit) {
		c.SpoolMaxPerIdentity = max(c.SpoolMax/2, d.config.Session.MaxMessage)
		return
	}
	d.checkRoom(limit, c.SpoolMaxPerIdentity)
	if c.SpoolMaxPerIdentity > c.SpoolMax {
		d.doubt(limit, flaw{fmt.Sprintf("%s has no effect: spool_max is %s", formatSize(c.SpoolMaxPerIdentity), formatSize(c.SpoolMax)),
			"lower it, or raise spool_max"})
	}
}

// checkRoom refuses a limit that one message could never pass.
func (d *decoder) checkRoom(at place, room int64) {
	if message := d.config.Session.MaxMessage; room < message {
		d.wrong(at, flaw{fmt.Sprintf("%s is less than one message may have (max_message = %q)", formatSize(room), formatSize(message)),
			"raise " + lastPart(at.key) + ", or lower max_message of [session]"})
	}
}

// checkRelayName reports a relay that does not exist.
func (d *decoder) checkRelayName(at place, name string) {
	names := d.config.relayNames()
	if name != "" && !slices.Contains(names, name) {
		d.wrong(at, flaw{fmt.Sprintf("there is no relay %q", name),
			meant(name, names, "write a table [relay."+name+"]")})
	}
}

// relayNames returns the names of all relays in the file's order.
func (c *Config) relayNames() []string {
	var names []string
	for _, relay := range c.Relays {
		names = append(names, relay.Name)
	}
	return names
}

func (d *decoder) checkSession() {
	at, c := d.table("session"), d.config.Session
	if c.MaxRecipients < 100 {
		d.doubt(at.at("max_recipients"), flaw{"RFC 5321 section 4.5.3.1.8 asks for 100 recipients at least; clients may not expect less",
			"write max_recipients = 100 or more"})
	}
	if c.MaxSessionsPerPeer > c.MaxSessions {
		d.doubt(at.at("max_sessions_per_peer"), flaw{fmt.Sprintf("%d has no effect: max_sessions is %d", c.MaxSessionsPerPeer, c.MaxSessions),
			"lower it, or raise max_sessions"})
	}
}

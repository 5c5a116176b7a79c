package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// noSuch warns of a name that nobody has, and offers the nearest of names.
func (d *decoder) noSuch(at place, what, name string, names []string) {
	d.doubt(at, flaw{fmt.Sprintf("there is no "+what, name),
		meant(name, names, "check the spelling; until there is one, this matches nobody")})
}

// literal reports whether a pattern stands for one name alone.
func literal(pattern string) bool { return !strings.ContainsAny(pattern, "*?") }

// checkUsers warns of users that the host does not have. What has a wildcard may
// well be for those to come.
func (d *decoder) checkUsers(at place, names []string) {
	users := d.options.machine().Users
	for _, name := range names {
		if _, known := users[name]; users != nil && literal(name) && !known {
			d.noSuch(at, "user %q on this host", name, slices.Sorted(maps.Keys(users)))
		}
	}
}

func (d *decoder) checkGroups(at place, names []string) {
	groups := d.options.machine().Groups
	for _, name := range names {
		if groups != nil && literal(name) && !slices.Contains(groups, name) {
			d.noSuch(at, "group %q on this host", name, groups)
		}
	}
}

func (d *decoder) checkAccountNames(at place, names []string) {
	var accounts []string
	for _, account := range d.config.Accounts {
		accounts = append(accounts, account.Name)
	}
	for _, name := range names {
		if literal(name) && !slices.Contains(accounts, name) {
			d.noSuch(at, "[[account]] %q", name, accounts)
		}
	}
}

// checkUnits warns of units that the host does not have, or whose processes are
// said to be in another. Only services stand still enough to ask.
func (d *decoder) checkUnits(at place, names []string) {
	machine := d.options.machine()
	for _, name := range names {
		switch primary, known := machine.unit(name); {
		case !literal(name):
		case !strings.Contains(name, "."):
			d.doubt(at, flaw{fmt.Sprintf("%q is not the full name of a unit", name), "write " + quote(name+".service")})
		case machine.Units == nil || !strings.HasSuffix(name, ".service"):
		case !known:
			d.noSuch(at, "unit %q on this host", name, machine.services(name))
		case primary != name:
			d.doubt(at, flaw{fmt.Sprintf("%q is another name of unit %q, which its processes are in", name, primary),
				"write " + quote(primary)})
		}
	}
}

// checkContainers warns of the short form of ids that people see.
func (d *decoder) checkContainers(at place, names []string) {
	for _, name := range names {
		if len(name) == 12 && strings.Trim(name, "0123456789abcdef") == "" {
			d.doubt(at, flaw{fmt.Sprintf("%q is the beginning of a container's id, which has 64 digits", name),
				"write " + quote(name+"*")})
		}
	}
}

// checkContradiction warns of attributes that nobody has together.
func (d *decoder) checkContradiction(m Match, match ref) {
	if len(m.Container) > 0 && m.onHost() {
		d.doubt(match.at("container"), flaw{fmt.Sprintf("matches nobody: no process of %q is in a container", m.Unit[0]),
			"remove unit or container, or make two rules"})
	}
	users := d.options.machine().Users
	if len(m.User) == 0 || len(m.UID) == 0 {
		return
	}
	for _, name := range m.User {
		uid, known := users[name]
		if !known || slices.Contains(m.UID, uid) {
			return // somebody may match
		}
	}
	d.doubt(match.at("uid"), flaw{fmt.Sprintf("matches nobody: user %q has uid %s", m.User[0], users[m.User[0]]),
		"remove user or uid, or make two rules"})
}

package rules

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Allow is one kind of direct connection that is left alone: of local processes
// of one owner to one port of some networks.
type Allow struct {
	// Name tells the entry from others in the names of its counter, sets and
	// chains: lower-case letters, digits and underscores.
	Name string `json:"name"`
	// Owner is SKUID or SKGID, then ID is the user or the effective group; or
	// CGroup0, then CGroups are the ids of the control groups, at levels 1 to 5,
	// whose processes and those below are meant. None may be there just now.
	Owner   Field    `json:"owner"`
	ID      uint32   `json:"id"`
	CGroups []uint64 `json:"cgroups,omitempty"`
	// Networks are the destinations. None may be known just now.
	Networks []netip.Prefix `json:"networks,omitempty"`
	Port     uint16         `json:"port"` // 25, 465, 587 or 2525
}

// Suspended are owners for whom no Allow counts.
type Suspended struct {
	UIDs []uint32 `json:"uids,omitempty"`
	// Ranges are further uids, in order and apart from each other.
	Ranges  []UIDRange `json:"ranges,omitempty"`
	CGroups []uint64   `json:"cgroups,omitempty"` // at levels 1 to 5, with all below them
}

// UIDRange is the uids from First to Last.
type UIDRange struct {
	First uint32 `json:"first"`
	Last  uint32 `json:"last"`
}

// CounterAllow, followed by the Name of an Allow, is its counter in Table: of
// opening packets that were left alone.
const CounterAllow = "allow_"

// Sets of the entries, each followed by the entry's Name: addresses and ports of
// its destinations, and its control groups.
const (
	SetAllow4 = "allow4_"
	SetAllow6 = "allow6_"
	setUnit   = "unit_"
)

// Sets of those for whom entries do not count: the suspended, and containers,
// for whom entries of users and groups do not, since a uid in a container is
// none of the host's users.
const (
	SetSuspendedUID    = "suspended_uid"
	SetSuspendedRange  = "suspended_range"
	SetSuspendedCGroup = "suspended_cgroup"
	SetContainers      = "containers"
)

// nobody is the uid that no socket has. A comparison with it finds out whether a
// packet has an owner: without one it ends the rule.
const nobody = math.MaxUint32

// passage is how the chains of the entries are called in one place, and what
// they do there.
type passage struct {
	entry, users, each, pass string
	counted                  bool // pass chains count
	whole                    bool // all packets come here, not only opening ones
}

func filterPassage(counted bool) passage {
	return passage{entry: "allowed", users: "allowed_users", each: "allow_", pass: "pass_", counted: counted, whole: true}
}

// natPassage sees the first packet of a connection, once more than the filter.
func natPassage() passage {
	return passage{entry: "spared", users: "spared_users", each: "spare_"}
}

func (o Options) allows() bool { return len(o.Allow) > 0 }

// jumpAllowed looks for an entry before anybody is refused or redirected.
func (o Options) jumpAllowed(p passage) []Rule {
	if !o.allows() {
		return nil
	}
	return []Rule{{In{[]Field{TCPDPort}, SetMail}, Verdict{Jump, p.entry}}}
}

// chains are those of the entries. What they do not let pass returns.
func (p passage) chains(o Options) []Chain {
	if !o.allows() {
		return nil
	}
	var chains []Chain
	entry := Chain{Name: p.entry, Rules: append([]Rule{
		// Neither by its group nor by its unit does the proxy get further.
		{Is{Field: SKUID, Value: o.ProxyUID}, Verdict{Action: Return}},
		{In{[]Field{SKUID}, SetSuspendedUID}, Verdict{Action: Return}},
		{InRanges{SKUID, SetSuspendedRange}, Verdict{Action: Return}},
	}, inCGroup(SetSuspendedCGroup, Verdict{Action: Return})...)}
	users := Chain{Name: p.users, Rules: inCGroup(SetContainers, Verdict{Action: Return})}
	for _, a := range o.Allow {
		jump := a.towards(Verdict{Jump, p.each + a.Name})
		if a.Owner == CGroup0 {
			entry.Rules = append(entry.Rules, jump...)
		} else {
			users.Rules = append(users.Rules, jump...)
		}
		chains = append(chains, p.chainsOf(a)...)
	}
	entry.Rules = append(entry.Rules, p.rest(o)...)
	return append(chains, users, entry)
}

// rest is for what no entry of a unit let pass. Packets without an owner cannot
// be judged by one; they cannot open a connection either. The last ones of a
// connection that was let out are among them.
func (p passage) rest(o Options) []Rule {
	if !p.whole {
		return []Rule{{Verdict{Goto, p.users}}}
	}
	rules := []Rule{
		{Is{Field: SKUID, Not: true, Value: nobody}, Verdict{Goto, p.users}},
		{Handshake{SYN}, Verdict{Action: Return}},
	}
	for _, a := range o.Allow {
		rules = append(rules, a.towards(Verdict{Action: Accept})...)
	}
	return rules
}

// chainsOf are the chains of one entry: who may pass, and what then happens.
func (p passage) chainsOf(a Allow) []Chain {
	pass := Verdict{Action: Accept}
	var chains []Chain
	if p.counted {
		pass = Verdict{Goto, p.pass + a.Name}
		chains = append(chains, Chain{Name: p.pass + a.Name, Rules: []Rule{
			{Handshake{SYN}, Count{CounterAllow + a.Name}},
			{Verdict{Action: Accept}},
		}})
	}
	who := []Rule{{Is{Field: a.Owner, Value: a.ID}, pass}}
	if a.Owner == CGroup0 {
		who = inCGroup(setUnit+a.Name, pass)
	}
	return append(chains, Chain{Name: p.each + a.Name, Rules: who})
}

// inCGroup matches sockets in a control group of the set, or below one.
func inCGroup(set string, end Verdict) []Rule {
	var rules []Rule
	for _, level := range []Field{CGroup1, CGroup2, CGroup3, CGroup4, CGroup5} {
		rules = append(rules, Rule{In{[]Field{level}, set}, end})
	}
	return rules
}

// towards matches the destinations of the entry: single addresses by a set,
// networks one by one.
func (a Allow) towards(end Verdict) []Rule {
	rules := []Rule{
		{In{[]Field{IP4Dst, TCPDPort}, SetAllow4 + a.Name}, end},
		{In{[]Field{IP6Dst, TCPDPort}, SetAllow6 + a.Name}, end},
	}
	for _, n := range a.networks() {
		field := IP6Dst
		if n.Addr().Is4() {
			field = IP4Dst
		}
		rules = append(rules, Rule{Within{field, n}, Is{Field: TCPDPort, Value: uint32(a.Port)}, end})
	}
	return rules
}

// networks are those of more than one address. What is everything is two halves:
// no expression compares nothing.
func (a Allow) networks() []netip.Prefix {
	var all []netip.Prefix
	for _, n := range a.Networks {
		switch {
		case n.IsSingleIP():
		case n.Bits() > 0:
			all = append(all, n.Masked())
		case n.Addr().Is4():
			all = append(all, netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1"))
		default:
			all = append(all, netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1"))
		}
	}
	return all
}

// allowSets are those that the chains of the entries look into.
func allowSets(o Options) []Set {
	if !o.allows() {
		return nil
	}
	sets := []Set{
		{Name: SetSuspendedUID, Key: []Field{SKUID}, Elements: idElements(widened(o.Suspended.UIDs))},
		{Name: SetSuspendedRange, Key: []Field{SKUID}, Ranges: true, Elements: rangeElements(o.Suspended.Ranges)},
		{Name: SetSuspendedCGroup, Key: []Field{CGroup0}, Elements: idElements(o.Suspended.CGroups)},
		{Name: SetContainers, Key: []Field{CGroup0}, Elements: idElements(o.Containers)},
	}
	for _, a := range o.Allow {
		v4, v6 := a.elements()
		sets = append(sets,
			Set{Name: SetAllow4 + a.Name, Key: []Field{IP4Dst, TCPDPort}, Elements: v4},
			Set{Name: SetAllow6 + a.Name, Key: []Field{IP6Dst, TCPDPort}, Elements: v6})
		if a.Owner == CGroup0 {
			sets = append(sets, Set{Name: setUnit + a.Name, Key: []Field{CGroup0}, Elements: idElements(a.CGroups)})
		}
	}
	return sets
}

func (a Allow) elements() (v4, v6 []Element) {
	v4, v6 = []Element{}, []Element{}
	for _, n := range a.Networks {
		switch e := (Element{Addr: n.Addr(), Port: a.Port}); {
		case !n.IsSingleIP():
		case e.Addr.Is4():
			v4 = append(v4, e)
		default:
			v6 = append(v6, e)
		}
	}
	return sorted(v4), sorted(v6)
}

func widened(ids []uint32) []uint64 {
	out := make([]uint64, len(ids))
	for i, id := range ids {
		out[i] = uint64(id)
	}
	return out
}

func idElements(ids []uint64) []Element {
	elements := make([]Element, len(ids))
	for i, id := range ids {
		elements[i] = Element{ID: id}
	}
	return sorted(elements)
}

func rangeElements(ranges []UIDRange) []Element {
	elements := make([]Element, len(ranges))
	for i, r := range ranges {
		elements[i] = Element{ID: uint64(r.First), Last: uint64(r.Last)}
	}
	return elements
}

// allowCounters are in the plain table only: the lock sees the same packets.
func allowCounters(o Options) []string {
	var names []string
	for _, a := range o.Allow {
		names = append(names, CounterAllow+a.Name)
	}
	return names
}

func (o Options) validateAllow() error {
	var errs []error
	names := map[string]bool{}
	for _, a := range o.Allow {
		if err := a.validate(o.ProxyUID); err != nil {
			errs = append(errs, fmt.Errorf("what is allowed as %q: %w", a.Name, err))
		}
		if names[a.Name] {
			errs = append(errs, fmt.Errorf("what is allowed as %q is there twice", a.Name))
		}
		names[a.Name] = true
	}
	for _, id := range slices.Concat(o.Suspended.CGroups, o.Containers) {
		if id == 0 {
			errs = append(errs, errors.New("a control group has the id 0"))
		}
	}
	next := uint64(0)
	for _, r := range o.Suspended.Ranges {
		if uint64(r.First) < next || r.Last < r.First || r.Last == nobody {
			errs = append(errs, fmt.Errorf("the uids from %d to %d are no range after those before", r.First, r.Last))
		}
		next = uint64(r.Last) + 2
	}
	return errors.Join(errs...)
}

const maxAllowName = 64

func (a Allow) validate(proxy uint32) error {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789_"
	if a.Name == "" || len(a.Name) > maxAllowName || strings.Trim(a.Name, letters) != "" {
		return errors.New("it has no name for a counter")
	}
	switch {
	case a.Owner == SKUID && a.ID == proxy:
		return errors.New("the proxy may reach the relays and nothing else")
	case a.Owner == SKUID && a.ID == nobody, a.Owner == SKGID && a.ID == nobody:
		return errors.New("nobody has that id")
	case a.Owner != SKUID && a.Owner != SKGID && a.Owner != CGroup0:
		return fmt.Errorf("%q is not an owner", a.Owner)
	case !slices.Contains(mailPorts(), a.Port):
		return fmt.Errorf("port %d is open to all anyway", a.Port)
	case slices.Contains(a.CGroups, 0):
		return errors.New("a control group has the id 0")
	}
	for _, n := range a.Networks {
		if !n.IsValid() || n.Addr().Is4In6() || n != n.Masked() || n.IsSingleIP() && n.Addr().IsUnspecified() {
			return fmt.Errorf("%q is not a network", n)
		}
	}
	return nil
}

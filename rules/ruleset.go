package rules

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Ruleset is one nftables table with all that is in it. Read back from the
// kernel, it may also hold what smtpwall did not put there.
type Ruleset struct {
	Table    string // family inet
	Owned    bool   // flags owner: only the socket that made it may change it
	Counters []string
	Closing  bool // there is the object of that name
	Sets     []Set
	Chains   []Chain
	// Others names what is in the kernel's table and is never wanted: objects
	// of other kinds, or the flag that puts the whole table to sleep.
	Others []string
}

// Set is a named set. A static set has Elements; a dynamic one is filled by
// rules, and its elements are no part of a Ruleset.
type Set struct {
	Name     string
	Key      []Field // the concatenated parts of its key
	Elements []Element
	Dynamic  bool
	Ranges   bool // of ids; in order and apart from each other
	Counter  bool // each element counts its packets
	Timeout  time.Duration
	Size     int // at most so many elements; 0 is no limit
}

// Element is an element of a static set: a port, an address and a port, or the
// id of a user or a control group. In a set of ranges it is the ids up to Last.
type Element struct {
	Addr netip.Addr // invalid in a set of ports or ids
	Port uint16
	ID   uint64
	Last uint64 // 0 unless it is a range
}

// Chain is a chain; Base is nil unless packets enter it from a hook.
type Chain struct {
	Name  string
	Base  *Base
	Rules []Rule
}

// Base ties a chain to a hook.
type Base struct {
	Type     string // filter or nat
	Hook     string // input, output, forward or postrouting
	Priority int
	Policy   string // accept, always: what is not ours is left to others
}

// Rule is a rule, its terms in the order in which they are evaluated.
type Rule []Term

// String returns the rule as nft prints it.
func (r Rule) String() string {
	words := make([]string, len(r))
	for i, t := range r {
		words[i] = t.String()
	}
	return strings.Join(words, " ")
}

// Set returns the set of that name, and whether there is one.
func (r Ruleset) Set(name string) (Set, bool) {
	i := slices.IndexFunc(r.Sets, func(s Set) bool { return s.Name == name })
	if i < 0 {
		return Set{}, false
	}
	return r.Sets[i], true
}

// Chain returns the chain of that name, and whether there is one.
func (r Ruleset) Chain(name string) (Chain, bool) {
	i := slices.IndexFunc(r.Chains, func(c Chain) bool { return c.Name == name })
	if i < 0 {
		return Chain{}, false
	}
	return r.Chains[i], true
}

// WithRelays returns the ruleset with other relays; nothing else differs.
func (r Ruleset) WithRelays(relays []netip.AddrPort) Ruleset {
	listeners, _ := r.Set(SetListeners)
	r.Sets = slices.Clone(r.Sets)
	for i, s := range r.Sets {
		if elements, ok := relayElements(relays, listeners.Elements)[s.Name]; ok {
			r.Sets[i].Elements = elements
		}
	}
	return r
}

// Refuses says whether the ruleset blocks anything, as that of enforce mode
// does and that of observe mode does not.
func (r Ruleset) Refuses() bool {
	_, ok := r.Chain(chainRefuseOut)
	return ok
}

// relayElements returns the elements of the sets that depend on the relays, in
// the order in which nft prints them.
func relayElements(relays []netip.AddrPort, listeners []Element) map[string][]Element {
	ports := append(portElements(mailPorts()), listeners...)
	v4, v6 := []Element{}, []Element{}
	for _, r := range relays {
		addr := r.Addr().Unmap()
		e := Element{Addr: addr, Port: r.Port()}
		if addr.Is4() {
			v4 = append(v4, e)
		} else {
			v6 = append(v6, e)
		}
		ports = append(ports, Element{Port: r.Port()})
	}
	return map[string][]Element{SetPorts: sorted(ports), SetRelay4: sorted(v4), SetRelay6: sorted(v6)}
}

func portElements(ports []uint16) []Element {
	elements := make([]Element, len(ports))
	for i, p := range ports {
		elements[i] = Element{Port: p}
	}
	return elements
}

func sorted(elements []Element) []Element {
	slices.SortFunc(elements, Element.compare)
	return slices.Compact(elements)
}

// compare orders elements as nft prints them: ports by number, and
// concatenations as little-endian numbers, the last byte counting most.
func (e Element) compare(o Element) int {
	if !e.Addr.IsValid() && !o.Addr.IsValid() {
		return cmp.Or(cmp.Compare(e.Port, o.Port), cmp.Compare(e.ID, o.ID), cmp.Compare(e.Last, o.Last))
	}
	return cmp.Or(
		cmp.Compare(swap(e.Port), swap(o.Port)),
		slices.Compare(reversed(e.Addr), reversed(o.Addr)),
	)
}

func swap(p uint16) uint16 { return p<<8 | p>>8 }

func reversed(a netip.Addr) []byte {
	b := a.AsSlice()
	slices.Reverse(b)
	return b
}

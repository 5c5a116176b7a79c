package rules

import (
	"maps"
	"net/netip"
	"slices"
)

// Names of chains. None is a word of nft's own, which could be loaded but not
// be read again from a listing.
const (
	chainNATOut    = "nat_output"
	chainFilterOut = "filter_output"
	chainFilterFwd = "filter_forward"
	chainFilterIn  = "filter_input"
	chainFilterEnd = "filter_postrouting"
	chainListener  = "to_listener"
	chainOutgoing  = "outgoing"
	chainForwarded = "forwarded"
	chainAnswering = "answering"
	chainToRelay   = "to_relay"
	chainLeaving   = "leaving"
	chainHeadless  = "headless"
	chainRefuseOut = "refuse_out"
	chainRefuseFwd = "refuse_fwd"
)

const (
	protoTCP = 6
	// loopbackIndex is the index of lo in every network namespace.
	loopbackIndex = 1
)

// blockChains are the chains that redirect and refuse. Packets to other ports
// pass a set look-up in each of the base chains and nothing else.
func blockChains(o Options, nat, filter int) []Chain {
	filtering := filterPassage(filter == priorityFilter) // counted once, in the plain table
	answers := Rule{Handshake{NotSYN}, Verdict{Jump, chainAnswering}}
	outgoing := append(leaveLocalAlone(o), toLoopback(Verdict{Goto, chainRefuseOut})...)
	outgoing = append(append(outgoing, answers), o.jumpAllowed(filtering)...)
	outgoing = append(outgoing, judge(chainToRelay, chainRefuseOut)...)
	forwarded := append(append(leaveInsideAlone(o), answers), judge(chainRefuseFwd, chainRefuseFwd)...)
	chains := []Chain{
		refuse(chainRefuseOut, CounterOut),
		refuse(chainRefuseFwd, CounterForward),
		answering(),
		toRelay(o.ProxyUID),
		leaving(),
		headless(),
		{Name: chainOutgoing, Rules: outgoing},
		{Name: chainForwarded, Rules: forwarded},
		entry(chainFilterOut, Base{Type: "filter", Hook: "output", Priority: filter}, SetPorts, chainOutgoing),
		wholeOnly(entry(chainFilterFwd, Base{Type: "filter", Hook: "forward", Priority: filter}, SetPorts, chainForwarded)),
		entry(chainFilterEnd, Base{Type: "filter", Hook: "postrouting", Priority: filter}, SetPorts, chainLeaving),
	}
	chains = append(chains, filtering.chains(o)...)
	if o.redirects() {
		chains = append(append(chains, natPassage().chains(o)...), sourceKept(filter), toListener(o),
			entry(chainNATOut, Base{Type: "nat", Hook: "output", Priority: nat}, SetMail, chainListener))
	}
	return chains
}

func blockCounters(o Options) []string {
	counters := []string{CounterOut, CounterForward}
	if o.redirects() {
		counters = append(counters, CounterClash)
	}
	return counters
}

// entry is a base chain: a look-up of the port, and a jump.
func entry(name string, base Base, ports, target string) Chain {
	base.Policy = "accept"
	return Chain{Name: name, Base: &base, Rules: []Rule{
		{In{[]Field{TCPDPort}, ports}, Verdict{Jump, target}},
	}}
}

// refuse resets every packet, not only opening ones, so that a connection that
// was open when the rules came dies at its next packet.
func refuse(name, counter string) Chain {
	return Chain{Name: name, Rules: []Rule{
		{Is{Field: L4Proto, Value: protoTCP}, Count{counter}, Reset{}},
	}}
}

// leaveLocalAlone returns rules that let go of what stays on this host. A
// redirected connection still shows the interface that it was bound for, so its
// new route is looked at too. The destination would not do: a socket that is
// bound to a device, which anybody may ask for, sends packets for loopback
// addresses out by that device.
//
// What was for an address of this host and was translated to another keeps lo as
// its interface, so the destination must be local too, or inside.
func leaveLocalAlone(o Options) []Rule {
	back := Verdict{Action: Return}
	toLocal := Is{Field: OIF, Value: loopbackIndex}
	rules := []Rule{
		{toLocal, LocalDestination{}, back},
		{Within{NextHop4, loopback4()}, back},
		{Within{NextHop6, loopback6()}, back},
	}
	for _, inside := range leaveInsideAlone(o) {
		rules = append(rules, append(Rule{toLocal}, inside...))
	}
	return rules
}

// toLoopback returns rules that end so for packets to loopback addresses.
func toLoopback(end ...Term) []Rule {
	return []Rule{
		append(Rule{Within{IP4Dst, loopback4()}}, end...),
		append(Rule{Within{IP6Dst, loopback6()}}, end...),
	}
}

func loopback4() netip.Prefix { return netip.MustParsePrefix("127.0.0.0/8") }
func loopback6() netip.Prefix { return netip.MustParsePrefix("::1/128") }

// leaving drops what is on its way out to a loopback address by a route without
// a gateway, for which the next hop does not tell. Nothing can be reset here,
// nor the owner's cgroup be asked for.
func leaving() Chain {
	stays := Rule{Is{Field: OIF, Value: loopbackIndex}, Verdict{Action: Return}}
	lost := toLoopback(Count{CounterOut}, Verdict{Action: Drop})
	return Chain{Name: chainLeaving, Rules: append([]Rule{stays}, lost...)}
}

// wholeOnly adds a look at first fragments to the chain where packets are
// forwarded. IPv6 lets extension headers fill the first fragment, and old
// receivers put together what RFC 8200 section 4.5 tells them to refuse. Where
// connections are tracked no fragment gets here.
func wholeOnly(c Chain) Chain {
	c.Rules = append(c.Rules, Rule{FirstFragment{}, Verdict{Jump, chainHeadless}})
	return c
}

// headless drops first fragments that may be TCP and do not show their ports.
// Honest senders make none. An authentication header counts as a protocol of
// its own: only a receiver that shares a key with the sender looks behind it.
func headless() Chain {
	back := Verdict{Action: Return}
	return Chain{Name: chainHeadless, Rules: []Rule{
		{Is{Field: L4Proto, Not: true, Value: protoTCP}, back},
		{Is{Field: TCPDPort, Not: true, Value: 0}, back},
		{Count{CounterForward}, Verdict{Action: Drop}},
	}}
}

func leaveInsideAlone(o Options) []Rule {
	var rules []Rule
	for _, p := range o.Inside {
		field := IP6Dst
		if p.Addr().Is4() {
			field = IP4Dst
		}
		rules = append(rules, Rule{Within{field, p}, Verdict{Action: Return}})
	}
	return rules
}

// judge sends packets to a relay one way and those to other mail ports another.
// A relay on a port that is no mail port has nobody else to be refused there.
func judge(relay, others string) []Rule {
	return []Rule{
		{In{[]Field{IP4Dst, TCPDPort}, SetRelay4}, Verdict{Goto, relay}},
		{In{[]Field{IP6Dst, TCPDPort}, SetRelay6}, Verdict{Goto, relay}},
		{In{[]Field{TCPDPort}, SetMail}, Verdict{Goto, others}},
	}
}

// toRelay lets the proxy's packets pass, and those without an owner: the last
// acknowledgement of a handshake and what follows a close have none. They
// cannot open a connection. Each test of the owner must match on an owner,
// because without one it ends its rule.
func toRelay(proxy uint32) Chain {
	return Chain{Name: chainToRelay, Rules: []Rule{
		{Is{Field: SKUID, Value: proxy}, Verdict{Action: Accept}},
		{Is{Field: SKUID, Not: true, Value: proxy}, Verdict{Goto, chainRefuseOut}},
		{Handshake{NotSYN}, Verdict{Action: Accept}},
		{Verdict{Goto, chainRefuseOut}},
	}}
}

// answering lets packets pass that belong to a connection from outside whose
// source port is a mail port. Connection tracking cannot tell: it takes a
// connection that it meets in the middle for one in the direction of the packet
// that it sees first, so one of ours would pass if the other end spoke first.
// Our own SYN+ACK can tell. No opening packet gets here, so an entry made by a
// stranger opens nothing.
func answering() Chain {
	v4 := []Field{IP4Src, TCPSPort, IP4Dst, TCPDPort}
	v6 := []Field{IP6Src, TCPSPort, IP6Dst, TCPDPort}
	pass := Verdict{Action: Accept}
	return Chain{Name: chainAnswering, Rules: []Rule{
		{Handshake{SYNACK}, Update{SetInbound4, v4, inboundHandshake}, pass},
		{Handshake{SYNACK}, Update{SetInbound6, v6, inboundHandshake}, pass},
		{In{v4, SetInbound4}, Update{Set: SetInbound4, Key: v4}, pass},
		{In{v6, SetInbound6}, Update{Set: SetInbound6, Key: v6}, pass},
	}}
}

// toListener redirects new local connections. Traffic of the proxy goes on to
// the filter, which knows where it may go, and so does that to link-local
// addresses: its sockets are tied to an interface that ::1 is not reached by.
func toListener(o Options) Chain {
	rules := []Rule{
		{Is{Field: OIF, Value: loopbackIndex}, Verdict{Action: Return}},
		{Is{Field: SKUID, Value: o.ProxyUID}, Verdict{Action: Return}},
		{Within{IP6Dst, netip.MustParsePrefix("fe80::/10")}, Verdict{Action: Return}},
	}
	rules = append(rules, o.jumpAllowed(natPassage())...)
	for _, port := range slices.Sorted(maps.Keys(o.Redirect)) {
		rule := Rule{Is{Field: TCPDPort, Value: uint32(port)}}
		if o.setsTimeout() {
			rule = append(rule, SetTimeout{})
		}
		rules = append(rules, append(rule, Redirect{o.Redirect[port]}))
	}
	return Chain{Name: chainListener, Rules: rules}
}

// sourceKept refuses redirected connections whose source port had to be changed:
// two sockets may have the same port towards different places, and are told
// apart no more when both are sent to the same listener. Asking the kernel who
// holds the new port would name somebody else. Packets from outside pass the
// first comparison and nothing else.
func sourceKept(filter int) Chain {
	return Chain{
		Name: chainFilterIn,
		Base: &Base{Type: "filter", Hook: "input", Priority: filter, Policy: "accept"},
		Rules: []Rule{{
			Is{Field: IIF, Value: loopbackIndex},
			In{[]Field{TCPDPort}, SetListeners},
			Renumbered{},
			Count{CounterClash},
			Reset{},
		}},
	}
}

package rules

import (
	"maps"
	"slices"
)

const (
	chainRecordOut = "record_out"
	chainRecordFwd = "record_fwd"
	chainCountOut  = "count_out"
	chainCountFwd  = "count_fwd"
)

// recordRules count a packet by its owner and log some opening ones. The log
// has a rule of its own: beside a verdict, its limit would spare packets.
func recordRules(count, prefix string) []Rule {
	return []Rule{
		{Verdict{Jump, count}},
		{Handshake{SYN}, Limit{LogRate, LogBurst}, Log{Prefix: prefix, Group: LogGroup}},
	}
}

// recordChains fill the sets that attempts are recorded in. A rule that does not
// enter its packet, because its set is full, leaves it to the next.
func recordChains() []Chain {
	out := Chain{Name: chainCountOut}
	for _, to := range []struct {
		set  string
		rest []Field // of the key, after the owner
	}{
		{SetAttempt4, []Field{IP4Dst, TCPDPort}},
		{SetAttempt6, []Field{IP6Dst, TCPDPort}},
		{SetAttemptOwner, nil},
	} {
		// The deepest level at which the socket's cgroup exists wins: deeper ones
		// end their rules.
		for _, level := range []Field{CGroup5, CGroup4, CGroup3, CGroup2, CGroup1, CGroup0} {
			out.Rules = append(out.Rules, recordIn(to.set, append([]Field{SKUID, level}, to.rest...)...))
		}
	}
	out.Rules = append(out.Rules, recordIn(SetAttemptUser, SKUID))
	forward := Chain{Name: chainCountFwd, Rules: []Rule{
		recordIn(SetForward4, IIFName, IP4Src, IP4Dst, TCPDPort),
		recordIn(SetForward6, IIFName, IP6Src, IP6Dst, TCPDPort),
		recordIn(SetForwardIn, IIFName),
	}}
	return []Chain{out, forward}
}

func recordIn(set string, key ...Field) Rule {
	return Rule{Update{Set: set, Key: key}, Verdict{Action: Return}}
}

func recordSets() []Set {
	record := func(size int, name string, key ...Field) Set {
		return Set{Name: name, Key: key, Dynamic: true, Counter: true, Timeout: AttemptTimeout, Size: size}
	}
	return []Set{
		record(RecordSize, SetAttempt4, SKUID, CGroup0, IP4Dst, TCPDPort),
		record(RecordSize, SetAttempt6, SKUID, CGroup0, IP6Dst, TCPDPort),
		record(OwnerSize, SetAttemptOwner, SKUID, CGroup0),
		record(RecordSize, SetAttemptUser, SKUID),
		record(RecordSize, SetForward4, IIFName, IP4Src, IP4Dst, TCPDPort),
		record(RecordSize, SetForward6, IIFName, IP6Src, IP6Dst, TCPDPort),
		record(OwnerSize, SetForwardIn, IIFName),
	}
}

// decidingSets are the sets that the verdicts depend on.
func decidingSets(o Options) []Set {
	inbound := func(name string, key ...Field) Set {
		return Set{Name: name, Key: key, Dynamic: true, Timeout: inboundIdle, Size: RecordSize}
	}
	sets := []Set{portSet(SetMail, portElements(mailPorts()))}
	if listeners := listenerElements(o); listeners != nil {
		sets = append(sets, portSet(SetListeners, listeners))
	}
	return append(append(append(sets, relaySets(o)...), allowSets(o)...),
		inbound(SetInbound4, IP4Src, TCPSPort, IP4Dst, TCPDPort),
		inbound(SetInbound6, IP6Src, TCPSPort, IP6Dst, TCPDPort),
	)
}

func relaySets(o Options) []Set {
	elements := relayElements(o.Relays, listenerElements(o))
	return []Set{
		portSet(SetPorts, elements[SetPorts]),
		{Name: SetRelay4, Key: []Field{IP4Dst, TCPDPort}, Elements: elements[SetRelay4]},
		{Name: SetRelay6, Key: []Field{IP6Dst, TCPDPort}, Elements: elements[SetRelay6]},
	}
}

// listenerElements are the ports that something is redirected to.
func listenerElements(o Options) []Element {
	if !o.redirects() {
		return nil
	}
	return portElements(slices.Collect(maps.Values(o.Redirect)))
}

func portSet(name string, elements []Element) Set {
	return Set{Name: name, Key: []Field{TCPDPort}, Elements: sorted(elements)}
}

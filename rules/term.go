package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Field is a property of a packet that a rule loads, in the words of nft.
type Field string

// The fields that smtpwall's rules load. CGroup0 is the root; an expression for
// a level deeper than the socket's cgroup ends its rule.
const (
	L4Proto  Field = "meta l4proto"
	IIF      Field = "iif"
	OIF      Field = "oif"
	IIFName  Field = "iifname"
	SKUID    Field = "meta skuid"
	SKGID    Field = "meta skgid"
	TCPSPort Field = "tcp sport"
	TCPDPort Field = "tcp dport"
	TCPFlags Field = "tcp flags"
	UDPSPort Field = "udp sport"
	IP4Src   Field = "ip saddr"
	IP4Dst   Field = "ip daddr"
	IP6Src   Field = "ip6 saddr"
	IP6Dst   Field = "ip6 daddr"
	NextHop4 Field = "rt ip nexthop" // the destination, where the route has no gateway
	NextHop6 Field = "rt ip6 nexthop"
	CGroup0  Field = "socket cgroupv2 level 0"
	CGroup1  Field = "socket cgroupv2 level 1"
	CGroup2  Field = "socket cgroupv2 level 2"
	CGroup3  Field = "socket cgroupv2 level 3"
	CGroup4  Field = "socket cgroupv2 level 4"
	CGroup5  Field = "socket cgroupv2 level 5"
)

// dataType is nft's name for the type of the field as part of a set's key.
func (f Field) dataType() string {
	switch f {
	case SKUID:
		return "uid"
	case IIFName:
		return "ifname"
	case TCPSPort, TCPDPort:
		return "inet_service"
	case IP4Src, IP4Dst:
		return "ipv4_addr"
	case IP6Src, IP6Dst:
		return "ipv6_addr"
	}
	if strings.HasPrefix(string(f), "socket cgroupv2") {
		return "cgroupsv2"
	}
	panic("rules: field " + string(f) + " is not part of any key")
}

// Term is one part of a rule: a match, a statement or a verdict.
type Term interface {
	fmt.Stringer
	term()
}

// Is matches packets whose Field has (or with Not: has not) a value. Only
// L4Proto, IIF, OIF, SKUID, SKGID, TCPDPort and UDPSPort are compared in this way.
type Is struct {
	Field Field
	Not   bool
	Value uint32
}

// Within matches packets whose IP4Dst, IP6Dst, NextHop4 or NextHop6 is in a
// network. NextHop4 takes networks of whole bytes only.
type Within struct {
	Field  Field
	Prefix netip.Prefix
}

// Handshake matches TCP packets by their SYN and ACK bits.
type Handshake struct{ Step Step }

// Step is a combination of the SYN and ACK bits.
type Step uint8

// Opening packets, answers to them, and all packets but opening ones.
const (
	SYN Step = iota
	SYNACK
	NotSYN
)

// Renumbered matches packets of a connection whose source address or port was
// changed on its way. It needs connection tracking, so it is only for rulesets
// that redirect.
type Renumbered struct{}

// FirstFragment matches the first fragments of IPv6 packets.
type FirstFragment struct{}

// LocalDestination matches packets to an address of this host.
type LocalDestination struct{}

// In matches packets whose Key is in a set.
type In struct {
	Key []Field
	Set string
}

// InRanges matches packets whose Field, a number, is in a set of ranges.
type InRanges struct {
	Field Field
	Set   string
}

// Update enters the Key in a dynamic set, or renews its timeout. When the set
// is full it ends the rule.
type Update struct {
	Set     string
	Key     []Field
	Timeout time.Duration // 0 is that of the set
}

// Limit lets Rate packets a second pass to the next term, and Burst at once.
type Limit struct{ Rate, Burst uint32 }

// Log sends a copy of the packet to an NFLOG group.
type Log struct {
	Prefix string
	Group  uint16
	Snap   uint32 // octets of the packet at most; 0 is as many as the reader wants
}

// Count adds the packet to a named counter.
type Count struct{ Counter string }

// Redirect sends the connection to a port of this host.
type Redirect struct{ Port uint16 }

// Reset refuses a TCP packet with a reset.
type Reset struct{}

// Verdict ends the rule. Chain is for Jump and Goto.
type Verdict struct {
	Action Action
	Chain  string
}

// Action is what a Verdict does.
type Action string

// Verdicts. Accept is the end of smtpwall's own base chain only.
const (
	Accept Action = "accept"
	Drop   Action = "drop"
	Return Action = "return"
	Jump   Action = "jump"
	Goto   Action = "goto"
)

// Foreign stands for a rule that smtpwall did not write.
type Foreign struct{ Description string }

func (Is) term()               {}
func (Within) term()           {}
func (Handshake) term()        {}
func (LocalDestination) term() {}
func (Renumbered) term()       {}
func (FirstFragment) term()    {}
func (In) term()               {}
func (InRanges) term()         {}
func (Update) term()           {}
func (Limit) term()            {}
func (Log) term()              {}
func (Count) term()            {}
func (Redirect) term()         {}
func (Reset) term()            {}
func (Verdict) term()          {}
func (Foreign) term()          {}

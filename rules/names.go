package rules

import "time"

// Names of the tables, both of family inet.
const (
	// Table holds everything: redirect, block, counting, logging.
	Table = "smtpwall"
	// LockTable holds the block once more, in a table that only its owner, one
	// netlink socket, can change.
	LockTable = "smtpwall_lock"
)

// LogGroup is the NFLOG group that attempts are copied to. Of a flood only
// LogRate packets a second are; the counters and sets see them all.
const (
	LogGroup = 2525
	LogRate  = 100
	LogBurst = 200
)

// Prefixes of the NFLOG packets: of a local process, and forwarded.
const (
	PrefixOut     = "smtpwall out "
	PrefixForward = "smtpwall fwd "
)

// Counters of Table and of LockTable: packets that were refused, or in observe
// mode connections that would have been refused or redirected. In LockTable
// they stay zero as long as Table is whole.
const (
	CounterOut     = "attempts_out"
	CounterForward = "attempts_fwd"
	// CounterClash counts packets of redirected connections that were refused
	// because another had the source port; only where something is redirected.
	CounterClash = "source_clash"
)

// Sets of Table that attempts are recorded in, one element with a counter for
// each combination:
//
//	attempt4  uid . cgroup id . destination address . destination port
//	attempt6  the same for IPv6
//	forward4  input interface . source address . destination address . destination port
//	forward6  the same for IPv6
//
// A packet that finds no room there is recorded in the first of these that has
// some, so that nobody hides others behind a lot of destinations, cgroups or
// forged sources:
//
//	attempt_owner  uid . cgroup id
//	attempt_user   uid
//	forward_in     input interface
//
// In the key of an element as the kernel gives it, each part is padded to a
// multiple of four bytes: the uid is 4 bytes in the order of the host, the
// cgroup id 8 bytes in the order of the host, the interface 16 bytes with zeros
// behind its name, the addresses 4 or 16 bytes and the port 2 bytes in network
// order, followed by 2 zero bytes. So attempt4 has keys of 20 bytes, attempt6 of
// 32, forward4 of 28 and forward6 of 52.
//
// The cgroup id is the inode number of the cgroup v2 directory that the socket
// was made in, or of its ancestor at level 5 if it is deeper; processes in the
// root cgroup have the root's id. A packet without a socket owner (a late
// segment of a closed connection) is counted in CounterOut only. The sum over
// the sets may therefore be less than the counter, and is so too when all are
// full.
const (
	SetAttempt4     = "attempt4"
	SetAttempt6     = "attempt6"
	SetAttemptOwner = "attempt_owner"
	SetAttemptUser  = "attempt_user"
	SetForward4     = "forward4"
	SetForward6     = "forward6"
	SetForwardIn    = "forward_in"
)

// AttemptTimeout is how long an element of those sets stays after its last
// packet, and RecordSize how many elements each set has at most. OwnerSize is
// that of attempt_owner and forward_in.
const (
	AttemptTimeout = 5 * time.Minute
	RecordSize     = 65535
	OwnerSize      = 4096
)

// Sets that decide.
const (
	SetPorts     = "ports"     // ports that are looked at: the mail ports, those of the listeners and those of the relays
	SetMail      = "mail"      // 25, 465, 587, 2525
	SetListeners = "listeners" // ports that are redirected to; only where something is
	SetRelay4    = "relay4"    // address . port of the approved relays
	SetRelay6    = "relay6"
	// SetInbound4 and SetInbound6 know the connections that came from outside
	// with a mail port as their source: local address . local port . remote
	// address . remote port. Our own SYN+ACK enters them.
	SetInbound4 = "inbound4"
	SetInbound6 = "inbound6"
)

const (
	inboundHandshake = 2 * time.Minute // a SYN+ACK without an answer
	inboundIdle      = 24 * time.Hour
)

// Names of what lets direct connections pass stand in allow.go.

// Priorities. The redirect comes before anybody's own destination NAT (-100),
// the block after the usual filters, on the addresses that NAT left.
const (
	priorityNAT        = -110
	priorityNATLock    = -109
	priorityFilter     = 10
	priorityFilterLock = 20
)

package guard

import (
	"net/netip"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// SocketPath is where the guard listens, unless told otherwise.
const SocketPath = "/run/smtpwall/guard.sock"

// The operations of the guard socket. The proxy's user may ask for the first
// five, root for all.
const (
	opRelays    = "relays"    // the relays with their addresses
	opProcess   = "process"   // who holds a socket
	opSuspended = "suspended" // whose direct connections end
	opWatch     = "watch"     // events as they come, instead of answers
	opLookups   = "lookups"   // answers of name servers as they come, instead of answers
	opStatus    = "status"    // the guard's state
	opRelease   = "release"   // take the rules down
	opReload    = "reload"    // read the configuration again
	opEnforce   = "enforce"   // switch to enforce mode
	opConfirm   = "confirm"   // end a trial for good
	opObserve   = "observe"   // switch to observe mode
)

// maxRequest bounds a request; most are short, but a list of the suspended may
// have MaxSuspended keys of their full length.
const maxRequest = 4 << 20

// request is one line from a client.
type request struct {
	Op string `json:"op"`
	// Of opProcess.
	Inode  uint64 `json:"inode,omitzero"`
	CGroup string `json:"cgroup,omitzero"`
	UID    uint32 `json:"uid,omitzero"`
	// Of opEnforce: how long it is on trial; 0 is for good.
	Seconds int64 `json:"seconds,omitzero"`
	// Of opSuspended: all that are.
	Suspended []string `json:"suspended,omitzero"`
}

// response is one line to a client: an error, or what the operation gives.
type response struct {
	Error   string        `json:"error,omitzero"`
	Relays  []RelayStatus `json:"relays,omitzero"`
	Process *process      `json:"process,omitzero"`
	Status  *Status       `json:"status,omitzero"`
	Event   *audit.Event  `json:"event,omitzero"`  // of opWatch, any number of times
	Lookup  []byte        `json:"lookup,omitzero"` // of opLookups, the same
}

// process is the answer to opProcess; absent if it is not known.
type process struct {
	PID int    `json:"pid"`
	Exe string `json:"exe,omitzero"`
}

// Status is the state of a guard.
type Status struct {
	// Mode is the mode in force, "observe" or "enforce", and ModeState why.
	Mode      string    `json:"mode"`
	ModeState ModeState `json:"mode_state"`
	// Applied tells that the rules are in the kernel, InForce that they are as they
	// should be, and Released that they were taken down on request.
	Applied  bool `json:"applied"`
	InForce  bool `json:"in_force"`
	Released bool `json:"released,omitzero"`
	// Lock is the state of the lock table, in words.
	Lock string `json:"lock"`
	// Drifts is how often others changed the rules since the guard started.
	Drifts uint64 `json:"drifts"`
	// Attempts is how many attempts were told in events since the guard
	// started; LogLost how many of them the kernel's log has no details of.
	Attempts uint64 `json:"attempts"`
	LogLost  uint64 `json:"log_lost,omitzero"`
	// LookupsLost is how many answers of name servers did not reach one who
	// listens to them.
	LookupsLost uint64 `json:"lookups_lost,omitzero"`
	// Packets are those that the kernel's counters have counted, local and
	// forwarded.
	Packets uint64 `json:"packets"`
	// Relays are the relays, Allowed all addresses that the proxy may reach:
	// those of the relays and those that they had a while ago.
	Relays  []RelayStatus    `json:"relays"`
	Allowed []netip.AddrPort `json:"allowed,omitzero"`
	// Allow are the entries of what is left alone, Suspended the keys of those for
	// whom they do not count, and LeftAlone what the rules have of both.
	Allow     []AllowStatus `json:"allow,omitempty"`
	Suspended []string      `json:"suspended,omitempty"`
	LeftAlone LeftAlone     `json:"left_alone,omitzero"`
	// Conditions says what does not work, by part of the guard.
	Conditions map[string]string `json:"conditions,omitzero"`
}

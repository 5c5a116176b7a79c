package plan

import (
	"net/netip"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// Plan is what enforcing would do to what was seen.
type Plan struct {
	Watch Watch `json:"watch"`
	// Refused, Redirected and Allowed count connections to other hosts.
	Refused    uint64 `json:"refused"`
	Redirected uint64 `json:"redirected"`
	Allowed    uint64 `json:"allowed"`
	// LeftAlone counts what the rules in force leave alone, which makes no events:
	// connections by entry, since the rules came up.
	LeftAlone []Count `json:"left_alone,omitempty"`
	// Identities are those that did something, who would be refused the most
	// first.
	Identities []Entry `json:"identities"`
	// Missing says, in sentences, what the plan may not know of.
	Missing []string `json:"missing"`
	// Proposal is TOML to paste into the configuration.
	Proposal string `json:"proposal"`
}

// Kind is what an identity is told apart by.
type Kind string

// The kinds.
const (
	KindUser      Kind = "user"      // a uid, in a unit
	KindContainer Kind = "container" // whichever its uids are
	KindForwarded Kind = "forwarded" // an address behind this host: a container that is not known, a virtual machine
	KindAccount   Kind = "account"   // a client that logged in, and of which nothing is proven
	KindUnknown   Kind = "unknown"   // and those of floods, which are not told apart
)

// Identity is who did something. What does not tell it apart may be of one of
// its events alone.
type Identity struct {
	Kind      Kind      `json:"kind"`
	UID       audit.UID `json:"peer_uid,omitzero"`
	User      string    `json:"peer_user,omitzero"`
	Unit      string    `json:"peer_unit,omitzero"` // a pattern where there is one for each login or run
	Container string    `json:"peer_container,omitzero"`
	// Source is where its forwarded connections came from.
	Source  netip.Addr `json:"source,omitzero"`
	Account string     `json:"auth_id,omitzero"`
}

// Entry is what one identity did, and what would become of it.
type Entry struct {
	Identity
	// Forwarded says that its connections came through this host from behind it:
	// they can be neither redirected nor allowed.
	Forwarded  bool   `json:"forwarded,omitzero"`
	Refused    uint64 `json:"refused"`
	Redirected uint64 `json:"redirected"`
	Allowed    uint64 `json:"allowed"`
	// BusiestHour is how many connections and messages came within an hour.
	BusiestHour uint64    `json:"busiest_hour"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	// Destinations are the most frequent first; Others are the connections to
	// those that are not kept apart.
	Destinations []Destination `json:"destinations"`
	Others       uint64        `json:"others,omitzero"`
	// Decision is what the policy in force says to it, before any address is
	// known; nil if it cannot be asked.
	Decision *Decision `json:"decision,omitempty"`
	// Submitted are its messages that came to the proxy, by what was decided.
	Submitted map[string]uint64 `json:"submitted,omitempty"`
	// Senders are the domains of their reverse-paths, as patterns, the most
	// frequent first.
	Senders []Count `json:"senders,omitempty"`
}

// Fate is what enforcing does to a connection.
type Fate string

// The fates.
const (
	Refuse   Fate = "refuse"
	Redirect Fate = "redirect" // to the proxy, where policy decides
	Allow    Fate = "allow"    // an entry of the configuration leaves it alone
)

// Destination is where connections went.
type Destination struct {
	Address netip.AddrPort `json:"address"` // zero: not told apart
	Fate    Fate           `json:"fate"`
	By      string         `json:"by,omitzero"` // the entry that allows it
	Count   uint64         `json:"count"`
	First   time.Time      `json:"first"`
	Last    time.Time      `json:"last"`
}

// Decision is what policy says.
type Decision struct {
	Result string `json:"decision"` // "allow", "deny", "defer" or "hold"
	Rule   string `json:"rule,omitzero"`
	Reason string `json:"reason,omitzero"`
}

// Count is how often there was something.
type Count struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
}

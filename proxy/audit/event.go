package audit

import (
	"net/netip"
	"strconv"
	"time"
)

// Kind says what an event is about.
type Kind string

// The kinds of event.
const (
	KindTransaction Kind = "transaction" // MAIL to end of data, or reset
	KindDelivery    Kind = "delivery"    // one try to deliver a message of the spool, or the end of it
	KindAttempt     Kind = "attempt"     // a connection that the rules blocked or redirected, or would have
	KindDrift       Kind = "drift"       // the kernel's rules differed from the plan
	KindSession     Kind = "session"     // a session that ended without any transaction
	KindMode        Kind = "mode"        // the guard began to observe or to enforce
	KindSuspension  Kind = "suspension"  // an identity was suspended, or resumed
	KindBreaker     Kind = "breaker"     // an identity behaves as one that was broken into
)

// Outcomes of an attempt: what the rules did, or would do in enforce mode; of a
// drift; of a mode; of a suspension; and of a breaker.
const (
	OutcomeBlocked       = "blocked"
	OutcomeRedirected    = "redirected"
	OutcomeWouldBlock    = "would_block"
	OutcomeWouldRedirect = "would_redirect"
	OutcomeRestored      = "restored"
	OutcomeFailed        = "failed"
	OutcomeObserve       = "observe"
	OutcomeEnforce       = "enforce"
	OutcomeSuspended     = "suspended"
	OutcomeResumed       = "resumed"
	OutcomeRaised        = "raised"   // the identity's ladder begins higher
	OutcomeReported      = "reported" // and nothing else
)

// Custody: who is responsible for the message when the event is written.
const (
	CustodyClient  = "client"  // we refused, or the client left
	CustodyRelay   = "relay"   // the relay said 250
	CustodySpool   = "spool"   // file and directory are synced
	CustodyUnknown = "unknown" // the reply after end of data was lost and the client keeps the message: a duplicate is possible
	CustodyBounced = "bounced" // nobody: what failed for good was told to whoever wanted to hear of it
	CustodyDropped = "dropped" // nobody: a person dropped it
)

// Bounds of one event. What is longer is cut, and the cut is marked with "…".
const (
	MaxRecipients = 100  // recipients listed; RcptCount has all of them
	MaxText       = 1024 // octets of any one string
)

// NullReversePath is how an event writes the null reverse-path (RFC 5321
// section 4.5.5), so that it differs from a reverse-path not known yet.
const NullReversePath = "<>"

// Event is one line of the audit log. A field that holds its zero value is
// unknown or does not apply, and is left out of the line.
type Event struct {
	Time time.Time `json:"time"` // set by Log.Write when zero
	Kind Kind      `json:"kind"`

	Session  string `json:"session,omitzero"`
	Txn      string `json:"txn,omitzero"`
	Listener string `json:"listener,omitzero"`

	PeerUID       UID            `json:"peer_uid,omitzero"`
	PeerUser      string         `json:"peer_user,omitzero"`
	PeerPID       int            `json:"peer_pid,omitzero"` // observed, not proven; in a drift: who changed the rules
	PeerExe       string         `json:"peer_exe,omitzero"` // observed, not proven
	PeerUnit      string         `json:"peer_unit,omitzero"`
	PeerContainer string         `json:"peer_container,omitzero"`
	Source        netip.AddrPort `json:"source,omitzero"`      // the peer's end of the connection
	Destination   netip.AddrPort `json:"destination,omitzero"` // of an attempt
	OrigDst       netip.AddrPort `json:"orig_dst,omitzero"`    // of a redirected session

	TLSVersion string `json:"tls_version,omitzero"`
	TLSName    string `json:"tls_name,omitzero"` // SNI, as sent
	// ClientCertificate is the fingerprint of the certificate whose key the client
	// proved to have, as an account lists it: "sha256:…".
	ClientCertificate string      `json:"client_certificate,omitzero"`
	AuthID            string      `json:"auth_id,omitzero"`      // the account that AUTH verified, never a name merely claimed: some are API keys
	ReversePath       string      `json:"reverse_path,omitzero"` // NullReversePath for <>
	Recipients        []Recipient `json:"recipients,omitzero"`   // at most MaxRecipients are written
	RcptCount         int         `json:"rcpt_count,omitzero"`   // all that were offered
	Size              int64       `json:"size,omitzero"`         // octets

	Decision string `json:"decision,omitzero"`
	Reason   string `json:"reason,omitzero"`
	Rule     string `json:"rule,omitzero"`
	// Identity is the key by which limits, breakers and suspensions know who it
	// was: "uid:33", "container:…", "account:…".
	Identity string    `json:"identity,omitzero"`
	Limit    string    `json:"limit,omitzero"` // that had no room, with its budget: "100 messages/hour of uid:33"
	Until    time.Time `json:"until,omitzero"` // of a mode on trial, a suspension, a limit
	By       string    `json:"by,omitzero"`    // who ordered it, or which rule

	Relay        string    `json:"relay,omitzero"`
	RelayReply   string    `json:"relay_reply,omitzero"`   // text of the relay's last reply
	ReplyCode    int       `json:"reply_code,omitzero"`    // what the client was told
	EnhancedCode string    `json:"enhanced_code,omitzero"` // RFC 3463, "5.7.1"
	Custody      string    `json:"custody,omitzero"`
	Outcome      string    `json:"outcome,omitzero"`
	Attempt      int       `json:"attempt,omitzero"` // of a delivery, from 1
	Next         time.Time `json:"next,omitzero"`    // not before then is it tried again
	// PossibleDuplicate says that the relay may have had the message before: a
	// reply was lost, or a try was interrupted.
	PossibleDuplicate bool          `json:"possible_duplicate,omitzero"`
	Count             uint64        `json:"count,omitzero"` // attempts that this one line stands for
	Duration          time.Duration `json:"-"`              // "duration_ms", to the microsecond
	Error             string        `json:"error,omitzero"`
}

// Recipient is one forward-path of a transaction and the reply that it got.
type Recipient struct {
	Address   string `json:"address"`
	ReplyCode int    `json:"reply_code,omitzero"` // 0: the session ended before a reply
}

// UID is a user id that may be unknown. The zero value is unknown, which is
// never root.
type UID struct {
	value uint32
	known bool
}

// KnownUID is the UID that the kernel vouched for.
func KnownUID(uid uint32) UID { return UID{value: uid, known: true} }

// Get returns the user id, and false if it is unknown.
func (u UID) Get() (uid uint32, known bool) { return u.value, u.known }

// String is the number, or "unknown".
func (u UID) String() string {
	if !u.known {
		return "unknown"
	}
	return strconv.FormatUint(uint64(u.value), 10)
}

// MarshalJSON writes the number, or null.
func (u UID) MarshalJSON() ([]byte, error) {
	if !u.known {
		return []byte("null"), nil
	}
	return []byte(u.String()), nil
}

// UnmarshalJSON reads a number; null is unknown.
func (u *UID) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*u = UID{}
		return nil
	}
	value, err := strconv.ParseUint(string(data), 10, 32)
	if err != nil {
		return err
	}
	*u = KnownUID(uint32(value))
	return nil
}

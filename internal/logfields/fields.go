package logfields

// Keys that a log line and an audit event share.
const (
	Session       = "session"  // id of one connection, from 220 to close
	Txn           = "txn"      // id of one transaction, the one in the SMTP reply
	Listener      = "listener" // submission, submissions, alternate, socket, intercepted, explain
	PeerUID       = "peer_uid" // absent when unknown; 0 is root and nothing else
	PeerUser      = "peer_user"
	PeerPID       = "peer_pid"
	PeerExe       = "peer_exe"
	PeerUnit      = "peer_unit"
	PeerContainer = "peer_container"
	OrigDst       = "orig_dst" // where the client meant to go before the redirect

	TLSVersion = "tls_version"
	TLSName    = "tls_name" // the name that the client asked for (SNI)
	AuthID     = "auth_id"  // the account that AUTH verified
	// ClientCertificate is the fingerprint of the one whose key the client proved.
	ClientCertificate = "client_certificate"
	ReversePath       = "reverse_path"
	Recipients        = "recipients"
	RcptCount         = "rcpt_count"
	Size              = "size" // octets on the wire, transparency included

	Decision     = "decision" // allow, deny, defer, hold
	Reason       = "reason"
	Rule         = "rule"
	Relay        = "relay"
	RelayReply   = "relay_reply" // the relay's own text
	ReplyCode    = "reply_code"
	EnhancedCode = "enhanced_code"
	Custody      = "custody"
	Attempt      = "attempt" // of a delivery from the spool, from 1
	Next         = "next"    // when it is tried again
	// PossibleDuplicate is true where the relay may have had the message before.
	PossibleDuplicate = "possible_duplicate"
	Identity          = "identity" // by whose key limits, breakers and suspensions know a sender
	Limit             = "limit"    // that had no room
	Until             = "until"    // when it opens, or what was ordered ends
	By                = "by"       // who ordered it

	DurationMS = "duration_ms"
	Error      = "error"
)

// Keys of the audit events alone, and of the guard's log.
const (
	Time        = "time"
	Kind        = "kind"
	Address     = "address" // one recipient's
	Source      = "source"
	Destination = "destination"
	Count       = "count"
	Outcome     = "outcome"
)

// Keys of the program log alone.
const (
	Path      = "path"
	Name      = "name"
	Table     = "table"
	Condition = "condition"
	Mode      = "mode"
	Delay     = "delay"
)

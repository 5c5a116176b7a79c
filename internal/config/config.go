package config

import (
	"net/netip"
	"time"
)

// DefaultPath is where the packaged service keeps its configuration.
const DefaultPath = "/etc/smtpwall/smtpwall.toml"

// Config is a complete and valid configuration: each field has its default
// where the file says nothing. Treat it as a constant; a reload makes a new
// one.
type Config struct {
	Mode         Mode
	ModeStated   bool // the mode was said and is not merely the default
	Host         Host
	Relays       []Relay // in the order of the file
	Delivery     Delivery
	Listen       Listen
	Firewall     Firewall
	Certificates Certificates
	Accounts     []Account
	Policy       Policy
	Expects      []Expect // in the order of the file
	Filters      []Filter // in the order in which messages pass them
	Alerts       []Alert
	Session      Session
	Audit        Audit
	Log          Log
}

// Mode says whether the firewall acts or only reports.
type Mode string

// The two modes of a running host.
const (
	Observe Mode = "observe" // report what enforce would do; block nothing
	Enforce Mode = "enforce"
)

// Host is how this machine presents itself.
type Host struct {
	// Name goes into EHLO, replies and certificates; "" stands for the
	// machine's own fully qualified name.
	Name string
}

// Relay is one approved upstream server.
type Relay struct {
	Name        string // the table's name
	Host        string // a host name, or an IP address without brackets
	Port        uint16 // 0: see Endpoints
	TLS         TLS    // TLSByPort only if Port is 0
	Username    string // "": no AUTH
	Password    Secret
	Auth        Auth
	CAFile      string  // PEM, instead of the system's roots; "" uses those
	Pins        []Pin   // one of them must match, on top of the chain check; none: no pinning
	Connections int     // at most so many at one time
	Rate        float64 // at most so many messages a second, on average; 0: as many as it takes
}

// TLS is how a relay connection gets its TLS.
type TLS string

// Ways to TLS. TLSNone is valid for a loopback host alone.
const (
	TLSByPort   TLS = "" // implicit on 465, STARTTLS on every other port
	TLSStartTLS TLS = "starttls"
	TLSImplicit TLS = "implicit" // RFC 8314 section 3
	TLSNone     TLS = "none"
)

// Pin is the SHA-256 digest of a certificate's SubjectPublicKeyInfo, as in RFC
// 7469 section 2.4.
type Pin [32]byte

// Auth is the SASL mechanism for a relay.
type Auth string

// Mechanisms; AuthAuto takes the strongest one that the relay offers.
const (
	AuthAuto        Auth = "auto"
	AuthPlain       Auth = "plain"         // RFC 4616
	AuthLogin       Auth = "login"         // draft-murchison-sasl-login
	AuthCRAMMD5     Auth = "cram-md5"      // RFC 2195
	AuthSCRAMSHA256 Auth = "scram-sha-256" // RFC 7677
)

// Delivery says when and to whom messages are handed on.
type Delivery struct {
	Mode     DeliveryMode
	Relays   []string // names, in the order to try; all relays in the file's order where the file names none
	Spool    string   // directory of messages that we have custody of
	SpoolMax int64    // bytes; when the spool holds so much, messages for it are refused with 452
	// SpoolMaxPerIdentity is how many bytes of the spool one identity may fill.
	SpoolMaxPerIdentity int64
	Expire              time.Duration // how long a message is tried
	// HoldExpire is how long a message is held for a person to look at. One that
	// waits for a relay to be configured is none of these.
	HoldExpire time.Duration
	// Postmaster is the mailbox that hears of what can be neither delivered nor
	// returned; "" for none.
	Postmaster string
}

// DeliveryMode says who has custody of a message first.
type DeliveryMode string

// Delivery modes.
const (
	DeliveryProxy DeliveryMode = "proxy" // the relay's reply is the client's reply, unless the relay is down
	DeliveryQueue DeliveryMode = "queue" // the spool has it first, and the client is answered at once
)

// Listen says where clients reach the proxy. No address appears twice.
type Listen struct {
	Submission     []netip.AddrPort // STARTTLS, RFC 6409
	Submissions    []netip.AddrPort // implicit TLS, RFC 8314
	Alternate      []netip.AddrPort // STARTTLS on the unregistered third port
	Socket         string           // Unix stream socket; "" for none
	Admin          string           // Unix stream socket of the commands; "" for none
	AuthWithoutTLS bool             // offer AUTH before TLS too
}

// Firewall says what becomes of connections that processes dial themselves.
type Firewall struct {
	Port25          Port25
	SubmissionPorts SubmissionPorts
	AnyPort         AnyPort
	DNSAnswers      DNSAnswers
	Inside          []netip.Prefix // networks behind this host; forwarded traffic to them is left alone
	Allow           []AllowEntry   // connections that are left alone, too; no two alike
}

// AllowEntry lets one local identity dial one destination itself. Exactly one
// of User, UID, Group and Unit is set.
type AllowEntry struct {
	User  string // a name, no pattern
	UID   string // a decimal number
	Group string // a name, no pattern
	Unit  string // its full name, "postfix.service"
	// Host is a host name in lower case, an address without brackets, or a
	// network with no bits set behind its length.
	Host  string
	Port  uint16    // 25, 465, 587 or 2525
	Until time.Time // it counts before this moment; zero: always
}

// Port25 is the treatment of port 25 on remote hosts.
type Port25 string

// Port25Reject answers with a TCP reset at once.
const Port25Reject Port25 = "reject"

// SubmissionPorts is the treatment of 465, 587 and 2525 on remote hosts.
type SubmissionPorts string

// Treatments of the submission ports.
const (
	SubmissionRedirect SubmissionPorts = "redirect" // to our listener of the same role
	SubmissionReject   SubmissionPorts = "reject"   // TCP reset
)

// DNSAnswers says whether the answers to the host's own look-ups are noted: they
// tell which name a client that was redirected had dialled.
type DNSAnswers string

// What becomes of answers; they reach who asked in any case.
const (
	DNSAnswersNote   DNSAnswers = "note"
	DNSAnswersIgnore DNSAnswers = "ignore"
)

// AnyPort is the treatment of SMTP on other ports.
type AnyPort string

// AnyPortOff leaves other ports alone.
const AnyPortOff AnyPort = "off"

// Account is a credential for peers that the kernel cannot vouch for. At least
// one of Password, SCRAM and Certificates is set.
type Account struct {
	Name         string
	Password     string     // "$argon2id$…" or "$2b$…"
	SCRAM        string     // "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", RFC 5803 section 3
	Certificates [][32]byte // SHA-256 of client certificates in DER; no other account has one of them
}

// Session bounds what one session, and all of them, may cost.
type Session struct {
	MaxMessage         int64 // bytes of one message, announced by SIZE (RFC 1870)
	MaxRecipients      int   // of one transaction; RFC 5321 section 4.5.3.1.8 asks for 100 at least
	MaxSessions        int   // at one time
	MaxSessionsPerPeer int   // at one time from one uid, or from one address where the uid is unknown
	IdleTimeout        time.Duration
	DataTimeout        time.Duration // for the whole of one message
}

// Audit says where the event log is kept.
type Audit struct {
	Directory string
}

// Log is about the program log, not the audit.
type Log struct {
	Level Level
}

// Level is the least severe level that the program log keeps.
type Level string

// Levels, with zap's names.
const (
	LevelDebug Level = "debug"
	LevelInfo  Level = "info"
	LevelWarn  Level = "warn"
	LevelError Level = "error"
)

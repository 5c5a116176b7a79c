package proxy

import (
	"crypto/tls"
	"slices"
	"time"

	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/filter"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// Settings are all that sessions decide by. A reload makes new ones; transactions
// under way finish with those that they began with. Treat them as constants.
type Settings struct {
	HostName       string // in the banner, EHLO's reply and Received
	TLS            *tls.Config
	Accounts       *auth.Store // nil where no account is configured
	AuthWithoutTLS bool        // offer AUTH in clear too
	Policy         *policy.Policy
	Quota          Quota
	CompareBodies  bool             // a breaker looks for one body to many recipients
	Filters        []*filter.Filter // asked in this order about each message
	TempDir        string           // for large messages that filters look at
	TempMax        int64            // octets of all of them; half of that for one identity
	Relays         Relays
	Spool          *spool.Spool  // takes messages that no relay takes now
	QueueFirst     bool          // the spool takes each message before a relay hears of it
	Expire         time.Duration // a message is given up when it has waited for so long
	HoldExpire     time.Duration // and one in hold, unless it is held for want of a relay; zero is never
	Postmaster     string        // who is told of what nobody else can be told of; may be empty
	Limits         Limits
}

// Limits bound what a session, a peer and all of them together may cost.
type Limits struct {
	MaxMessage         int64 // octets
	MaxRecipients      int   // accepted ones, of one transaction
	MaxSessions        int
	MaxSessionsPerPeer int
	MaxErrors          int           // refused commands before a session is closed
	IdleTimeout        time.Duration // for one command, from the reply before it
	DataTimeout        time.Duration // for the whole of one message; and before it, from the first accepted recipient
	HandshakeTimeout   time.Duration
	// RelayPatience is how long a relay may take to be reached, and then for an
	// answer about recipients, before the spool takes its place: many clients wait
	// for half a minute and no longer.
	RelayPatience time.Duration
}

// maxReceived is how many Received fields a message may have before it is taken
// for one that goes in circles (RFC 5321 section 6.3).
const maxReceived = 100

// maxHeader bounds the header section that policy looks at, in octets. Most are
// far shorter than shortHeader; at most maxLongHeads sessions may hold a longer
// one, 16 MiB together, until it has come whole.
const (
	maxHeader    = 256 << 10
	shortHeader  = 32 << 10
	maxLongHeads = 56
)

// Relays are the approved relays.
type Relays struct {
	Order  []*relay.Pool          // for messages whose rule names none; the next when one is down
	ByName map[string]*relay.Pool // for rules that name one
}

// looksFirst says that none of the message may be passed on before all of it, or
// its header section, was looked at.
func (s *Settings) looksFirst(d policy.Decision) bool { return d.CheckHeader || len(s.Filters) > 0 }

// empty says that no relay is approved yet.
func (r Relays) empty() bool { return len(r.ByName) == 0 }

// route is where a message may go, in the order to try.
func (r Relays) route(name string) []*relay.Pool {
	if name == "" {
		return r.Order
	}
	if pool, ok := r.ByName[name]; ok {
		return []*relay.Pool{pool}
	}
	return nil
}

// routesOf are the names of the routes that lead to a relay.
func (r Relays) routesOf(pool *relay.Pool) (routes []string) {
	if slices.Contains(r.Order, pool) {
		routes = append(routes, "")
	}
	return append(routes, pool.Name())
}

// capabilities are the extensions that every relay honours, as far as is known.
// One that was not reached yet is trusted with 8BITMIME and DSN, which nearly all
// have: an outage must not make a client give a message up. It is not trusted with
// SMTPUTF8, which clients ask for without need where it is offered.
// Held messages may be 8-bit, since they wait for a relay that is not known.
func (s *Settings) capabilities() smtp.Capabilities {
	if s.Relays.empty() {
		return smtp.Capabilities{EightBitMIME: true, MaxSize: s.Limits.MaxMessage}
	}
	caps := smtp.Capabilities{EightBitMIME: true, UTF8: true, DSN: true, MaxSize: s.Limits.MaxMessage}
	for _, pool := range s.Relays.ByName {
		known, reached := pool.Capabilities()
		if !reached {
			caps.UTF8 = false
			continue
		}
		caps.EightBitMIME = caps.EightBitMIME && known.EightBitMIME
		caps.UTF8 = caps.UTF8 && known.UTF8
		caps.DSN = caps.DSN && known.DSN
		if known.MaxSize > 0 {
			caps.MaxSize = min(caps.MaxSize, known.MaxSize)
		}
	}
	return caps
}

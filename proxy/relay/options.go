package relay

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// TLSMode is how TLS starts.
type TLSMode string

// The modes. None is for a relay on loopback alone; configuration sees to that.
const (
	STARTTLS TLSMode = "starttls"
	Implicit TLSMode = "implicit"
	None     TLSMode = "none"
)

// Endpoint is one way to reach a relay.
type Endpoint struct {
	Address netip.AddrPort
	TLS     TLSMode
}

// Options say how to reach one relay and how to behave towards it.
type Options struct {
	Name      string // the relay's name in the configuration, for logs and events
	Host      string // the name that its certificate must carry, or an IP address
	LocalName string // what we say in EHLO
	// Endpoints gives the ways to reach the relay now, best first. It is asked
	// before each new connection, so that a changed address is followed.
	Endpoints func(ctx context.Context) ([]Endpoint, error)

	Username  string
	Password  func() []byte // called at each login; nil without AUTH
	Mechanism string        // "auto", or one SASL mechanism's name in lower case

	Roots *x509.CertPool // nil means the system's
	Pins  [][]byte       // SHA-256 of public keys, one of which the chain must hold; none means no pin

	Connections     int           // at most, to this relay; must be positive
	Rate            float64       // messages a second, at most; 0 is no limit
	IdleTimeout     time.Duration // an unused connection is kept that long
	MaxTransactions int           // on one connection; 0 is unlimited
	Timeouts        Timeouts
	Logger          *zap.Logger
}

// Timeouts of one connection. RFC 5321 section 4.5.3.2 asks for minutes, which
// suits a queue; here a client waits behind us, so all but the end of data are
// shorter (docs/conformance.md).
type Timeouts struct {
	Wait      time.Duration // for a connection while all are lent, or for a turn of the pace
	Pace      time.Duration // for a turn of the pace, if that is known to be longer; 0 is the default
	Connect   time.Duration // TCP, per address
	Handshake time.Duration // greeting, TLS, EHLO and AUTH together
	Command   time.Duration // one flight of commands
	Block     time.Duration // one write of data
	DataEnd   time.Duration // from the end of data to its reply
}

// DefaultTimeouts are what the proxy uses.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Wait: 30 * time.Second, Pace: defaultPace, Connect: 10 * time.Second, Handshake: time.Minute, Command: 2 * time.Minute,
		Block: 3 * time.Minute, DataEnd: 10 * time.Minute,
	}
}

// defaultPace is how long a client may be held up for a relay's pace: less than
// a person or a web request notices much. Beyond it the message is queued.
const defaultPace = 2 * time.Second

func (o Options) withDefaults() Options {
	if o.IdleTimeout == 0 {
		o.IdleTimeout = time.Minute
	}
	if o.Timeouts == (Timeouts{}) {
		o.Timeouts = DefaultTimeouts()
	}
	if o.Timeouts.Pace == 0 {
		o.Timeouts.Pace = defaultPace
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	o.Logger = o.Logger.With(zap.String("relay", o.Name))
	return o
}

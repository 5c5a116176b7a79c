package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// stand is a server with a stand-in relay behind it and a peer of our choice in
// front.
type stand struct {
	server   *Server
	peer     changing
	settings *Settings
	relay    *testkit.Relay // nil if the options say "relay none"
	spool    *spool.Spool
	spoolDir string
	runner   *Runner // at work only where the test applies settings
	warden   *Warden
	alarms   alarmLog
	events   *eventLog
	address  string
	role     Role
	sender   string // of messages that the test puts into the spool, with whose it is
	uid      uint32
	user     string
}

// somebody is the identifier of the tests: every peer is this one.
type somebody struct{ peer peer.Peer }

func (s somebody) TCP(conn *net.TCPConn) peer.Peer {
	p := s.peer
	p.Remote = conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	p.Local = conn.LocalAddr().(*net.TCPAddr).AddrPort()
	return p
}

func (s somebody) Unix(*net.UnixConn) peer.Peer { return s.peer }

// changing is an identifier that the test can replace while sessions begin.
type changing struct{ now atomic.Pointer[Identifier] }

func (c *changing) be(i Identifier) { c.now.Store(&i) }

func (c *changing) TCP(conn *net.TCPConn) peer.Peer   { return (*c.now.Load()).TCP(conn) }
func (c *changing) Unix(conn *net.UnixConn) peer.Peer { return (*c.now.Load()).Unix(conn) }

// eventLog keeps events for the test to look at.
type eventLog struct {
	mu     sync.Mutex
	events []audit.Event
	err    error
}

func (l *eventLog) Write(event *audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, *event)
	return l.err
}

// fail makes each further event fail, after it was kept.
func (l *eventLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *eventLog) all() []audit.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]audit.Event(nil), l.events...)
}

// testPeer is the peer of the option "peer".
func testPeer(name string) peer.Peer {
	switch name {
	case "unknown":
		return peer.Peer{UID: peer.NoUID}
	case "redirected":
		return peer.Peer{Proven: true, UID: 33, User: "www-data", OriginalDst: netip.MustParseAddrPort("198.51.100.7:587")}
	case "root":
		return peer.Peer{Proven: true, UID: 0, User: "root"}
	}
	return peer.Peer{Proven: true, UID: 33, User: "www-data", Groups: []string{"www-data"}, Unit: "php8.2-fpm.service"}
}

func newStand(t testing.TB, options map[string]string) *stand {
	t.Helper()
	b := &stand{events: &eventLog{}, role: Submission, sender: "a@example.com", uid: 33, user: "www-data"}
	if role := options["listener"]; role != "" {
		b.role = Role(role)
	}
	b.spoolDir = filepath.Join(t.TempDir(), "spool")
	b.openSpool(t)
	b.settings = b.newSettings(t, options)
	b.peer.be(somebody{testPeer(options["peer"])})
	b.warden = b.newWarden(t)
	b.runner = NewRunner(RunnerOptions{Spool: b.spool, Events: b.events, Warden: b.warden, Logger: zaptest.NewLogger(t)})
	b.server = New(Options{
		Identifier: &b.peer, Events: b.events, Throttle: auth.NewThrottle(), Runner: b.runner, Warden: b.warden,
		Logger: zaptest.NewLogger(t), Settings: b.settings,
	})
	b.listen(t)
	return b
}

func (b *stand) openSpool(t testing.TB) {
	t.Helper()
	var err error
	if b.spool, err = spool.Open(b.spoolDir, spool.Options{MaxBytes: 2 << 20, Logger: zaptest.NewLogger(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.spool.Close() })
}

// restartSpool is what a crash and a new start do to the spool.
func (b *stand) restartSpool(t testing.TB) {
	t.Helper()
	if err := b.spool.Close(); err != nil {
		t.Fatal(err)
	}
	b.openSpool(t)
	b.settings.Spool = b.spool
}

func (b *stand) newSettings(t testing.TB, options map[string]string) *Settings {
	t.Helper()
	settings := &Settings{
		HostName: "host.test", TLS: testTLS(t), Policy: testPolicy(t, options["policy"]), Spool: b.spool,
		QueueFirst: options["mode"] == "queue", Expire: 120 * time.Hour,
		AuthWithoutTLS: options["auth"] == "clear",
		Limits: Limits{
			MaxMessage: number(options, "max_message", 1<<20), MaxRecipients: int(number(options, "max_recipients", 100)),
			MaxSessions: int(number(options, "max_sessions", 100)), MaxSessionsPerPeer: int(number(options, "max_per_peer", 100)),
			MaxErrors:   int(number(options, "max_errors", 20)),
			IdleTimeout: time.Duration(number(options, "idle_ms", 20000)) * time.Millisecond,
			DataTimeout: time.Duration(number(options, "data_ms", 20000)) * time.Millisecond, HandshakeTimeout: 5 * time.Second,
			RelayPatience: time.Duration(number(options, "patience_ms", 20000)) * time.Millisecond,
		},
	}
	settings.Quota = testQuota(t, options)
	if options["accounts"] != "" {
		settings.Accounts = testAccounts(t)
	}
	if options["relay"] != "none" {
		b.startRelay(t, options, settings)
	}
	return settings
}

func number(options map[string]string, name string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(options[name], 10, 64); err == nil {
		return n
	}
	return otherwise
}

// startRelay starts the stand-in. Option "without" takes extensions from it,
// "fault" is "step=text" for one reply of it.
func (b *stand) startRelay(t testing.TB, options map[string]string, settings *Settings) {
	t.Helper()
	var err error
	b.relay, err = testkit.StartRelay(testkit.RelayOptions{
		KeepBytes: options["keep"] != "no", Without: strings.Fields(options["without"]), Username: "u", Password: "p", RequireAuth: true, RequireTLS: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.relay.Close() })
	if step, text, ok := strings.Cut(options["fault"], "="); ok {
		b.relay.On(testkit.RelayStep(step), testkit.Fault{Text: text})
	}
	pool := b.pool(t, options)
	if err := pool.Probe(t.Context()); err != nil && options["fault"] == "" {
		t.Fatal(err)
	}
	settings.Relays = Relays{Order: []*relay.Pool{pool}, ByName: map[string]*relay.Pool{"main": pool}}
	if options["relay"] == "down" {
		_ = b.relay.Close()
	}
}

func (b *stand) pool(t testing.TB, options map[string]string) *relay.Pool {
	timeouts := relay.DefaultTimeouts()
	if ms := number(options, "relay_ms", 0); ms > 0 {
		patience := time.Duration(ms) * time.Millisecond
		timeouts = relay.Timeouts{Wait: patience, Connect: 5 * time.Second, Handshake: 5 * time.Second, Command: patience, Block: patience, DataEnd: patience}
	}
	if ms := number(options, "handshake_ms", 0); ms > 0 {
		timeouts.Handshake = time.Duration(ms) * time.Millisecond
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.relay.CA())
	address := netip.MustParseAddrPort(b.relay.Addr())
	pool := relay.New(relay.Options{
		Name: "main", Host: "relay.test", LocalName: "host.test", Username: "u", Mechanism: "auto",
		Password: func() []byte { return []byte("p") }, Roots: roots, Connections: int(number(options, "connections", 10)), Timeouts: timeouts,
		Endpoints: func(context.Context) ([]relay.Endpoint, error) {
			return []relay.Endpoint{{Address: address, TLS: relay.STARTTLS}}, nil
		},
	})
	t.Cleanup(pool.Retire)
	return pool
}

func (b *stand) listen(t testing.TB) {
	t.Helper()
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	listener, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(listener, b.role) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = b.server.Shutdown(ctx)
		if err := <-done; !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})
}

func (b *stand) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if b.role == Submissions {
		return tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	return conn
}

// testPolicy is the policy of the option "policy".
func testPolicy(t testing.TB, name string) *policy.Policy {
	t.Helper()
	rules := map[string][]policy.Rule{
		"": nil,
		"sites": {{Name: "sites", Match: policy.Match{User: []string{"www-data"}}, Decision: policy.Allow,
			Senders: []string{"*@example.com"}, Recipients: []string{"*@example.net"}}},
		"notices": {{Name: "notices", Match: policy.Match{User: []string{"www-data"}}, Decision: policy.Allow,
			Senders: []string{"<>", "postmaster@example.com"}}},
		"routes": {
			{Name: "first", Match: policy.Match{User: []string{"www-data"}}, Decision: policy.Allow, Relay: "main"},
			{Name: "second", Match: policy.Match{User: []string{"shop"}}, Decision: policy.Allow, Relay: "second"},
		},
		"hold":  {{Name: "look", Match: policy.Match{User: []string{"*"}}, Decision: policy.Hold, Recipients: []string{"*@example.net"}}},
		"defer": {{Name: "later", Match: policy.Match{User: []string{"*"}}, Decision: policy.Defer}},
		"deny":  {{Name: "nobody", Match: policy.Match{User: []string{"*"}}, Decision: policy.Deny}},
	}[name]
	compiled, err := policy.New(policy.Deny, rules)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	return &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}}
}

func testAccounts(t testing.TB) *auth.Store {
	t.Helper()
	argon2id, scram, err := auth.HashPassword([]byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := auth.New([]auth.Account{{Name: "webshop", Password: argon2id, SCRAM: scram}}, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

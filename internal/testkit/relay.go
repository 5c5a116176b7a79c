package testkit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdg-go/scram"
)

// RelayOptions say what a stand-in relay offers. The zero value is a relay
// that offers everything, knows no account and asks for none.
type RelayOptions struct {
	// Name is the host name in the greeting and on the certificate; default
	// "relay.test". The certificate names localhost and the loopback
	// addresses beside it.
	Name string

	// Username and Password are the one account. With no Username, AUTH is not
	// offered.
	Username, Password string

	// Mechanisms are the SASL mechanisms to offer, in that order; default
	// SCRAM-SHA-256, CRAM-MD5, PLAIN, LOGIN.
	Mechanisms []string

	// AuthWithoutTLS offers AUTH on a connection in clear too.
	AuthWithoutTLS bool

	// Without names the EHLO keywords that are neither offered nor honoured,
	// for example "PIPELINING" or "STARTTLS".
	Without []string

	// RequireTLS and RequireAuth refuse MAIL with 530 until that has happened.
	RequireTLS, RequireAuth bool

	// MaxSize is the SIZE limit in bytes (RFC 1870); default 64 MiB.
	MaxSize int64

	// Delay stands for a round trip to the relay: each flight of replies leaves
	// that long after it was ready, the handshake's flights included, and the
	// greeting waits twice as long, for the TCP handshake. Commands that arrive
	// meanwhile are answered in parallel, as on a long wire.
	Delay time.Duration

	// KeepBytes keeps the content of each message in memory.
	KeepBytes bool

	// Digest makes the digest of a message's content; default SHA-256.
	Digest func() hash.Hash

	// DigestFrom begins the first line that the digest covers, so that trace
	// fields put before it on the way do not count. Empty, or absent from the
	// first 16 KiB: the digest covers everything.
	DigestFrom string

	// TLS replaces the configuration that Relay makes, for a relay with a wrong
	// certificate or an old version. CA then says nothing about it.
	TLS *tls.Config
}

// Relay is an SMTP server for tests and for the benchmark. It records what it
// is given and misbehaves on request (On). It serves until Close.
type Relay struct {
	opts       RelayOptions
	extensions []string
	tls        *tls.Config
	ca         []byte
	scram      *scram.Server
	faults     faultTable
	counters   counters
	readers    sync.Pool
	writers    sync.Pool

	done     chan struct{}
	serving  sync.WaitGroup
	addr     net.Addr
	implicit net.Addr

	mu        sync.Mutex
	recorded  *sync.Cond
	messages  []RelayMessage
	listeners []relayListener
	kept      []keptAddress // of listeners that are down
	open      map[*session]struct{}
}

// relayListener is a listener with what is spoken on it.
type relayListener struct {
	net.Listener
	implicit bool
}

// NewRelay makes a relay that listens nowhere yet; Serve gives it listeners.
func NewRelay(opts RelayOptions) (*Relay, error) {
	if opts.Name == "" {
		opts.Name = "relay.test"
	}
	if opts.MaxSize == 0 {
		opts.MaxSize = 64 << 20
	}
	if opts.Digest == nil {
		opts.Digest = sha256.New
	}
	if opts.Mechanisms == nil {
		opts.Mechanisms = []string{"SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"}
	}
	r := &Relay{opts: opts, done: make(chan struct{}), open: make(map[*session]struct{})}
	r.recorded = sync.NewCond(&r.mu)
	r.extensions = r.offered()
	r.readers.New = func() any { return bufio.NewReaderSize(nil, 32<<10) }
	r.writers.New = func() any { return bufio.NewWriterSize(nil, 4<<10) }
	if err := r.prepareTLS(); err != nil {
		return nil, err
	}
	if err := r.prepareSCRAM(); err != nil {
		return nil, err
	}
	return r, nil
}

// StartRelay makes a relay that listens on two free ports of 127.0.0.1: Addr
// speaks STARTTLS, ImplicitAddr begins with the TLS handshake.
func StartRelay(opts RelayOptions) (*Relay, error) {
	r, err := NewRelay(opts)
	if err != nil {
		return nil, err
	}
	for _, implicit := range []bool{false, true} {
		// Not MPTCP, Go's default for listeners: it costs the far end of a
		// benchmark, and no relay in the field speaks it.
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("listening for the stand-in relay: %w", err)
		}
		r.Serve(listener, implicit)
	}
	return r, nil
}

// Serve accepts connections from listener until Close, which closes it. With
// implicit set each connection begins with the TLS handshake (RFC 8314).
func (r *Relay) Serve(listener net.Listener, implicit bool) {
	r.mu.Lock()
	r.listeners = append(r.listeners, relayListener{listener, implicit})
	if implicit {
		r.implicit = listener.Addr()
	} else {
		r.addr = listener.Addr()
	}
	r.mu.Unlock()
	r.serving.Add(1)
	go func() { // ends when Close closes the listener, and Close waits for it
		defer r.serving.Done()
		r.accept(listener, implicit)
	}()
}

// Addr is the host:port of the last listener that speaks STARTTLS.
func (r *Relay) Addr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return addressOf(r.addr)
}

// ImplicitAddr is the host:port of the last listener with implicit TLS.
func (r *Relay) ImplicitAddr() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return addressOf(r.implicit)
}

func addressOf(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	return addr.String()
}

// CA is the certificate, in PEM, of the authority that issued the relay's.
func (r *Relay) CA() []byte { return slices.Clone(r.ca) }

// Close closes the listeners and all connections and waits for their ends.
func (r *Relay) Close() error {
	select {
	case <-r.done:
		return nil
	default:
	}
	close(r.done)
	r.mu.Lock()
	var errs []error
	for _, listener := range r.listeners {
		errs = append(errs, listener.Close())
	}
	for _, kept := range r.kept {
		errs = append(errs, kept.socket.Close())
	}
	for s := range r.open {
		s.raw.Close()
	}
	r.mu.Unlock()
	r.serving.Wait()
	return errors.Join(errs...)
}

// DropConnections resets every open connection, as a relay that restarts does.
func (r *Relay) DropConnections() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.open {
		reset(s.raw)
	}
}

func (r *Relay) accept(listener net.Listener, implicit bool) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		s := newSession(r, conn, implicit)
		if !r.admit(s) {
			conn.Close()
			return
		}
		r.serving.Add(1)
		go func() { // ends with its connection, which Close closes
			defer r.serving.Done()
			defer r.dismiss(s)
			s.serve()
		}()
	}
}

func (r *Relay) admit(s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.done:
		return false
	default:
	}
	if len(r.listeners) == 0 {
		return false // it came in as Down closed the door
	}
	r.open[s] = struct{}{}
	s.number = r.counters.connections.Add(1)
	return true
}

func (r *Relay) dismiss(s *session) {
	s.close()
	r.mu.Lock()
	delete(r.open, s)
	r.mu.Unlock()
}

// offered lists the EHLO keywords; STARTTLS and AUTH depend on the session.
func (r *Relay) offered() []string {
	all := []string{
		"PIPELINING", "8BITMIME", "SMTPUTF8", fmt.Sprintf("SIZE %d", r.opts.MaxSize),
		"CHUNKING", "DSN", "ENHANCEDSTATUSCODES",
	}
	return slices.DeleteFunc(all, func(line string) bool {
		keyword, _, _ := strings.Cut(line, " ")
		return !r.offers(keyword)
	})
}

func (r *Relay) offers(keyword string) bool { return !slices.Contains(r.opts.Without, keyword) }

// counters are what RelayCounters shows, counted without a lock.
type counters struct {
	connections, handshakes, auths, authFailures, transactions, flights, faults atomic.Int64
}

package proxy

import (
	"context"
	"errors"
	"math/bits"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/peer"
)

// Role says which listener took a connection, and so how TLS starts on it.
type Role string

// The listeners. A redirected connection is of role Intercepted for policy and
// audit, whichever listener took it.
const (
	Submission  Role = "submission"  // 587, STARTTLS (RFC 6409)
	Submissions Role = "submissions" // 465, implicit TLS (RFC 8314)
	Alternate   Role = "alternate"   // 2525, STARTTLS
	Socket      Role = "socket"      // Unix socket
	Intercepted Role = "intercepted"
)

// Identifier says who is on the other end of a connection, from what the
// kernel knows. It never fails: unknown is a value.
type Identifier interface {
	TCP(*net.TCPConn) peer.Peer
	Unix(*net.UnixConn) peer.Peer
}

// EventLog keeps audit events.
type EventLog interface {
	Write(*audit.Event) error
}

// Options are what a Server is made of.
type Options struct {
	Identifier Identifier
	Events     EventLog
	Throttle   *auth.Throttle // slows those who guess passwords; shared by all sessions
	Runner     *Runner        // delivers what sessions give to the spool
	Warden     *Warden        // limits senders; may be nil
	Logger     *zap.Logger
	Settings   *Settings
}

// Server accepts and serves sessions.
type Server struct {
	identifier Identifier
	events     EventLog
	throttle   *auth.Throttle
	runner     *Runner
	warden     *Warden
	log        *zap.Logger
	settings   atomic.Pointer[Settings]
	attic      *attic
	longHeads  chan struct{} // one element for each long header section being held

	mu         sync.Mutex
	sessions   map[*session]struct{}
	peers      map[string]presence
	listeners  map[net.Listener]struct{}
	turnedAway int // connections since there were too many sessions
	stopping   bool
	running    sync.WaitGroup // sessions
	rest       rest
}

// New makes a server that listens nowhere yet.
func New(options Options) *Server {
	s := &Server{
		identifier: options.Identifier,
		events:     options.Events,
		throttle:   options.Throttle,
		runner:     options.Runner,
		warden:     options.Warden,
		log:        options.Logger.Named("proxy"),
		attic:      newAttic(),
		longHeads:  make(chan struct{}, maxLongHeads),
		sessions:   map[*session]struct{}{},
		peers:      map[string]presence{},
		listeners:  map[net.Listener]struct{}{},
	}
	s.settings.Store(options.Settings)
	s.warden.oversee(s, nil)
	return s
}

// Apply makes settings those of the transactions that begin from now on.
func (s *Server) Apply(settings *Settings) { s.settings.Store(settings) }

// Sessions is how many are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// ErrStopped is what Serve returns after Shutdown.
var ErrStopped = errors.New("server stopped")

// Serve accepts connections until Shutdown, and survives what passes: a client
// that is gone already, or too many open files. The listener is closed when it returns.
func (s *Server) Serve(listener net.Listener, role Role) error {
	defer listener.Close()
	if !s.own(listener) {
		return ErrStopped
	}
	defer s.disown(listener)
	pause := time.Duration(0)
	for {
		conn, err := listener.Accept()
		if err == nil {
			pause = 0
			s.start(conn, role)
			continue
		}
		if s.isStopping() || errors.Is(err, net.ErrClosed) {
			return ErrStopped
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log.Warn("connection not accepted", zap.Error(err), zap.Duration(logfields.Delay, pause))
		time.Sleep(pause)
	}
}

func (s *Server) own(listener net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.listeners[listener] = struct{}{}
	}
	return !s.stopping
}

func (s *Server) disown(listener net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, listener)
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// start gives a connection its session and goroutine, which Shutdown waits for.
func (s *Server) start(conn net.Conn, role Role) {
	settings := s.settings.Load()
	session := s.reserve(conn, role, settings)
	if session == nil {
		s.turnAway(conn, role, settings.HostName)
		return
	}
	s.rest.later()
	go func() {
		defer s.running.Done()
		session.run()
		s.mu.Lock()
		delete(s.sessions, session)
		s.mu.Unlock()
		s.rest.later()
	}()
}

// reserve makes a session, or none while there are too many or none is wanted.
func (s *Server) reserve(conn net.Conn, role Role, settings *Settings) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil
	}
	if len(s.sessions) >= settings.Limits.MaxSessions {
		if s.turnedAway++; milestone(s.turnedAway) > 0 {
			s.log.Warn("too many sessions, connections are turned away", zap.Int(logfields.Count, s.turnedAway))
		}
		return nil
	}
	s.turnedAway = 0
	session := newSession(s, conn, role, settings)
	s.sessions[session] = struct{}{}
	s.running.Add(1)
	return session
}

// turnAway refuses a connection at no cost: the line fits the empty send
// buffer, so writing it cannot block. Where TLS is due there are no words.
func (s *Server) turnAway(conn net.Conn, role Role, host string) {
	if role != Submissions {
		why := " too many connections, try again later"
		if s.isStopping() {
			why = " is shutting down, try again later"
		}
		_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = conn.Write([]byte("421 4.3.2 " + host + why + "\r\n"))
	}
	_ = conn.Close()
}

// presence is what one peer has here.
type presence struct {
	sessions int
	refused  int // connections since there were too many
}

// admit counts a session of a peer, which is given back with leave; or, if it
// has too many, tells how many were refused by now.
func (s *Server) admit(key string, limit int) (refused int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[key]
	if ok = p.sessions < limit; ok {
		p.sessions, p.refused = p.sessions+1, 0
	} else {
		p.refused++
	}
	s.peers[key] = p
	return p.refused, ok
}

func (s *Server) leave(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peers[key]
	if p.sessions--; p.sessions <= 0 {
		delete(s.peers, key)
		return
	}
	s.peers[key] = p
}

// milestone is how many refusals a log line or event stands for, 0 where the
// refusal has none: a flood has one for the first, the second, the fourth and so
// on, and so costs little however long it lasts.
func milestone(n int) int {
	if bits.OnesCount(uint(n)) != 1 {
		return 0
	}
	return n - n/2
}

// Shutdown stops accepting, lets messages that are coming in end, tells all other
// sessions 421 at their next wait for a command, and waits. When ctx ends first,
// the rest are told 421 where they are; their clients have no 250 and keep their
// messages.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	for listener := range s.listeners {
		_ = listener.Close()
	}
	for session := range s.sessions {
		session.drain()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the last session; they were all told to go
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.each((*session).cutOff)
	select {
	case <-done:
	case <-time.After(lastWordsTime):
		s.each(func(session *session) { _ = session.raw.Close() })
		<-done
	}
	return ctx.Err()
}

// lastWordsTime is how long a session that is cut off may take to say so.
const lastWordsTime = time.Second

func (s *Server) each(do func(*session)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		do(session)
	}
}

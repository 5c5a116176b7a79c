package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// commandBuffer holds pipelined commands, and is all that an idle session has
// for reading.
const commandBuffer = 4096

// dataBuffer is what a session has for reading while it receives a message.
const dataBuffer = 32 << 10

// session is one connection, from 220 to close.
type session struct {
	server   *Server
	settings *Settings
	ctx      context.Context // ends when the session is cut off
	cancel   context.CancelFunc
	id       string
	began    time.Time
	role     Role // Intercepted for a redirected connection
	listener Role // the one that took it
	peer     peer.Peer
	peerKey  string // who is counted and slowed
	log      *zap.Logger

	raw    net.Conn // as accepted
	conn   net.Conn // raw, or TLS over it
	tls    *tls.ConnectionState
	reader *smtp.Reader
	out    []byte // replies not yet written

	state       state
	helo        string
	extended    bool   // EHLO, not HELO
	account     string // authenticated as
	loggedIn    bool   // AUTH succeeded, of an account or of a redirected client
	transaction *transaction
	events      int    // audit events written
	trouble     string // why the session was closed, if not by QUIT
	errors      int    // refused commands
	closing     bool   // nothing more is read
	draining    atomic.Bool
	deadline    time.Time
}

func newSession(server *Server, conn net.Conn, role Role) *session {
	now := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	return &session{
		server: server, settings: server.settings.Load(), ctx: ctx, cancel: cancel,
		id: newID(now), began: now, role: role, listener: role,
		raw: conn, conn: conn, log: server.log,
	}
}

// run is the whole life of a session. A panic is a programmer's error: it ends
// this session alone.
func (s *session) run() {
	defer s.end()
	defer func() {
		if failure := recover(); failure != nil {
			s.trouble = "internal error"
			s.log.Error("session panicked", zap.String(logfields.Session, s.id),
				zap.String("panic", fmt.Sprint(failure)), zap.ByteString("stack", debug.Stack()))
		}
	}()
	s.identify()
	buffer := commandBuffers.Get().(*[commandBuffer]byte)
	s.reader = smtp.NewReader(s.conn, buffer[:])
	defer commandBuffers.Put(buffer)
	if !s.server.admit(s.peerKey, s.settings.Limits.MaxSessionsPerPeer) {
		s.peerKey = ""
		s.farewell(421, smtp.EnhancedCode{4, 7, 0}, "too many connections of one sender, try again later")
		return
	}
	if s.listener == Submissions && !s.handshake() {
		return
	}
	s.reply(220, smtp.EnhancedCode{}, s.settings.HostName+" ESMTP smtpwall")
	for !s.closing {
		s.step()
	}
}

// identify asks the kernel about the peer before anything is sent, while the
// client surely lives.
func (s *session) identify() {
	switch conn := s.raw.(type) {
	case *net.TCPConn:
		s.peer = s.server.identifier.TCP(conn)
	case *net.UnixConn:
		s.peer = s.server.identifier.Unix(conn)
	}
	if s.peer.OriginalDst.IsValid() {
		s.role = Intercepted
	}
	if s.peer.Proven {
		s.peerKey = "uid:" + strconv.FormatUint(uint64(s.peer.UID), 10)
		return
	}
	s.peerKey = "address:" + network(s.peer.Remote.Addr())
}

// network is the address, or for IPv6 the /64, all of which one host has.
func network(address netip.Addr) string {
	if address.Is6() && !address.Is4In6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return address.String()
}

// step reads and carries out one command. Replies leave in one write when no
// more commands are waiting (RFC 2920 section 3.2).
func (s *session) step() {
	line, err := s.readLine()
	if err != nil {
		s.readFailed(err)
		return
	}
	command := smtp.ParseCommand(line)
	if len(line)+2 > smtp.MaxCommandLine && command.Verb != smtp.AUTH {
		s.refuse(500, smtp.EnhancedCode{5, 5, 2}, "line too long")
		return
	}
	s.carryOut(command)
	if s.transaction != nil && len(s.transaction.waiting) > 0 && !s.nextIs(smtp.RCPT) {
		s.resolveRecipients()
	}
}

func (s *session) nextIs(verb smtp.Verb) bool {
	return s.reader.HasLine() && smtp.IsVerb(s.reader.Unread(), verb)
}

// readLine reads a command line, after it sent the replies that are due.
func (s *session) readLine() ([]byte, error) {
	if !s.reader.HasLine() {
		if err := s.flush(); err != nil {
			return nil, err
		}
		s.expect(s.settings.Limits.IdleTimeout)
	}
	return s.reader.Line(smtp.MaxAuthLine)
}

// expect allows that long for what is read and written next. Moving a timer
// costs more than it is worth for each command of a fast client.
func (s *session) expect(timeout time.Duration) {
	now := time.Now()
	if deadline := now.Add(timeout); deadline.Sub(s.deadline) > timeout/16 || deadline.Before(s.deadline) {
		s.deadline = deadline
		_ = s.conn.SetDeadline(deadline)
	}
	if s.draining.Load() { // drain may have come before the line above
		_ = s.raw.SetReadDeadline(now)
	}
}

// drain makes the session end at its next wait for a command.
func (s *session) drain() {
	s.draining.Store(true)
	_ = s.raw.SetReadDeadline(time.Now())
}

// readFailed answers a line that could not be read.
func (s *session) readFailed(err error) {
	switch {
	case errors.Is(err, smtp.ErrTooLong):
		s.refuse(500, smtp.EnhancedCode{5, 5, 2}, "line too long")
	case errors.Is(err, smtp.ErrBareCR), errors.Is(err, smtp.ErrBareLF):
		// What follows may be read differently by somebody else (RFC 5321 section 2.3.8).
		s.trouble = err.Error()
		s.farewell(500, smtp.EnhancedCode{5, 5, 2}, err.Error()+" is not allowed, lines end in CRLF")
	case errors.Is(err, os.ErrDeadlineExceeded) && s.draining.Load():
		s.farewell(421, smtp.EnhancedCode{4, 3, 2}, s.settings.HostName+" is shutting down, try again later")
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.trouble = "timeout"
		s.farewell(421, smtp.EnhancedCode{4, 4, 2}, s.settings.HostName+" timeout, closing the connection")
	default:
		if s.state != stateConnected && !errors.Is(err, io.EOF) {
			s.trouble = "connection lost"
		}
		s.closing = true
	}
}

// reply queues a reply of one line.
func (s *session) reply(code int, enhanced smtp.EnhancedCode, text string) {
	s.out = smtp.NewReply(code, enhanced, text).AppendTo(s.out)
}

// refuse queues a refusal, and ends the session after too many.
func (s *session) refuse(code int, enhanced smtp.EnhancedCode, text string) {
	s.reply(code, enhanced, text)
	s.countError()
}

func (s *session) countError() {
	if s.errors++; s.errors >= s.settings.Limits.MaxErrors && !s.closing {
		s.trouble = "too many errors"
		s.farewell(421, smtp.EnhancedCode{4, 7, 0}, s.settings.HostName+" too many errors, closing the connection")
	}
}

// farewell sends a last reply and closes.
func (s *session) farewell(code int, enhanced smtp.EnhancedCode, text string) {
	s.reply(code, enhanced, text)
	s.closing = true
	_ = s.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_ = s.flush()
}

// writeTime is the least that a client has for taking a reply, however long the
// relay thought about it. A 250 that is lost here is a message sent twice.
const writeTime = 30 * time.Second

// flush writes the replies that are due.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	if now := time.Now(); !s.closing && s.deadline.Sub(now) < writeTime {
		_ = s.conn.SetWriteDeadline(now.Add(writeTime))
	}
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	return err
}

// end closes the connection and the books.
func (s *session) end() {
	s.dropTransaction()
	_ = s.flush()
	_ = s.conn.Close()
	s.cancel()
	if s.peerKey != "" {
		s.server.leave(s.peerKey)
	}
	if s.events == 0 && s.trouble != "" {
		s.writeSessionEvent()
	}
}

// OriginalDestination is where a redirected client meant to go. Package certs
// finds it behind the connection of a TLS ClientHello.
func (c redirectedConn) OriginalDestination() netip.AddrPort { return c.destination }

// redirectedConn is a connection with the place that its client dialled.
type redirectedConn struct {
	net.Conn
	destination netip.AddrPort
}

// Buffers that sessions use in turn. Larger ones for data would not help: a TLS
// record is 16 KiB, and is read by one system call.
var (
	commandBuffers = sync.Pool{New: func() any { return new([commandBuffer]byte) }}
	dataBuffers    = sync.Pool{New: func() any { return new([dataBuffer]byte) }}
)

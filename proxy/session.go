package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
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

	raw             net.Conn // as accepted
	conn            net.Conn // raw, or TLS over it
	tls             *tls.ConnectionState
	serverName      string            // that the client asked for, even if the handshake failed then
	certificate     *auth.Certificate // whose key the client proved; nil without, or redirected
	mute            bool              // TLS is due: nothing may be said in clear
	reader          *smtp.Reader
	out             []byte    // replies not yet written
	readBy, writeBy time.Time // the connection's deadlines

	state       state
	helo        string
	extended    bool       // EHLO, not HELO
	account     string     // authenticated as
	login       auth.Login // how
	loggedIn    bool       // AUTH succeeded, of an account or of a redirected client
	transaction *transaction
	meter       meter
	events      int        // audit events written
	trouble     string     // why the session was closed, if not by QUIT
	admitted    bool       // counted as one of its peer's
	refused     int        // connections of this peer that the event stands for
	guesses     int        // failed logins
	lastGuess   auth.Error // why the last one failed
	errors      int        // refused commands since the last message
	deferrals   int        // refusals for now since the last message
	empty       int        // transactions without a recipient since then
	closing     bool       // nothing more is read
	interrupted bool       // the client may still be sending
	draining    atomic.Bool
	expelled    atomic.Bool          // the sender was suspended, and the session cut off
	known       atomic.Pointer[Keys] // of the sender, once somebody has asked
	ruledAs     policy.Ruling        // of the sender, if ruled
	ruled       bool
}

func newSession(server *Server, conn net.Conn, role Role, settings *Settings) *session {
	now := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	return &session{
		server: server, settings: settings, ctx: ctx, cancel: cancel,
		id: spool.NewID(now), began: now, role: role, listener: role,
		raw: conn, conn: conn, mute: role == Submissions, log: server.log,
	}
}

// run is the whole life of a session. Whatever panics in it, the connection is
// closed and counted out, and the transaction has its event.
func (s *session) run() {
	defer s.leave()
	defer s.survive()
	defer s.closeBooks()
	defer s.survive()
	s.identify()
	buffer := commandBuffers.Get().(*[commandBuffer]byte)
	s.reader = smtp.NewReader(source{s}, buffer[:])
	defer commandBuffers.Put(buffer)
	s.serve()
}

func (s *session) serve() {
	if !s.admit() {
		s.farewell(421, smtp.EnhancedCode{4, 7, 0}, s.settings.HostName+" too many connections of one sender, try again later")
		return
	}
	if s.mute && !s.handshake() {
		return
	}
	s.reply(220, smtp.EnhancedCode{}, s.settings.HostName+" ESMTP smtpwall")
	for !s.closing {
		s.step()
	}
}

// survive ends a panic, which is a programmer's error: it costs this session
// alone.
func (s *session) survive() {
	failure := recover()
	if failure == nil {
		return
	}
	s.log.Error("session panicked", zap.String(logfields.Session, s.id),
		zap.String("panic", fmt.Sprint(failure)), zap.ByteString("stack", debug.Stack()))
	s.trouble = "internal error"
	s.farewell(421, smtp.EnhancedCode{4, 3, 0}, s.settings.HostName+" internal error, closing the connection")
}

// admit counts the session as one of its peer's.
func (s *session) admit() bool {
	refused, ok := s.server.admit(s.peerKey, s.settings.Limits.MaxSessionsPerPeer)
	if s.admitted = ok; ok {
		return true
	}
	if s.refused = milestone(refused); s.refused > 0 {
		s.trouble = "too many connections of one peer"
	}
	return false
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
		s.peerKey = s.keys().Identity
		return
	}
	s.senderChanged()
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
	var command smtp.Command
	if err == nil {
		command = smtp.ParseCommand(line)
		if len(line)+2 > smtp.MaxCommandLine && command.Verb != smtp.AUTH {
			err = smtp.ErrTooLong
		}
	}
	if err != nil || command.Verb != smtp.RCPT {
		s.resolveRecipients() // their replies come first
	}
	switch {
	case s.closing:
		return
	case err != nil:
		s.readFailed(err)
		return
	}
	s.carryOut(command)
	if !s.nextIs(smtp.RCPT) {
		s.resolveRecipients()
	}
	if len(s.out) > maxReplies && s.flush() != nil {
		s.closing = true
	}
}

func (s *session) nextIs(verb smtp.Verb) bool {
	return s.reader.HasLine() && smtp.IsVerb(s.reader.Unread(), verb)
}

// closeBooks ends the transaction and sees to the session's event.
func (s *session) closeBooks() {
	why := errLeft
	if s.trouble != "" {
		why = errors.New(s.trouble)
	}
	s.dropTransaction(why)
	if s.guesses > 0 {
		s.server.warden.tell(Alarm{Kind: AlarmLogin, Identity: s.peerKey, Text: strconv.Itoa(s.guesses) + " logins failed in one session"})
	}
	if s.trouble != "" && s.events == 0 || s.guesses > 0 {
		s.writeSessionEvent()
	}
}

// leave closes the connection and counts the session out.
func (s *session) leave() {
	if s.interrupted {
		s.linger()
	}
	_ = s.conn.Close()
	s.cancel()
	if s.admitted {
		s.server.leave(s.peerKey)
	}
}

// Buffers that sessions use in turn. Larger ones for data would not help: a TLS
// record is 16 KiB, and is read by one system call.
var (
	commandBuffers = sync.Pool{New: func() any { return new([commandBuffer]byte) }}
	dataBuffers    = sync.Pool{New: func() any { return new([dataBuffer]byte) }}
)

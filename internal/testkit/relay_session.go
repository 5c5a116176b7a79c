package testkit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// handshakeTime bounds a TLS handshake, so that a test that hangs there fails.
const handshakeTime = 30 * time.Second

// effect is what a command leads to.
type effect uint8

const (
	proceed effect = iota // the command has its usual effect
	refused               // answered, without effect
	over                  // the connection has ended
)

// session is one connection to the relay.
type session struct {
	relay    *Relay
	number   int64
	implicit bool
	raw      net.Conn // what the kernel gave us
	conn     net.Conn // raw, delayed or under TLS
	r        *bufio.Reader
	w        *bufio.Writer

	hello, helloArg string // which greeting verb, with what
	tls             bool
	authUser        string
	transaction     *transaction // nil outside MAIL to end of data
	taken           bool         // the last fault said so: Fault.Taken
}

func newSession(relay *Relay, raw net.Conn, implicit bool) *session {
	s := &session{relay: relay, implicit: implicit, raw: raw, conn: raw}
	s.r = relay.readers.Get().(*bufio.Reader)
	s.w = relay.writers.Get().(*bufio.Writer)
	return s
}

func (s *session) serve() {
	if delay := s.relay.opts.Delay; delay > 0 {
		s.conn = newDelayConn(s.raw, delay, s.relay)
		s.sleep(delay) // the TCP handshake, which the kernel did in no time
	}
	s.r.Reset(s.conn)
	s.w.Reset(s.conn)
	if s.implicit && s.handshake() == over {
		return
	}
	if s.step(StepGreeting, "", "220 "+s.relay.opts.Name+" ESMTP stand-in") == over {
		return
	}
	for {
		line, err := s.readLine()
		if err != nil || s.command(line) == over {
			s.w.Flush()
			return
		}
	}
}

func (s *session) close() {
	s.conn.Close()
	s.r.Reset(nil)
	s.w.Reset(nil)
	s.relay.readers.Put(s.r)
	s.relay.writers.Put(s.w)
}

var errPipelined = errors.New("pipelining was not offered")

// readLine returns the next command without CRLF. What was answered so far
// leaves first, in one write, unless another whole command is there already.
func (s *session) readLine() (string, error) {
	buffered, _ := s.r.Peek(s.r.Buffered())
	if len(buffered) > 0 && s.w.Buffered() > 0 && !s.relay.offers("PIPELINING") {
		s.reply("503 5.5.0 " + errPipelined.Error())
		return "", errPipelined
	}
	if bytes.IndexByte(buffered, '\n') < 0 {
		if err := s.flush(); err != nil {
			return "", err
		}
	}
	line, err := s.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return string(bytes.TrimRight(line, "\r\n")), nil
}

func (s *session) flush() error {
	if s.w.Buffered() == 0 {
		return nil
	}
	s.relay.counters.flights.Add(1)
	return s.w.Flush()
}

// reply queues a usual reply. Its enhanced status code is taken out where
// ENHANCEDSTATUSCODES (RFC 2034) is not offered.
func (s *session) reply(text string) {
	if !s.relay.offers("ENHANCEDSTATUSCODES") {
		text = withoutEnhanced(text)
	}
	s.w.WriteString(text)
	s.w.WriteString("\r\n")
}

// withoutEnhanced turns "250 2.1.0 Ok" into "250 Ok".
func withoutEnhanced(text string) string {
	const code = len("250 ")
	if len(text) < code+6 || text[code+1] != '.' || text[code+3] != '.' {
		return text
	}
	_, rest, _ := strings.Cut(text[code:], " ")
	return text[:code] + rest
}

// step gives the usual reply, or lets the script misbehave in its place.
func (s *session) step(step RelayStep, line, usual string) effect {
	fault, found := s.relay.faults.find(step, line)
	if !found {
		s.reply(usual)
		return proceed
	}
	return s.misbehave(fault, usual)
}

// misbehave does what a fault says; usual is the reply of a sound relay.
func (s *session) misbehave(fault Fault, usual string) effect {
	s.taken = fault.Taken
	s.relay.counters.faults.Add(1)
	switch fault.Act {
	case Answer, Raw:
		s.w.WriteString(fault.octets())
		if strings.HasPrefix(fault.Text, "2") || strings.HasPrefix(fault.Text, "3") {
			return proceed
		}
	case Hangup:
		s.flush()
		s.conn.Close()
		return over
	case Reset:
		s.flush()
		reset(s.raw)
		return over
	case Stall:
		s.flush()
		if !s.stall(fault) {
			return over
		}
		s.reply(usual)
		return proceed
	case Garbage:
		s.w.WriteString("\x00\xff\xfe not a reply \x80\r\n")
	case LongLine:
		s.w.WriteString("250 " + strings.Repeat("x", 1<<20) + "\r\n")
	case ManyLines:
		s.w.WriteString(strings.Repeat("250-more\r\n", 100_000) + "250 end\r\n")
	case Twice:
		s.reply(usual)
		s.reply(usual)
		return proceed
	case Silent:
		return proceed
	}
	return refused
}

// octets are those of an Answer or of a Raw one.
func (f Fault) octets() string {
	if f.Act == Raw {
		return f.Text
	}
	return strings.ReplaceAll(f.Text, "\n", "\r\n") + "\r\n"
}

// stall waits as a fault says and tells whether the session goes on after it.
func (s *session) stall(fault Fault) bool {
	if fault.For > 0 {
		return s.sleep(fault.For)
	}
	select {
	case <-fault.Until: // nil, for which nobody waits: for ever
		return true
	case <-s.relay.done:
		return false
	}
}

// sleep waits and tells whether it was let to.
func (s *session) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.relay.done:
		return false
	}
}

// handshake turns the connection into TLS. What was read before it is dropped.
func (s *session) handshake() effect {
	if fault, found := s.relay.faults.find(StepHandshake, ""); found {
		if s.misbehave(fault, "") == over || fault.Act != Stall {
			s.flush()
			return over
		}
		s.w.Reset(s.conn)
	}
	conn := tls.Server(s.conn, s.relay.tls)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	if conn.HandshakeContext(ctx) != nil {
		return over
	}
	acknowledge(s.raw)
	s.relay.counters.handshakes.Add(1)
	s.conn, s.tls = conn, true
	s.r.Reset(conn)
	s.w.Reset(conn)
	s.hello, s.helloArg, s.authUser, s.transaction = "", "", "", nil
	return proceed
}

// acknowledge sends the ACK of the client's Finished at once. We have nothing
// to say then, and a client with Nagle's algorithm on would hold its EHLO back
// for the 40 ms of a delayed ACK.
func acknowledge(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
}

// reset closes a connection with RST.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

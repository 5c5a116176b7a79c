package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// How long the last words of a session may take.
const (
	farewellTime = 5 * time.Second
	lingerTime   = time.Second
)

// maxReplies is how many octets of replies are gathered for one write. A client
// that pipelines and never reads is bounded by it, and by the write's deadline.
const maxReplies = 16 << 10

// source is the connection as the session's reader sees it. A shutdown ends the
// wait for a command by a read deadline that has passed; a message under way
// may come in.
type source struct{ session *session }

func (in source) Read(p []byte) (int, error) {
	s := in.session
	n, err := s.conn.Read(p)
	if n == 0 && s.draining.Load() && s.ctx.Err() == nil && s.receiving() && errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(s.readBy) {
		_ = s.raw.SetReadDeadline(s.readBy)
		n, err = s.conn.Read(p)
	}
	return n, err
}

// receiving says that a message is coming in.
func (s *session) receiving() bool { return s.transaction != nil && s.transaction.intake != nil }

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

// expect allows that long for what is read next, and no longer than the
// transaction may last. Moving a timer costs more than it is worth for each
// command of a fast client.
func (s *session) expect(timeout time.Duration) {
	now := time.Now()
	deadline := now.Add(timeout)
	if t := s.transaction; t != nil && !t.expires.IsZero() && t.expires.Before(deadline) {
		deadline = t.expires
	}
	if deadline.Sub(s.readBy) > timeout/16 || deadline.Before(s.readBy) {
		s.readBy = deadline
		_ = s.raw.SetReadDeadline(deadline)
	}
	if s.expelled.Load() || s.draining.Load() && (!s.receiving() || s.ctx.Err() != nil) { // these may have come before the line above
		_ = s.raw.SetReadDeadline(now)
	}
}

// drain makes the session end at its next wait for a command. It is called by
// another goroutine.
func (s *session) drain() {
	s.draining.Store(true)
	_ = s.raw.SetReadDeadline(time.Now())
}

// cutOff ends the session where it is: what waits for the relay ends, and what
// waits for the client. It is called by another goroutine.
func (s *session) cutOff() {
	s.cancel()
	_ = s.raw.SetReadDeadline(time.Now())
}

// whyCutOff is the reason of whoever ended the session.
func (s *session) whyCutOff() error {
	if s.expelled.Load() {
		return errSuspended
	}
	return errShutdown
}

// lastWords are what a client hears whose session is cut off (RFC 5321 section
// 3.8).
func (s *session) lastWords() smtp.Reply {
	if s.expelled.Load() {
		return smtp.NewReply(421, smtp.EnhancedCode{4, 7, 1}, s.settings.HostName+" "+textSuspended+", closing the connection")
	}
	return smtp.NewReply(421, smtp.EnhancedCode{4, 3, 2}, s.settings.HostName+" is shutting down, try again later")
}

// flush writes the replies that are due. A client that does not read them is
// waited for as long as one that does not write.
func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	if s.mute {
		s.out = s.out[:0]
		return nil
	}
	timeout := s.settings.Limits.IdleTimeout
	if deadline := time.Now().Add(timeout); deadline.Sub(s.writeBy) > timeout/16 && !s.closing {
		s.writeBy = deadline
		_ = s.raw.SetWriteDeadline(deadline)
	}
	_, err := s.conn.Write(s.out)
	if s.out = s.out[:0]; cap(s.out) > 2*maxReplies {
		s.out = nil
	}
	return err
}

// reply queues a reply of one line.
func (s *session) reply(code int, enhanced smtp.EnhancedCode, text string) {
	s.out = smtp.NewReply(code, enhanced, text).AppendTo(s.out)
}

// refuse queues a refusal.
func (s *session) refuse(code int, enhanced smtp.EnhancedCode, text string) {
	s.refuseWith(smtp.NewReply(code, enhanced, text))
}

// refuseWith queues a refusal of ours, and ends the session after too many that
// are the client's fault. What the relay refuses does not come here: it keeps
// its own accounts.
func (s *session) refuseWith(reply smtp.Reply) {
	s.out = reply.AppendTo(s.out)
	if reply.Permanent() {
		s.countError()
	}
}

// countError counts what the client did wrong since its last message was taken.
func (s *session) countError() {
	if s.errors++; s.errors >= s.settings.Limits.MaxErrors && !s.closing {
		s.trouble = "too many errors"
		s.hangUp(421, smtp.EnhancedCode{4, 7, 0}, s.settings.HostName+" too many errors, closing the connection")
	}
}

// farewell sends a last reply and closes.
func (s *session) farewell(code int, enhanced smtp.EnhancedCode, text string) {
	s.reply(code, enhanced, text)
	s.closing = true
	_ = s.raw.SetWriteDeadline(time.Now().Add(farewellTime))
	_ = s.flush()
}

// hangUp is a farewell to a client that may be in the middle of a sentence.
func (s *session) hangUp(code int, enhanced smtp.EnhancedCode, text string) {
	s.farewell(code, enhanced, text)
	s.interrupted = true
}

// linger drops, for a moment, what the client still sends. To close a socket
// with unread octets resets the connection, and the client would see that in
// place of our reason.
func (s *session) linger() {
	if conn, ok := s.conn.(*tls.Conn); ok {
		_ = conn.CloseWrite()
	}
	half, ok := s.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = s.raw.SetReadDeadline(time.Now().Add(lingerTime))
	if s.draining.Load() { // drain may have come before the line above
		return
	}
	_, _ = io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{s.raw}, make([]byte, commandBuffer))
}

// onlyReader and onlyWriter keep io.CopyBuffer from ways that ignore the buffer.
type onlyReader struct{ io.Reader }

type onlyWriter struct{ io.Writer }

// readFailed answers what could not be read.
func (s *session) readFailed(err error) {
	switch {
	case errors.Is(err, smtp.ErrTooLong):
		s.refuse(500, smtp.EnhancedCode{5, 5, 2}, "line too long")
	case errors.Is(err, smtp.ErrBareCR), errors.Is(err, smtp.ErrBareLF):
		// What follows may be read differently by somebody else (RFC 5321 section 2.3.8).
		s.trouble = err.Error()
		s.hangUp(500, smtp.EnhancedCode{5, 5, 2}, err.Error()+" is not allowed, lines end in CRLF")
	case errors.Is(err, smtp.ErrEndless):
		s.trouble = err.Error()
		s.hangUp(500, smtp.EnhancedCode{5, 5, 2}, err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded) && (s.draining.Load() || s.expelled.Load()):
		s.dropTransaction(s.whyCutOff())
		last := s.lastWords()
		s.farewell(last.Code, last.Enhanced, last.Text())
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

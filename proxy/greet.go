package proxy

import (
	"strconv"
	"strings"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// ehlo is RFC 5321 section 4.1.1.1. It ends a transaction under way.
func (s *session) ehlo(c smtp.Command) {
	s.dropTransaction(errNewGreeting)
	s.helo, s.extended, s.state = c.Arg, true, stateGreeted
	s.out = smtp.Reply{Code: 250, Lines: s.extensions()}.AppendTo(s.out)
}

func (s *session) heloOnly(c smtp.Command) {
	s.dropTransaction(errNewGreeting)
	s.helo, s.extended, s.state = c.Arg, false, stateGreeted
	s.reply(250, smtp.EnhancedCode{}, s.settings.HostName)
}

// extensions are those that the relays honour or that we honour for them.
func (s *session) extensions() []string {
	caps := s.settings.capabilities()
	lines := []string{s.settings.HostName, "PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES",
		"SIZE " + strconv.FormatInt(caps.MaxSize, 10)}
	if caps.EightBitMIME {
		lines = append(lines, "8BITMIME")
	}
	if caps.UTF8 {
		lines = append(lines, "SMTPUTF8")
	}
	if caps.DSN {
		lines = append(lines, "DSN")
	}
	if s.mayStartTLS() {
		lines = append(lines, "STARTTLS")
	}
	if mechanisms := s.mechanisms(); len(mechanisms) > 0 {
		lines = append(lines, "AUTH "+strings.Join(mechanisms, " "))
	}
	return lines
}

func (s *session) mayStartTLS() bool { return s.tls == nil && s.listener != Socket }

func checkStartTLS(s *session, c smtp.Command) (smtp.Reply, bool) {
	if c.Arg != "" {
		return smtp.NewReply(501, badSyntax, "STARTTLS takes no argument"), true
	}
	return sequence("TLS is on already, or not offered here"), !s.mayStartTLS()
}

// startTLS is RFC 3207. What the client sent behind the command in clear could
// be somebody else's words: the session is not trusted to go on.
func (s *session) startTLS(smtp.Command) {
	if len(s.reader.Unread()) > 0 {
		s.trouble = "data after STARTTLS"
		s.hangUp(503, badSequence, "nothing may follow STARTTLS before the handshake")
		return
	}
	s.reply(220, smtp.EnhancedCode{2, 0, 0}, "ready for TLS")
	if s.flush() != nil || !s.handshake() {
		s.closing = true
		return
	}
	// Everything that was said in clear is forgotten (RFC 3207 section 4.2).
	s.state, s.helo, s.extended = stateConnected, "", false
	s.logOut()
	s.senderChanged()
}

func (s *session) noop(smtp.Command) { s.reply(250, smtp.EnhancedCode{2, 0, 0}, "ok") }

// rset is RFC 5321 section 4.1.1.5.
func (s *session) rset(smtp.Command) {
	s.dropTransaction(errReset)
	s.reply(250, smtp.EnhancedCode{2, 0, 0}, "ok")
}

// vrfy tells nothing about who exists (RFC 5321 section 7.3), in the words of
// section 3.5.3.
func (s *session) vrfy(smtp.Command) {
	s.reply(252, smtp.EnhancedCode{2, 5, 0}, "cannot verify, but will accept a message and try to deliver it")
}

func (s *session) expn(smtp.Command) {
	s.refuse(502, smtp.EnhancedCode{5, 5, 1}, "EXPN is not available")
}

func (s *session) help(smtp.Command) {
	s.out = smtp.Reply{Code: 214, Enhanced: smtp.EnhancedCode{2, 0, 0}, Lines: []string{
		"smtpwall: mail of this host leaves through its approved relay",
		"EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT",
		"refusals name the reason and the id of the event that `smtpwall log` shows",
	}}.AppendTo(s.out)
}

func (s *session) quit(smtp.Command) {
	s.dropTransaction(errQuit)
	s.farewell(221, smtp.EnhancedCode{2, 0, 0}, s.settings.HostName+" closing the connection")
}

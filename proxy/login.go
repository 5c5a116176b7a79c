package proxy

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// authenticator begins SASL exchanges: the accounts, or what takes any
// credential of a client that meant to log in somewhere else.
type authenticator interface {
	Mechanisms() []string
	Begin(mechanism string, initial []byte) (*auth.Exchange, error)
}

// authenticator is nil where AUTH is not offered at all.
func (s *session) authenticator() authenticator {
	switch {
	case s.role == Intercepted:
		return auth.AcceptAny{}
	case s.settings.Accounts != nil:
		return s.settings.Accounts.For(s.certificate)
	}
	return nil
}

// mechanisms are those to offer now: none in clear, unless configured.
func (s *session) mechanisms() []string {
	authenticator := s.authenticator()
	if authenticator == nil || s.loggedIn || s.tls == nil && !s.settings.AuthWithoutTLS {
		return nil
	}
	return authenticator.Mechanisms()
}

func checkAuth(s *session, c smtp.Command) (smtp.Reply, bool) {
	switch {
	case !s.extended || s.authenticator() == nil:
		return smtp.NewReply(502, badSequence, "AUTH is not available here"), true
	case s.loggedIn:
		return sequence("already authenticated"), true // RFC 4954 section 4
	case s.tls == nil && !s.settings.AuthWithoutTLS:
		return smtp.NewReply(538, smtp.EnhancedCode{5, 7, 11}, "AUTH needs TLS first"), true
	case c.Arg == "":
		return smtp.NewReply(501, badSyntax, "AUTH needs a mechanism"), true
	}
	return smtp.Reply{}, false
}

// authenticate is RFC 4954 section 4. Who failed before waits before he is
// looked at.
func (s *session) authenticate(c smtp.Command) {
	if !s.pause(s.server.throttle.Delay(s.peerKey, time.Now())) {
		return
	}
	login, err := s.exchange(c.Arg)
	var refusal auth.Error
	switch {
	case err == nil:
		s.account, s.login, s.loggedIn = login.Account, login, true
		s.senderChanged()
		s.reply(235, smtp.EnhancedCode{2, 7, 0}, "authentication succeeded")
	case errors.As(err, &refusal):
		if s.role != Intercepted && refusal.Failed() {
			s.server.throttle.Fail(s.peerKey, time.Now())
			s.guesses++
			s.lastGuess = refusal
		}
		code, enhanced := refusal.Reply()
		s.refuse(code, enhanced, refusal.Error())
	default:
		s.readFailed(err)
	}
}

// logOut forgets who the client said it was; what it showed in the handshake
// stays.
func (s *session) logOut() {
	s.account, s.login, s.loggedIn = "", auth.Login{}, false
}

// pause waits with the replies so far sent; false if the session was cut off.
func (s *session) pause(delay time.Duration) bool {
	if delay == 0 {
		return true
	}
	if err := s.flush(); err != nil {
		s.closing = true
		return false
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		s.dropTransaction(s.whyCutOff())
		last := s.lastWords()
		s.farewell(last.Code, last.Enhanced, last.Text())
		return false
	}
}

// exchange runs the SASL dialogue. An error of package auth is a refusal; any
// other is the connection's.
func (s *session) exchange(arg string) (login auth.Login, err error) {
	mechanism, initial, found := strings.Cut(arg, " ")
	var first []byte
	if found {
		if first, err = auth.Decode([]byte(strings.TrimSpace(initial))); err != nil {
			return auth.Login{}, err
		}
	}
	exchange, err := s.authenticator().Begin(strings.ToUpper(mechanism), first)
	if err != nil {
		return auth.Login{}, err
	}
	var response []byte
	for {
		challenge, done, err := exchange.Next(s.ctx, response)
		if err != nil || done {
			return exchange.Login(), err
		}
		s.reply(334, smtp.EnhancedCode{}, base64.StdEncoding.EncodeToString(challenge))
		line, err := s.readLine()
		if err != nil {
			return auth.Login{}, saslLineError(err)
		}
		if response, err = auth.Decode(line); err != nil {
			return auth.Login{}, err
		}
	}
}

// saslLineError makes a response that is too long a refusal (RFC 4954 section 4).
func saslLineError(err error) error {
	if errors.Is(err, smtp.ErrTooLong) {
		return auth.ErrTooLong
	}
	return err
}

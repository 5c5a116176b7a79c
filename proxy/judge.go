package proxy

import (
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// identity is who policy decides about: what the kernel proved and the account
// that AUTH verified. What a redirected client claims is not in it.
func (s *session) identity() policy.Identity {
	return policy.Identity{
		Proven:    s.peer.Proven,
		UID:       s.peer.UID,
		User:      s.peer.User,
		Groups:    s.peer.Groups,
		Unit:      s.peer.Unit,
		Container: s.peer.Container,
		Placed:    s.peer.CGroup != "",
		Account:   s.account,
	}
}

// ruling is what the rules come to for the session's sender. They are gone
// through once, since neither it nor they change within a session but by a
// login.
func (s *session) ruling() *policy.Ruling {
	if !s.ruled {
		s.ruledAs, s.ruled = s.settings.Policy.For(s.identity(), string(s.role)), true
	}
	return &s.ruledAs
}

// senderChanged is called when the sender is known better, or less.
func (s *session) senderChanged() {
	s.ruled = false
	s.known.Store(KeysOf(s.keptIdentity())) // who suspends it must find it
}

func (s *session) judgeSender(reversePath string) policy.Decision {
	return s.ruling().Sender(reversePath)
}

func (s *session) judgeRecipient(address string) policy.Decision {
	return s.ruling().Recipient(address)
}

func (s *session) judgeHeader(header []byte) policy.Decision {
	return s.ruling().Header(header)
}

// denial is the reply to what policy refuses. Where a password would tell us
// who it is, the reply asks for one (RFC 4954 section 6).
func (s *session) denial(d policy.Decision) smtp.Reply {
	if d.Reason == policy.ReasonUnknown {
		switch {
		case len(s.mechanisms()) > 0:
			return s.mark(smtp.NewReply(530, smtp.EnhancedCode{5, 7, 0}, "authentication required"))
		case s.settings.Accounts != nil && s.mayStartTLS(): // RFC 3207 section 4
			return s.mark(smtp.NewReply(530, smtp.EnhancedCode{5, 7, 0}, "must issue STARTTLS first, and authenticate"))
		case s.settings.Accounts != nil && s.tls != nil && !s.loggedIn: // with certificates alone, and this client has none of them
			return s.mark(smtp.NewReply(530, smtp.EnhancedCode{5, 7, 0},
				"authentication required: show the client certificate of an account in the TLS handshake, and use AUTH EXTERNAL"))
		}
	}
	if d.Result == policy.Defer {
		return s.mark(smtp.NewReply(450, smtp.EnhancedCode{4, 7, 1}, ruled(d)+", try again later"))
	}
	return s.mark(smtp.NewReply(550, smtp.EnhancedCode{5, 7, 1}, ruled(d)))
}

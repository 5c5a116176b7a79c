package proxy

import (
	"cmp"
	"crypto/tls"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/policy"
)

// sessionEvent is what is known about the session, for every event.
func (s *session) sessionEvent(kind audit.Kind) *audit.Event {
	event := &audit.Event{
		Time: time.Now(), Kind: kind, Session: s.id, Listener: string(s.role),
		PeerUser: s.peer.User, PeerPID: s.peer.PID, PeerExe: s.peer.Exe,
		PeerUnit: s.peer.Unit, PeerContainer: s.peer.Container,
		Source: s.peer.Remote, OrigDst: s.peer.OriginalDst, TLSName: s.serverName, AuthID: s.account,
		Duration: time.Since(s.began),
	}
	if s.peer.Proven {
		event.PeerUID = audit.KnownUID(s.peer.UID)
	}
	if s.tls != nil {
		event.TLSVersion = tls.VersionName(s.tls.Version)
	}
	if s.certificate != nil {
		event.ClientCertificate = s.certificate.Fingerprint.String()
	}
	return event
}

// writeTransactionEvent writes the one event of a transaction.
func (s *session) writeTransactionEvent(t *transaction) {
	event := s.sessionEvent(audit.KindTransaction)
	event.Txn, event.Duration = t.id, time.Since(t.began)
	event.ReversePath = t.envelope.ReversePath
	if event.ReversePath == "" {
		event.ReversePath = audit.NullReversePath
	}
	event.Recipients, event.RcptCount = t.offered, t.count
	decision := t.decision
	if t.denied != nil && len(t.envelope.Recipients) == 0 {
		decision = *t.denied
	}
	event.Decision, event.Reason, event.Rule = decision.Result.String(), decision.Reason, decision.Rule
	if t.parked.Hold != "" && decision.Result == policy.Allow {
		event.Decision, event.Reason = policy.Hold.String(), t.parked.Reason
	}
	event.Identity, event.Limit, event.Until = s.keys().Identity, t.full, t.opens
	if t.intake != nil {
		event.Size = t.intake.size
	}
	event.Relay, event.RelayReply, event.Custody = t.relay, t.outcome.relay, t.outcome.custody
	event.PossibleDuplicate = t.outcome.duplicate
	event.ReplyCode, event.EnhancedCode = t.outcome.reply.Code, t.outcome.reply.Enhanced.String()
	if t.outcome.err != nil {
		event.Error = t.outcome.err.Error()
	}
	s.write(event)
}

// writeSessionEvent tells of a session that came to no transaction because
// something was wrong with it, or in which somebody guessed at a password.
func (s *session) writeSessionEvent() {
	event := s.sessionEvent(audit.KindSession)
	event.Error, event.Count = cmp.Or(s.trouble, s.failedLogin()), uint64(s.refused)
	s.write(event)
}

// failedLogin says why of a certificate, which is somebody's to put right; of a
// password there is no more to say.
func (s *session) failedLogin() string {
	const failed = "authentication failed"
	switch s.lastGuess {
	case auth.ErrUnknownCertificate, auth.ErrExpired, auth.ErrNotYetValid:
		return failed + ": " + s.lastGuess.Error()
	}
	return failed
}

func (s *session) write(event *audit.Event) {
	s.events++
	if err := s.server.events.Write(event); err != nil {
		s.log.Error("audit event not written", zap.String(logfields.Session, s.id),
			zap.String(logfields.Txn, event.Txn), zap.Error(err))
	}
}

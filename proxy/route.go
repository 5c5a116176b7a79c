package proxy

import (
	"errors"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// openDelivery opens the way that the message takes, or says why there is none.
func (s *session) openDelivery() (refusal smtp.Reply) {
	t := s.transaction
	if s.settings.Relays.empty() {
		t.delivery = newHoldDelivery(s)
		return smtp.Reply{}
	}
	failure := t.outcome.err
	for len(t.untried) > 0 {
		pool := t.untried[0]
		t.untried = t.untried[1:]
		begun, err := pool.Begin(s.ctx, s.peerKey, t.envelope.ReversePath, t.envelope.Params)
		if err != nil {
			failure = err
			continue
		}
		if reply, bad := unfit(t.envelope.Params, begun.Capabilities()); bad {
			begun.Abort()
			return s.mark(reply)
		}
		t.relay, t.delivery = pool.Name(), relayDelivery{begun}
		return smtp.Reply{}
	}
	t.outcome.err = failure
	return s.mark(relayFailure(failure))
}

// unfit says what the relay cannot carry. It was not announced before, but a
// relay may change, and one of several may differ.
func unfit(params smtp.MailParams, caps relay.Capabilities) (smtp.Reply, bool) {
	switch {
	case params.UTF8 && !caps.UTF8: // RFC 6531 section 3.5
		return smtp.NewReply(550, smtp.EnhancedCode{5, 6, 7}, "the relay does not support SMTPUTF8"), true
	case params.Body == "8BITMIME" && !caps.EightBitMIME: // RFC 6152 section 3
		return smtp.NewReply(554, smtp.EnhancedCode{5, 6, 3}, "the relay does not support 8BITMIME"), true
	}
	return smtp.Reply{}, false
}

func asRelayError(err error) *relay.Error {
	var failure *relay.Error
	if errors.As(err, &failure) {
		return failure
	}
	return nil
}

// relayFailure is the reply when no relay takes the message now.
func relayFailure(err error) smtp.Reply {
	if failure := asRelayError(err); failure != nil {
		return failure.ClientReply()
	}
	return smtp.NewReply(451, smtp.EnhancedCode{4, 3, 5}, "no relay is available for this message, try again later")
}

// newHoldDelivery keeps the message until a relay is approved.
func newHoldDelivery(s *session) delivery {
	t := s.transaction
	s.log.Debug("no relay is configured, message will be held", zap.String(logfields.Txn, t.id))
	return &holdDelivery{spool: s.settings.Spool, entry: func() spool.Entry { return s.spoolEntry(t) }}
}

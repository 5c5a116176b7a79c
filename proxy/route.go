package proxy

import (
	"errors"

	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// openDelivery opens the way that the message takes: the first relay that can
// be had, or the spool. Nothing but a message that the relay cannot carry is
// refused here.
func (s *session) openDelivery() (refusal smtp.Reply) {
	t := s.transaction
	switch {
	case t.parked.Hold != "":
		t.delivery = s.newParked()
		return smtp.Reply{}
	case s.settings.Relays.empty():
		t.delivery = s.newHold()
		return smtp.Reply{}
	case s.settings.QueueFirst:
		t.delivery = s.newQueued()
		return smtp.Reply{}
	}
	for len(t.untried) > 0 {
		pool := t.untried[0]
		t.untried = t.untried[1:]
		begun, err := pool.BeginWithin(s.ctx, s.settings.Limits.RelayPatience, s.keys().Identity, t.envelope.ReversePath, t.envelope.Params)
		if err != nil {
			t.failure = err
			continue
		}
		if reply, bad := unfit(t.envelope.Params, begun.Capabilities()); bad {
			begun.Abort()
			return s.mark(reply)
		}
		t.relay, t.delivery = pool.Name(), &relayDelivery{session: s, transaction: t, relay: begun}
		return smtp.Reply{}
	}
	if t.failure == nil {
		t.failure = errNoRoute
	}
	t.delivery = s.newKept(t.failure)
	return smtp.Reply{}
}

// errNoRoute is for a rule whose relay is not there.
var errNoRoute = errors.New("no relay is configured for this message")

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

package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// releaseAttempt is one try to deliver one held message.
type releaseAttempt struct {
	settings  *Settings
	entry     spool.Entry
	away      map[string]bool // the ways, by a rule's relay, that led nowhere just now
	began     time.Time
	decision  policy.Decision
	relay     string
	offered   []audit.Recipient
	kept      []smtp.Recipient // not served
	permanent bool             // trying again will not help
	refusal   smtp.Reply       // of a recipient
	reply     smtp.Reply       // the relay's last
	err       error
}

func (a *releaseAttempt) custody() string {
	if failure := asRelayError(a.err); failure != nil && failure.Unknown {
		return audit.CustodyUnknown
	}
	if len(a.kept) > 0 {
		return audit.CustodySpool
	}
	return audit.CustodyRelay
}

// keepAll leaves the message as it is.
func (a *releaseAttempt) keepAll(permanent bool) {
	a.kept, a.permanent = a.entry.Envelope.Recipients, permanent
}

// errAway says that a message was not tried, since nobody would take it.
var errAway = errors.New("no relay can be used now")

// deliver asks policy anew and hands the message to a relay. After an error the
// message is to be tried again.
func (a *releaseAttempt) deliver(ctx context.Context, message io.Reader) error {
	head, err := a.judge(message)
	if err != nil || a.decision.Result != policy.Allow {
		return err
	}
	if a.away[a.decision.Relay] {
		return errAway
	}
	transaction, err := a.begin(ctx)
	if transaction != nil {
		defer transaction.Abort()
		err = a.transfer(ctx, transaction, io.MultiReader(bytes.NewReader(head), message))
	}
	if failure := asRelayError(err); failure != nil && !failure.Lent() {
		a.away[a.decision.Relay] = true
	}
	return err
}

// judge puts the message to the policy in force, as if it came now. It returns
// what it read of the message.
func (a *releaseAttempt) judge(message io.Reader) (head []byte, err error) {
	id, listener := identityOf(a.entry.Identity), a.entry.Identity.Listener
	rules := a.settings.Policy
	if a.decision = rules.Sender(id, listener, a.entry.Envelope.ReversePath); a.decision.Result != policy.Allow {
		return nil, nil
	}
	for _, rcpt := range a.entry.Envelope.Recipients {
		if d := rules.Recipient(id, listener, rcpt.Address); d.Result != policy.Allow {
			a.decision = d
			return nil, nil
		}
	}
	if !a.decision.CheckHeader {
		return nil, nil
	}
	head = make([]byte, maxHeader)
	n, err := io.ReadFull(message, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	end := smtp.HeaderEnd(head, 0)
	if end < 0 {
		end = n
	}
	if d := rules.Header(id, listener, head[:end]); d.Result != policy.Allow {
		a.decision = d
	}
	return head, nil
}

// begin opens a transaction with the first relay that can be used. It gives
// none and no error if the relay cannot carry the message.
func (a *releaseAttempt) begin(ctx context.Context) (*relay.Transaction, error) {
	var failure error
	for _, pool := range a.settings.Relays.route(a.decision.Relay) {
		transaction, err := pool.Begin(ctx, releaseHolder, a.entry.Envelope.ReversePath, a.entry.Envelope.Params)
		if err != nil {
			failure = err
			continue
		}
		a.relay = pool.Name()
		if reply, bad := unfit(a.entry.Envelope.Params, transaction.Capabilities()); bad {
			transaction.Abort()
			a.reply = reply
			return nil, nil
		}
		return transaction, nil
	}
	return nil, failure
}

// transfer hands envelope and message over.
func (a *releaseAttempt) transfer(ctx context.Context, transaction *relay.Transaction, message io.Reader) error {
	replies, err := transaction.Recipients(ctx, a.entry.Envelope.Recipients)
	if err != nil {
		return err
	}
	refused, permanent := a.sort(replies)
	if len(refused) == len(replies) {
		a.kept, a.permanent = refused, permanent
		return nil
	}
	if _, err := io.Copy(bodyWriter{transaction}, message); err != nil {
		return err
	}
	reply, err := transaction.Finish()
	if err != nil {
		return err
	}
	if a.reply = reply; !reply.Positive() {
		a.keepAll(relay.ForClient(reply).Permanent())
		return nil
	}
	a.kept, a.permanent = refused, permanent
	return nil
}

// sort finds the recipients that the relay did not take, and whether all of
// those are refused for good.
func (a *releaseAttempt) sort(replies []smtp.Reply) (refused []smtp.Recipient, permanent bool) {
	permanent = true
	for i, reply := range replies {
		rcpt := a.entry.Envelope.Recipients[i]
		if len(a.offered) < audit.MaxRecipients {
			a.offered = append(a.offered, audit.Recipient{Address: rcpt.Address, ReplyCode: reply.Code})
		}
		if !reply.Positive() {
			refused = append(refused, rcpt)
			permanent = permanent && reply.Permanent()
			a.refusal, a.reply = reply, reply
		}
	}
	return refused, permanent
}

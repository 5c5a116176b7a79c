package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// releaseInterval is how long held messages wait after a relay did not take them.
const releaseInterval = time.Minute

// releaseHolder is who holds the relay connections of held messages.
const releaseHolder = "spool"

// Releaser delivers held messages once a relay is configured: at each new
// configuration, at the start, and again each minute what met a transient
// failure. A message leaves the spool only after the relay took custody for
// every recipient; what it refused for good stays, for a person to see.
type Releaser struct {
	spool  *spool.Spool
	events EventLog
	log    *zap.Logger
	wake   chan struct{}
	cancel context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	settings *Settings
	refused  map[string]bool // by the settings in force: not tried again
}

// NewReleaser starts the goroutine that delivers; Stop waits for it. It does
// nothing before Apply.
func NewReleaser(from *spool.Spool, events EventLog, log *zap.Logger) *Releaser {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Releaser{
		spool: from, events: events, log: log.Named("release"),
		wake: make(chan struct{}, 1), cancel: cancel, ended: make(chan struct{}),
	}
	go r.run(ctx)
	return r
}

// Apply puts new settings in force and tries all held messages with them.
func (r *Releaser) Apply(settings *Settings) {
	r.mu.Lock()
	r.settings, r.refused = settings, map[string]bool{}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // a wake-up is waiting already
	}
}

// Stop ends the delivery under way and waits for it. The message stays held.
func (r *Releaser) Stop(context.Context) error {
	r.cancel()
	<-r.ended
	return nil
}

func (r *Releaser) run(ctx context.Context) {
	defer close(r.ended)
	again := time.NewTicker(releaseInterval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-again.C:
		}
		r.pass(ctx)
	}
}

// pass tries every held message, the oldest first, until the relays are found
// to be away.
func (r *Releaser) pass(ctx context.Context) {
	r.mu.Lock()
	settings := r.settings
	r.mu.Unlock()
	if settings == nil || settings.Relays.empty() {
		return
	}
	entries, err := r.spool.List()
	if err != nil {
		r.log.Error("held messages cannot all be read", zap.Error(err))
	}
	for _, entry := range entries {
		if ctx.Err() != nil || r.isRefused(entry.ID) {
			continue
		}
		if err := r.release(ctx, settings, entry); err != nil {
			r.log.Warn("held messages stay, no relay takes them now", zap.Error(err))
			return
		}
	}
}

func (r *Releaser) isRefused(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused[id]
}

// release delivers one message. The error is about the relays, not about the
// message.
func (r *Releaser) release(ctx context.Context, settings *Settings, entry spool.Entry) error {
	message, err := r.spool.Read(entry.ID)
	if err != nil {
		r.log.Error("held message cannot be read", zap.String(logfields.Txn, entry.ID), zap.Error(err))
		return nil
	}
	defer func() { _ = message.Close() }()
	attempt := &releaseAttempt{settings: settings, entry: entry, began: time.Now()}
	err = attempt.deliver(ctx, message)
	r.writeEvent(attempt)
	if err != nil {
		return err
	}
	r.settle(attempt)
	return nil
}

// settle removes what was delivered, and the recipients that were served from
// what was delivered in part. A crash before it repeats a delivery, which is
// better than losing one.
func (r *Releaser) settle(a *releaseAttempt) {
	var err error
	switch len(a.kept) {
	case 0:
		err = r.spool.Remove(a.entry.ID)
	case len(a.entry.Envelope.Recipients):
		r.keep(a.entry.ID, a.permanent)
	default:
		err = r.spool.Rewrite(a.entry.ID, func(entry *spool.Entry) {
			entry.Reason, entry.Envelope.Recipients = a.reply.String(), a.kept
		})
		r.keep(a.entry.ID, a.permanent)
	}
	if err != nil {
		r.log.Error("delivered message could not be taken from the spool, it may be sent again",
			zap.String(logfields.Txn, a.entry.ID), zap.Error(err))
	}
}

// keep leaves a message where it is, until the next try or, if a relay refused
// it for good, the next configuration.
func (r *Releaser) keep(id string, permanent bool) {
	if !permanent {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused[id] = true
}

func (r *Releaser) writeEvent(a *releaseAttempt) {
	event := &audit.Event{
		Time: time.Now(), Kind: audit.KindTransaction, Txn: a.entry.ID, Listener: a.entry.Identity.Listener,
		PeerUser: a.entry.Identity.User, PeerUnit: a.entry.Identity.Unit, PeerContainer: a.entry.Identity.Container,
		AuthID: a.entry.Identity.Account, ReversePath: a.entry.Envelope.ReversePath, Recipients: a.offered,
		RcptCount: len(a.entry.Envelope.Recipients), Size: a.entry.Size, Decision: a.decision.Result.String(),
		Reason: a.decision.Reason, Rule: a.decision.Rule, Relay: a.relay, RelayReply: a.reply.String(),
		Custody: a.custody(), Duration: time.Since(a.began),
	}
	if event.ReversePath == "" {
		event.ReversePath = audit.NullReversePath
	}
	if uid := a.entry.Identity.UID; uid != nil {
		event.PeerUID = audit.KnownUID(*uid)
	}
	if a.err != nil {
		event.Error = a.err.Error()
	}
	if err := r.events.Write(event); err != nil {
		r.log.Error("audit event not written", zap.String(logfields.Txn, event.Txn), zap.Error(err))
	}
}

// releaseAttempt is one try to deliver one held message.
type releaseAttempt struct {
	settings  *Settings
	entry     spool.Entry
	began     time.Time
	decision  policy.Decision
	relay     string
	offered   []audit.Recipient
	kept      []smtp.Recipient // not served
	permanent bool             // trying again will not help
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

// deliver asks policy anew and hands the message to a relay. The error says
// that no relay can be used now.
func (a *releaseAttempt) deliver(ctx context.Context, message io.Reader) error {
	a.keepAll(true)
	head, err := a.judge(message)
	if err != nil || a.decision.Result != policy.Allow {
		a.err = err
		return nil
	}
	transaction, err := a.begin(ctx)
	if transaction == nil {
		a.err = err
		return err
	}
	defer transaction.Abort()
	err = a.transfer(ctx, transaction, io.MultiReader(bytes.NewReader(head), message))
	a.err = err
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
	head = make([]byte, maxHeader)
	n, err := io.ReadFull(message, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	if a.decision.CheckHeader {
		end := smtp.HeaderEnd(head, 0)
		if end < 0 {
			end = n
		}
		if d := rules.Header(id, listener, head[:end]); d.Result != policy.Allow {
			a.decision = d
		}
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
		return nil // the file failed, not the relay: the message stays
	}
	reply, err := transaction.Finish()
	if err != nil {
		a.permanent = false
		return err
	}
	if a.reply = reply; !reply.Positive() {
		a.keepAll(reply.Permanent())
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
			a.reply = reply
		}
	}
	return refused, permanent
}

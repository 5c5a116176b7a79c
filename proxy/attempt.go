package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/queue"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// attempt is one try to deliver one message of the spool.
type attempt struct {
	runner   *Runner
	settings *Settings
	next     queue.Item // what goes back into the queue
	began    time.Time

	message  *spool.Message
	item     spool.Item
	due      []due       // not served before this try
	stuck    []spool.Due // refused for good before, and nobody was told
	decision policy.Decision

	relay  string
	active bool       // so the spool has it
	noDSN  bool       // the relay knows nothing of notices
	reply  smtp.Reply // the relay's last
	err    error      // why there was none
}

// due is a recipient that still waits for the message.
type due struct {
	spool.Due
	smtp.Recipient
	fate     fate
	code     int               // of the relay's reply in this try, 0 if it was not asked
	enhanced smtp.EnhancedCode // of it
	expired  bool              // it waited for too long
}

// fate is what a try came to for one recipient.
type fate uint8

const (
	later  fate = iota // to be tried again
	served             // the relay has the message
	failed             // refused for good
)

func newAttempt(r *Runner, item queue.Item) *attempt {
	return &attempt{runner: r, settings: r.settings.Load(), next: item, began: time.Now()}
}

// run makes the try; true if the message goes back into the queue.
func (a *attempt) run() (again bool) {
	if ready, again := a.settleFirst(); !ready {
		return again
	}
	message, err := a.runner.spool.Read(a.next.ID)
	if err != nil {
		return a.unreadable(err)
	}
	defer func() { _ = message.Close() }()
	a.open(message)
	if a.item.State == spool.Hold && !a.runner.waitsForSettings(a.item) {
		return false
	}
	head, err := a.judge()
	switch {
	case err != nil:
		return a.unreadable(err)
	case a.suspended():
		a.decision = policy.Decision{Result: policy.Hold, Reason: textSuspended, Rule: a.decision.Rule}
		return a.hold(spool.HoldSuspended, textSuspended)
	case a.decision.Result == policy.Hold && !a.item.Progress.Released:
		return a.hold(spool.HoldRule, a.decision.Reason)
	case !passes(a.decision):
		return a.hold(spool.HoldPolicy, a.decision.Reason)
	case a.decision.Relay != a.next.Route:
		a.next.Route = a.decision.Relay // the queue knows whether it is free
		return true
	}
	if a.err = a.deliver(a.runner.working, io.MultiReader(bytes.NewReader(head), message)); a.err != nil {
		a.takeBack()
	}
	if a.away() {
		a.pause()
		if a.active { // a kept connection had ended, and nobody was there for another
			a.write(settlement{progress: a.item.Progress, to: spool.Deferred})
		}
		return true
	}
	return a.settle(time.Now())
}

// open takes the message and finds who still waits for it.
func (a *attempt) open(message *spool.Message) {
	a.message, a.item = message, message.Item
	if a.item.State == spool.Active { // a try of which nobody wrote down how it ended
		a.item.Progress.PossibleDuplicate = true
	}
	all := a.item.Envelope.Recipients
	rest := a.item.Progress.Rest
	if rest == nil {
		for i := range all {
			rest = append(rest, spool.Due{Rcpt: i})
		}
	}
	for _, d := range rest {
		if d.Failed {
			a.stuck = append(a.stuck, d)
		} else {
			a.due = append(a.due, due{Due: d, Recipient: all[d.Rcpt]})
		}
	}
}

// unreadable leaves a message alone that cannot be read, for a while if that may
// pass.
func (a *attempt) unreadable(err error) (again bool) {
	if errors.Is(err, spool.ErrUnknown) {
		return false
	}
	a.runner.log.Error("message of the spool cannot be read", zap.String(logfields.Txn, a.next.ID), zap.Error(err))
	a.next.Next = time.Now().Add(restTime)
	return !errors.Is(err, spool.ErrDamaged)
}

// takeBack leaves nobody served by a message that was not answered for.
func (a *attempt) takeBack() {
	for i := range a.due {
		if d := &a.due[i]; d.fate == served {
			d.fate = later
		}
	}
}

// away says that no try could be begun, since no relay was there. A relay that
// asks for a login in the middle is there: this message may be what it stumbles
// over.
func (a *attempt) away() bool {
	failure := asRelayError(a.err)
	if a.active && failure != nil && failure.Step == relay.StepAuth {
		return false
	}
	return failure != nil && failure.Away() || errors.Is(a.err, errNoRoute)
}

// pause lets the route rest until one of its relays may be there again.
func (a *attempt) pause() {
	now := time.Now()
	until := now.Add(restTime)
	for _, pool := range a.settings.Relays.route(a.decision.Relay) {
		ready, at := pool.Ready(now)
		if ready { // busy, or its breaker is still closed
			at = now.Add(time.Second)
		}
		if at.Before(until) {
			until = at
		}
	}
	a.runner.queue.Pause(a.next.Route, until)
}

// judge puts the message to the policy in force, as if it came now. It returns
// what it read of the message.
func (a *attempt) judge() (head []byte, err error) {
	if a.decision = a.settings.judgeSender(a.item); !passes(a.decision) || a.item.Identity.Notice {
		return nil, nil
	}
	id, listener, rules := identityOf(a.item.Identity), a.item.Identity.Listener, a.settings.Policy
	for _, rcpt := range a.due {
		if d := rules.Recipient(id, listener, rcpt.Address); !passes(d) {
			a.decision = d
			return nil, nil
		}
	}
	if !a.decision.CheckHeader {
		return nil, nil
	}
	if head, err = readHead(a.message); err != nil {
		return nil, err
	}
	end := smtp.HeaderEnd(head, 0)
	if end < 0 {
		end = len(head)
	}
	if d := rules.Header(id, listener, head[:end]); !passes(d) {
		a.decision = d
	}
	return head, nil
}

// passes says that nothing is wrong with what was judged, even if all of it is to
// be held.
func passes(d policy.Decision) bool { return d.Result == policy.Allow || d.Result == policy.Hold }

// judgeSender asks policy for the decision at MAIL.
func (s *Settings) judgeSender(item spool.Item) policy.Decision {
	if item.Identity.Notice {
		return s.judgeNotice(item)
	}
	return s.Policy.Sender(identityOf(item.Identity), item.Identity.Listener, item.Envelope.ReversePath)
}

// suspended says that the sender is, whoever let the message go. Notices are
// ours.
func (a *attempt) suspended() bool {
	_, is := a.runner.warden.suspension(KeysOf(a.item.Identity), time.Now())
	return is && !a.item.Identity.Notice
}

// readHead reads as much of a message as its header section can be.
func readHead(message io.Reader) ([]byte, error) {
	head := make([]byte, maxHeader)
	n, err := io.ReadFull(message, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return head[:n], nil
}

// deliver hands the message to the first relay of its route that can be used.
func (a *attempt) deliver(ctx context.Context, message io.Reader) error {
	failure := errNoRoute
	for _, pool := range a.settings.Relays.route(a.decision.Relay) {
		transaction, err := pool.Begin(ctx, a.next.Identity, a.item.Envelope.ReversePath, a.item.Envelope.Params)
		if err != nil {
			if known := asRelayError(failure); known == nil || known.Away() {
				failure = err // where one relay is there, and slow with this sender, the route is not at rest
			}
			continue
		}
		defer transaction.Abort()
		a.relay, a.noDSN = pool.Name(), !transaction.Capabilities().DSN
		if reply, bad := unfit(a.item.Envelope.Params, transaction.Capabilities()); bad {
			a.refuseAll(reply)
			return nil
		}
		return a.transfer(ctx, transaction, message)
	}
	return failure
}

// transfer hands envelope and message over. The try is on disk before the end
// of the data is sent, so that after a crash it is known that the relay may have
// the message.
func (a *attempt) transfer(ctx context.Context, transaction *relay.Transaction, message io.Reader) error {
	if err := a.runner.spool.Activate(a.item.ID); err != nil {
		return err
	}
	a.active = true
	synced := make(chan error, 1)
	go func() { synced <- a.runner.spool.Sync(ctx) }() // waited for below, or by nobody: it ends by itself
	replies, err := transaction.Recipients(ctx, a.recipients())
	if err != nil {
		return err
	}
	if !a.sort(replies) {
		return nil
	}
	if _, err := io.Copy(relayWriter{transaction}, message); err != nil {
		return err
	}
	if err := <-synced; err != nil {
		return err
	}
	reply, err := transaction.Finish()
	if err != nil {
		return err
	}
	a.reply = reply
	for i := range a.due {
		if d := &a.due[i]; d.fate == served {
			d.judge(reply)
		}
	}
	return nil
}

func (a *attempt) recipients() []smtp.Recipient {
	recipients := make([]smtp.Recipient, len(a.due))
	for i, d := range a.due {
		recipients[i] = d.Recipient
	}
	return recipients
}

// sort notes what the relay said to each recipient; false if it takes none.
// Those that it takes are served if the message is.
func (a *attempt) sort(replies []smtp.Reply) (some bool) {
	for i, reply := range replies {
		a.due[i].judge(reply)
		if some = some || reply.Positive(); !reply.Positive() {
			a.reply = reply
		}
	}
	return some
}

// judge takes the relay's word on a recipient.
func (d *due) judge(reply smtp.Reply) {
	d.code, d.enhanced = reply.Code, relay.ForClient(reply).Enhanced
	switch {
	case reply.Positive():
		d.fate = served
		return
	case relay.Transient(reply):
		d.fate = later
	default:
		d.fate = failed
	}
	d.Reply = reply.String()
}

// refuseAll is for a message that the relay cannot carry.
func (a *attempt) refuseAll(reply smtp.Reply) {
	a.reply = reply
	for i := range a.due {
		a.due[i].judge(reply)
	}
}

// relayWriter lets io.Copy feed a relay, whose word on what it was fed comes at
// the end.
type relayWriter struct{ transaction *relay.Transaction }

func (w relayWriter) Write(p []byte) (int, error) {
	w.transaction.Write(p)
	return len(p), nil
}

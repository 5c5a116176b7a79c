package proxy

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/dsn"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// tellFailures sends the notices that this try gives rise to. Recipients of
// whom nobody could be told stay with the message.
func (a *attempt) tellFailures(now time.Time) {
	a.tell(served, dsn.Relayed, now)
	for _, d := range a.tell(failed, dsn.Failed, now) {
		d.Due.Failed = true
		a.stuck = append(a.stuck, d.Due)
	}
}

// tell sends one notice about all recipients of a fate that want one, and gives
// those of whom the sender should hear and must not.
func (a *attempt) tell(of fate, action dsn.Action, now time.Time) (untold []due) {
	var about []due
	for _, d := range a.due {
		if d.fate == of && dsn.Wanted(d.Params.Notify, action) && (action != dsn.Relayed || a.noDSN) {
			about = append(about, d)
		}
	}
	switch {
	case len(about) == 0:
		return nil
	case a.item.Identity.Notice: // a notice about a notice would go in circles (RFC 5321 section 6.1)
		a.runner.log.Error("notice could not be delivered", zap.String(logfields.Txn, a.item.ID), zap.String(logfields.Reason, a.reason()))
		return nil
	case !a.mayTellSender():
		return about
	}
	err := a.sendNotice(about, action, now)
	if err == nil {
		return nil
	}
	a.runner.log.Error("notice not made, the message is kept", zap.String(logfields.Txn, a.item.ID), zap.Error(err))
	if a.tooOld(now) {
		return about
	}
	a.reconsider(about)
	return nil
}

// reconsider lets recipients be tried again whose failure could not be told now,
// as when the disk is full. The relay will refuse them again.
func (a *attempt) reconsider(about []due) {
	for i := range a.due {
		d := &a.due[i]
		if d.fate == failed && slices.ContainsFunc(about, func(other due) bool { return other.Rcpt == d.Rcpt }) {
			d.fate = later
		}
	}
}

// mayTellSender says that the reverse-path is the sender's own, by the rule that
// lets it send: a notice to any other would go to somebody who has nothing to do
// with the message.
func (a *attempt) mayTellSender() bool {
	return a.settings.Policy.Vouches(identityOf(a.item.Identity), a.item.Identity.Listener,
		a.item.Envelope.ReversePath, a.settings.HostName)
}

// sendNotice puts a notice to the sender into the spool (RFC 3464).
func (a *attempt) sendNotice(about []due, action dsn.Action, now time.Time) error {
	if err := a.message.Rewind(); err != nil {
		return err
	}
	envelope := a.item.Envelope
	notice := dsn.Notice{
		Heading: dsn.Heading{Host: a.settings.HostName, To: envelope.ReversePath, ID: newID(now), Date: now},
		EnvID:   envelope.Params.EnvID, Ret: envelope.Params.Ret, Txn: a.item.ID, Arrival: a.item.Time,
		UTF8: envelope.Params.UTF8, SevenBit: !a.settings.capabilities().EightBitMIME,
		Original: a.message, OriginalSize: a.item.Size,
	}
	for _, d := range about {
		notice.Recipients = append(notice.Recipients, dsn.Recipient{
			Address: d.Address, ORcpt: d.Params.ORcpt, Notify: d.Params.Notify, Action: action, Status: d.status(),
			Diagnostic: d.Reply, LastAttempt: now, RetryUntil: a.item.Time.Add(a.settings.Expire),
		})
	}
	message, err := notice.Compose()
	if err != nil {
		return err
	}
	identity := a.item.Identity
	identity.Notice = true
	return a.runner.post(notice.ID, identity, message)
}

// post puts a message of our own into the spool.
func (r *Runner) post(id string, identity spool.Identity, message *dsn.Message) error {
	entry := spool.Entry{ID: id, Time: time.Now(), Identity: identity, Envelope: message.Envelope}
	writer, err := r.spool.Create(entry)
	if err != nil {
		return err
	}
	defer writer.Abort()
	if _, err := writer.Write(message.Data); err != nil {
		return err
	}
	if err := writer.Commit(spool.Deferred, spool.Progress{}); err != nil {
		return err
	}
	r.Add(spool.Item{Entry: entry, State: spool.Deferred})
	return nil
}

// judgeNotice decides about a message of our own: one about an identity's
// message goes where that identity may send from, one for the administrator
// always.
func (s *Settings) judgeNotice(item spool.Item) policy.Decision {
	id := identityOf(item.Identity)
	if !id.Proven && id.Account == "" && id.Container == "" {
		return policy.Decision{Result: policy.Allow, Reason: "notice to the administrator"}
	}
	return s.Policy.Sender(id, item.Identity.Listener, item.Envelope.Recipients[0].Address)
}

// digestInterval is the least time between two digests.
const digestInterval = time.Hour

// sendDigest tells the administrator of all messages that are held since nobody
// else could be told of their failure, and lets those go.
func (r *Runner) sendDigest(settings *Settings, now time.Time) {
	if settings.Postmaster == "" || settings.Relays.empty() || now.Sub(r.lastDigest) < digestInterval {
		return
	}
	var digest dsn.Digest
	var told []spool.Item
	for item, err := range r.spool.All(spool.Hold) {
		if err != nil || item.Progress.Hold != spool.HoldUndeliverable {
			continue
		}
		addToDigest(&digest, item)
		told = append(told, item)
	}
	if len(told) == 0 {
		return
	}
	id := newID(now)
	message, err := digest.Compose(dsn.Heading{Host: settings.HostName, To: settings.Postmaster, ID: id, Date: now})
	if err == nil {
		err = r.post(id, spool.Identity{Notice: true}, message)
	}
	if err != nil {
		r.log.Error("digest not made, messages stay in hold", zap.Error(err))
		return
	}
	r.lastDigest = now
	for _, item := range told {
		if err := r.letGo(item); err != nil && !errors.Is(err, spool.ErrUnknown) {
			r.log.Error("message could not be taken from the spool", zap.String(logfields.Txn, item.ID), zap.Error(err))
		}
	}
}

// addToDigest adds a line for each recipient that is given up.
func addToDigest(digest *dsn.Digest, item spool.Item) {
	for _, d := range item.Progress.Rest {
		digest.Add(dsn.DigestLine{
			Time: item.Time, Txn: item.ID, Identity: item.Identity.Key(), ReversePath: item.Envelope.ReversePath,
			Recipient: item.Envelope.Recipients[d.Rcpt].Address, Diagnostic: d.Reply, Reason: whyUntold(item),
		})
	}
}

func whyUntold(item spool.Item) string {
	if item.Envelope.ReversePath == "" {
		return "it has no sender to tell"
	}
	return "policy does not say that this sender is its own"
}

// letGo ends our custody of a held message of which the administrator was told,
// unless somebody has released it meanwhile.
func (r *Runner) letGo(item spool.Item) error {
	if err := r.spool.Discard(item.ID, spool.Hold); err != nil {
		return err
	}
	r.writeDropped(item, "the administrator was told")
	return nil
}

// drop ends our custody of a message for which nothing more is done.
func (r *Runner) drop(item spool.Item, why string) error {
	if err := r.spool.Drop(item.ID); err != nil {
		return err
	}
	r.writeDropped(item, why)
	return nil
}

func (r *Runner) writeDropped(item spool.Item, why string) {
	event := eventOf(item)
	event.Custody, event.Reason, event.RcptCount = audit.CustodyDropped, why, len(item.Envelope.Recipients)
	r.writeEvent(event)
}

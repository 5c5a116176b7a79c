package proxy

import (
	"errors"
	"maps"
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
	if about := a.wanted(served, dsn.Relayed); a.noDSN && a.mayTellSender() {
		a.send(about, dsn.Relayed, now) // a success of which nobody hears is one all the same
	}
	about := a.wanted(failed, dsn.Failed)
	switch {
	case len(about) == 0:
	case a.item.Identity.Notice:
		a.dropNotice(about)
	case !a.mayTellSender():
		a.stick(about)
	case a.send(about, dsn.Failed, now):
	case a.tooOld(now):
		a.stick(about)
	default:
		a.reconsider(about)
	}
}

// tellDelayed is false where a notice of the delay could not be made.
func (a *attempt) tellDelayed(now time.Time) bool {
	return !a.mayTellSender() || a.send(a.wanted(later, dsn.Delayed), dsn.Delayed, now)
}

// wanted are the recipients of a fate whose sender wants to hear of it. Of a
// notice nobody hears but who reads the log.
func (a *attempt) wanted(of fate, action dsn.Action) (about []due) {
	for _, d := range a.due {
		if d.fate == of && (dsn.Wanted(d.Params.Notify, action) || a.item.Identity.Notice && action == dsn.Failed) {
			about = append(about, d)
		}
	}
	return about
}

// stick keeps recipients of whom nobody could be told.
func (a *attempt) stick(about []due) {
	for _, d := range about {
		d.Due.Failed = true
		a.stuck = append(a.stuck, d.Due)
	}
}

// dropNotice is the end of a notice that cannot be delivered: another one about
// it would go in circles (RFC 5321 section 6.1). The digest for the
// administrator is kept, for it is all that is left of other messages.
func (a *attempt) dropNotice(about []due) {
	a.runner.log.Error("notice could not be delivered", zap.String(logfields.Txn, a.item.ID), zap.String(logfields.Reason, a.reason()))
	if isDigest(a.item) {
		a.stick(about)
	}
}

// send sends one notice about recipients, if there are any; false if it could
// not be made.
func (a *attempt) send(about []due, action dsn.Action, now time.Time) bool {
	if len(about) == 0 || a.item.Identity.Notice {
		return true
	}
	if err := a.sendNotice(about, action, now); err != nil {
		a.runner.log.Error("notice not made", zap.String(logfields.Txn, a.item.ID), zap.Error(err))
		return false
	}
	return true
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
		Heading: dsn.Heading{Host: a.settings.HostName, To: envelope.ReversePath, ID: spool.NewID(now), Date: now},
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
	if isDigest(item) {
		return policy.Decision{Result: policy.Allow, Reason: "notice to the administrator"}
	}
	return s.Policy.Sender(id, item.Identity.Listener, item.Envelope.Recipients[0].Address)
}

// isDigest says that a notice is for the administrator: it is about nobody.
func isDigest(item spool.Item) bool {
	id := item.Identity
	return id.Notice && id.UID == nil && id.Account == "" && id.Container == ""
}

// digestInterval is the least time between two digests.
const digestInterval = time.Hour

// sendDigest tells the administrator of all messages that are held since nobody
// else could be told of their failure, and lets those go. A digest that cannot
// be delivered itself stops further ones, and so nothing more is let go.
func (r *Runner) sendDigest(settings *Settings, now time.Time) {
	if settings.Postmaster == "" || settings.Relays.empty() || now.Sub(r.lastDigest) < digestInterval {
		return
	}
	var digest dsn.Digest
	told, ok := r.gather(&digest)
	if !ok || len(told) == 0 {
		return
	}
	id := spool.NewID(now)
	message, err := digest.Compose(dsn.Heading{Host: settings.HostName, To: settings.Postmaster, ID: id, Date: now})
	if err == nil {
		err = r.post(id, spool.Identity{Notice: true}, message)
	}
	if err != nil {
		r.log.Error("digest not made, messages stay in hold", zap.Error(err))
		return
	}
	r.lastDigest = now
	for _, id := range told {
		if r.stopping.Err() != nil {
			return // they are in the next digest as well
		}
		if err := r.letGo(id); err != nil && !errors.Is(err, spool.ErrUnknown) {
			r.log.Error("message could not be taken from the spool", zap.String(logfields.Txn, id), zap.Error(err))
		}
	}
}

// gather fills a digest, with a line of each identity in turn, so that a flood of
// one hides none of another's. It is not ok while an earlier digest is held.
func (r *Runner) gather(digest *dsn.Digest) (told []string, ok bool) {
	lines := map[string][][]dsn.DigestLine{} // by identity, each message's
	for item, err := range r.spool.All(spool.Hold) {
		switch {
		case err != nil || item.Progress.Hold != spool.HoldUndeliverable:
		case isDigest(item):
			r.log.Error("a digest could not be delivered: is delivery.postmaster right? No other is sent before that one is dropped or released",
				zap.String(logfields.Txn, item.ID), zap.String(logfields.Reason, item.Progress.Reason))
			return nil, false
		default:
			key := item.Identity.Key()
			lines[key] = append(lines[key], digestLines(item))
			told = append(told, item.ID)
		}
	}
	for len(lines) > 0 {
		for _, key := range slices.Sorted(maps.Keys(lines)) {
			for _, line := range lines[key][0] {
				digest.Add(line)
			}
			if lines[key] = lines[key][1:]; len(lines[key]) == 0 {
				delete(lines, key)
			}
		}
	}
	return told, true
}

// digestLines are one for each recipient that is given up.
func digestLines(item spool.Item) (lines []dsn.DigestLine) {
	for _, d := range item.Progress.Rest {
		lines = append(lines, dsn.DigestLine{
			Time: item.Time, Txn: item.ID, Identity: item.Identity.Key(), ReversePath: item.Envelope.ReversePath,
			Recipient: item.Envelope.Recipients[d.Rcpt].Address, Diagnostic: d.Reply, Reason: whyUntold(item),
		})
	}
	return lines
}

func whyUntold(item spool.Item) string {
	if item.Envelope.ReversePath == "" {
		return "it has no sender to tell"
	}
	return "policy does not say that this sender is its own"
}

// letGo ends our custody of a held message of which the administrator was told,
// unless somebody has released it meanwhile.
func (r *Runner) letGo(id string) error {
	item, err := r.spool.Show(id)
	if err != nil {
		return err
	}
	if err := r.spool.Discard(id, spool.Hold); err != nil {
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
	r.unsettled.Delete(item.ID)
	r.writeDropped(item, why)
	return nil
}

func (r *Runner) writeDropped(item spool.Item, why string) {
	event := eventOf(item)
	event.Custody, event.Reason, event.RcptCount = audit.CustodyDropped, why, len(item.Envelope.Recipients)
	r.writeEvent(event)
}

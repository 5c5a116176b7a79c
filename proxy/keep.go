package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// spoolDelivery gives the message to the spool: because no relay is configured,
// because none takes it now, or because the spool comes first.
type spoolDelivery struct {
	session     *session
	transaction *transaction
	state       spool.State
	progress    spool.Progress
	text        string // behind the 250
	writer      *spool.Writer
}

// newHold keeps the message until a relay is approved.
func (s *session) newHold() delivery {
	return &spoolDelivery{
		session: s, transaction: s.transaction, state: spool.Hold,
		progress: spool.Progress{Hold: spool.HoldNoRelay, Reason: reasonNoRelay}, text: "held until a relay is configured",
	}
}

// textHeld is what the client hears of a message that waits for a person.
const textHeld = "held until the administrator releases it"

// newParked keeps the message until a person releases it.
func (s *session) newParked() delivery {
	return &spoolDelivery{session: s, transaction: s.transaction, state: spool.Hold, progress: s.transaction.parked, text: textHeld}
}

// park makes the transaction's message go to hold, whatever was planned for it.
// The first reason stays.
func (s *session) park(why, reason string) {
	t := s.transaction
	if t.parked.Hold != "" {
		return
	}
	t.parked = spool.Progress{Time: time.Now().UTC(), Hold: why, Reason: reason}
	if t.delivery != nil {
		t.delivery.park(t.parked)
	}
}

// hold ends a message that was parked.
func (s *session) hold(t *transaction, writer *spool.Writer, progress spool.Progress) result {
	if err := writer.Commit(spool.Hold, progress); err != nil {
		return result{reply: spoolRefusal(err), custody: audit.CustodyClient, err: err}
	}
	s.handOver(t, spool.Hold, progress)
	return result{reply: smtp.NewReply(250, smtp.EnhancedCode{2, 0, 0}, textHeld), custody: audit.CustodySpool}
}

// newQueued takes the message first, to deliver it afterwards.
func (s *session) newQueued() delivery {
	return &spoolDelivery{session: s, transaction: s.transaction, state: spool.Deferred, text: "queued"}
}

// newKept takes the message in the place of a relay that failed.
func (s *session) newKept(why error) delivery {
	return &spoolDelivery{
		session: s, transaction: s.transaction, state: spool.Deferred,
		progress: s.firstFailure(why, nil), text: textQueued,
	}
}

// reasonNoRelay stands in the spool with messages that came before any relay
// was approved.
const reasonNoRelay = "no relay is configured"

// textQueued is what the client hears in the place of the relay's words, which
// are about something that no longer concerns it.
const textQueued = "queued, the relay does not take it now"

// firstFailure is the progress of a message that a relay has just failed to
// take. later are recipients that it will not take now, nil if that is all of
// them. What was not begun is tried again as soon as a relay is there.
func (s *session) firstFailure(why error, later []spool.Due) spool.Progress {
	progress := spool.Progress{Time: time.Now().UTC(), Attempts: 1, Relay: s.transaction.relay, Reason: why.Error(), Rest: later}
	if failure := asRelayError(why); failure != nil {
		progress.PossibleDuplicate = failure.Unknown
		if failure.Away() {
			progress.Attempts = 0
			return progress
		}
	}
	progress.Next = progress.Time.Add(s.server.runner.retryAfter(1))
	return progress
}

func (d *spoolDelivery) recipients(_ context.Context, rcpts []smtp.Recipient, _ bool) ([]smtp.Reply, error) {
	return allKept(len(rcpts)), nil
}

// allKept are the replies for so many recipients that the spool answers for.
func allKept(n int) []smtp.Reply {
	replies := make([]smtp.Reply, n)
	for i := range replies {
		replies[i] = recipientKept()
	}
	return replies
}

// recipientKept is the reply for a recipient that the spool answers for.
func recipientKept() smtp.Reply {
	return smtp.NewReply(250, smtp.EnhancedCode{2, 1, 5}, "recipient accepted")
}

func (d *spoolDelivery) admit() smtp.Reply {
	var err error
	if d.writer, err = d.session.settings.Spool.Create(d.session.spoolEntry(d.transaction)); err != nil {
		d.transaction.outcome.err = err
		return spoolRefusal(err)
	}
	return smtp.Reply{}
}

func (d *spoolDelivery) start() {}

// write passes octets on; an error of it comes back from the commit.
func (d *spoolDelivery) write(p []byte, _ bool) { _, _ = d.writer.Write(p) }

// finish says 250 only after file and directory are synced.
func (d *spoolDelivery) finish() result {
	if err := d.writer.Commit(d.state, d.progress); err != nil {
		return result{reply: spoolRefusal(err), custody: audit.CustodyClient, err: err}
	}
	d.session.handOver(d.transaction, d.state, d.progress)
	return result{reply: smtp.NewReply(250, smtp.EnhancedCode{2, 0, 0}, d.text), custody: audit.CustodySpool, err: d.reason()}
}

// reason is why the spool has the message, for the event.
func (d *spoolDelivery) reason() error {
	if d.progress.Reason == "" || d.state == spool.Hold {
		return nil
	}
	return errors.New(d.progress.Reason)
}

func (d *spoolDelivery) park(p spool.Progress) {
	d.state, d.progress, d.text = spool.Hold, p, textHeld
}

func (d *spoolDelivery) abort() {
	if d.writer != nil {
		d.writer.Abort()
	}
}

// spoolRefusal is the reply when the spool cannot take a message: transient, and
// with nothing of the disk in it.
func spoolRefusal(err error) smtp.Reply {
	if errors.Is(err, spool.ErrFull) {
		return smtp.NewReply(452, smtp.EnhancedCode{4, 3, 1}, "no room in the spool, try again later")
	}
	return smtp.NewReply(451, smtp.EnhancedCode{4, 3, 0}, "the message could not be stored, try again later")
}

// handOver tells the runner of a message that the spool has taken.
func (s *session) handOver(t *transaction, state spool.State, progress spool.Progress) {
	s.server.runner.Add(spool.Item{Entry: s.spoolEntry(t), State: state, Progress: progress})
}

// spoolEntry is what the spool keeps beside the message.
func (s *session) spoolEntry(t *transaction) spool.Entry {
	return spool.Entry{ID: t.id, Time: t.began, Envelope: t.envelope, Identity: s.keptIdentity()}
}

// keptIdentity is the sender as the spool keeps it.
func (s *session) keptIdentity() spool.Identity {
	id := s.identity()
	kept := spool.Identity{
		User: id.User, Groups: id.Groups, Unit: id.Unit, Container: id.Container, Account: id.Account,
		Listener: string(s.role),
	}
	if id.Proven {
		kept.UID = &id.UID
		if s.peer.Owned {
			kept.Owner = &s.peer.Owner
		}
	}
	return kept
}

// identityOf is the identity of a message in the spool, for policy to look at
// it anew.
func identityOf(kept spool.Identity) policy.Identity {
	id := policy.Identity{
		User: kept.User, Groups: kept.Groups, Unit: kept.Unit, Container: kept.Container, Account: kept.Account,
		Placed: true, // the unit was judged when the message came
	}
	if kept.UID != nil {
		id.Proven, id.UID = true, *kept.UID
	}
	return id
}

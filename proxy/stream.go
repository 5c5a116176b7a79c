package proxy

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// relayDelivery streams to a relay, with a copy for the spool in case that the
// relay fails.
type relayDelivery struct {
	session     *session
	transaction *transaction
	relay       *relay.Transaction
	promised    int             // recipients that the client was told 250 for
	accepted    bool            // the relay has one of them at least
	later       []spool.Due     // those that it does not take now
	crowd       bool            // and that for their number alone
	copy        *spool.Writer   // nil until the data begins
	kept        bool            // the copy is in the spool
	parked      *spool.Progress // it goes to hold, and the relay hears no more of it
}

// recipients passes on what the relay says for good. Where it says later, that
// is for us to wait for, and the client hears 250.
func (d *relayDelivery) recipients(ctx context.Context, rcpts []smtp.Recipient, dataNext bool) ([]smtp.Reply, error) {
	if d.parked != nil {
		return allKept(len(rcpts)), nil
	}
	hand := d.relay.Recipients
	if dataNext {
		hand = d.relay.LastRecipients
	}
	replies, err := hand(ctx, rcpts)
	if err != nil {
		return nil, err
	}
	for i, reply := range replies {
		switch {
		case reply.Positive():
			d.accepted = true
		case relay.Transient(reply):
			d.crowd = isTooMany(reply.Code) && (d.crowd || len(d.later) == 0)
			d.later = append(d.later, spool.Due{Rcpt: d.promised, Reply: reply.String()})
			reply = recipientKept()
		}
		if replies[i] = relay.ForClient(reply); reply.Positive() {
			d.promised++
		}
	}
	return replies, nil
}

// useless says that the relay takes none of the recipients now.
func (d *relayDelivery) useless() bool { return !d.accepted && len(d.later) > 0 && d.parked == nil }

// lastWord is why it is useless.
func (d *relayDelivery) lastWord() error { return errors.New(d.later[len(d.later)-1].Reply) }

// admit makes sure of room where the spool will be needed. Where it will only
// perhaps, a full spool is no reason to refuse what the relay would take.
func (d *relayDelivery) admit() smtp.Reply {
	entry := func() spool.Entry { return d.session.spoolEntry(d.transaction) }
	store := d.session.settings.Spool
	if len(d.later) == 0 && d.parked == nil {
		d.copy = store.Tee(entry)
		return smtp.Reply{}
	}
	var err error
	if d.copy, err = store.Create(entry()); err != nil {
		d.transaction.outcome.err = err
		return spoolRefusal(err)
	}
	return smtp.Reply{}
}

func (d *relayDelivery) start() {
	if d.parked == nil {
		d.relay.StartData()
	}
}

func (d *relayDelivery) write(p []byte, dotless bool) {
	switch {
	case d.parked != nil:
	case dotless:
		d.relay.WriteDotless(p)
	default:
		d.relay.Write(p)
	}
	_, _ = d.copy.Write(p) // an error of it comes back from the commit
}

// park gives the relay up; what it was promised the spool keeps.
func (d *relayDelivery) park(p spool.Progress) {
	d.relay.Abort()
	d.parked = &p
}

// abort gives the message up: neither the relay nor the spool has it.
func (d *relayDelivery) abort() {
	d.relay.Abort()
	if d.copy != nil {
		d.copy.Abort()
	}
}

// finish ends the message. Where the relay will have it for some recipients
// only, the spool has it before the relay can: nothing may fail in between.
func (d *relayDelivery) finish() result {
	if d.parked != nil {
		return d.session.hold(d.transaction, d.copy, *d.parked)
	}
	if len(d.later) > 0 {
		if err := d.copy.Commit(spool.Active, spool.Progress{}); err != nil {
			d.abort()
			return result{reply: spoolRefusal(err), custody: audit.CustodyClient, err: err}
		}
		d.kept = true
	}
	reply, err := d.relay.Finish()
	switch {
	case err == nil && reply.Positive():
		return d.taken(reply)
	case err == nil && !relay.Transient(reply):
		d.drop()
		return result{reply: relay.ForClient(reply), custody: audit.CustodyClient, relay: reply.String()}
	case d.session.ctx.Err() != nil:
		return d.cutOff(err)
	case err == nil:
		err = errors.New(reply.String())
	}
	return d.keep(reply, err)
}

// taken is when the relay has the message for all recipients that it accepted.
func (d *relayDelivery) taken(reply smtp.Reply) result {
	done := result{
		reply: relay.ForClient(reply), custody: audit.CustodyRelay, relay: reply.String(), accepted: d.promised - len(d.later),
	}
	if !d.kept {
		d.copy.Abort()
		return done
	}
	done.custody = audit.CustodySpool
	progress := d.session.firstFailure(d.lastWord(), d.later)
	if d.crowd {
		progress.Next = time.Time{} // they go in a transaction of their own
	}
	d.settle(progress)
	return done
}

// keep is when the relay failed: the spool has the message for everybody.
func (d *relayDelivery) keep(reply smtp.Reply, why error) result {
	progress := d.session.firstFailure(why, nil)
	done := result{custody: audit.CustodySpool, duplicate: progress.PossibleDuplicate, err: why}
	if reply.Code != 0 {
		done.relay = reply.String()
	}
	if d.kept {
		d.settle(progress)
	} else if err := d.copy.Commit(spool.Deferred, progress); err != nil {
		return d.neither(err, why)
	} else {
		d.session.handOver(d.transaction, spool.Deferred, progress)
	}
	done.reply = smtp.NewReply(250, smtp.EnhancedCode{2, 0, 0}, textQueued)
	return done
}

// neither is when the relay failed and the spool too.
func (d *relayDelivery) neither(err, why error) result {
	done := result{reply: spoolRefusal(err), custody: audit.CustodyClient, err: errors.Join(why, err)}
	if failure := asRelayError(why); failure != nil && failure.Unknown {
		done.custody = audit.CustodyUnknown
	}
	return done
}

// cutOff is when we stop and wait for the relay no longer. The client hears no
// 250 and keeps its message.
func (d *relayDelivery) cutOff(err error) result {
	d.drop()
	done := result{reply: d.session.lastWords(), custody: audit.CustodyClient, err: errors.Join(d.session.whyCutOff(), err)}
	if failure := asRelayError(err); failure != nil && failure.Unknown {
		done.custody = audit.CustodyUnknown
	}
	return done
}

// settle writes down what became of a message that the spool has already. It is
// safe there, whatever goes wrong with that.
func (d *relayDelivery) settle(progress spool.Progress) {
	d.session.server.runner.settle(d.transaction.id, settlement{progress: progress, to: spool.Deferred}) // else it is tried again
	d.session.handOver(d.transaction, spool.Deferred, progress)
}

// drop makes sure that the spool does not have what the client keeps.
func (d *relayDelivery) drop() {
	if !d.kept {
		d.copy.Abort()
		return
	}
	if err := d.session.settings.Spool.Drop(d.transaction.id); err != nil {
		d.session.log.Error("refused message could not be taken from the spool, it may be delivered",
			zap.String(logfields.Txn, d.transaction.id), zap.Error(err))
	}
}

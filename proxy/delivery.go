package proxy

import (
	"context"
	"errors"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// delivery is where one transaction's message goes. It ends with one finish or
// with abort; abort after finish does nothing.
type delivery interface {
	// recipients gives a reply for each; an error ends the delivery.
	// dataNext says that the data follows at once and will not be refused by us.
	recipients(ctx context.Context, rcpts []smtp.Recipient, dataNext bool) ([]smtp.Reply, error)
	// start says that data will come and will not be refused by us.
	start()
	// write takes octets of the message; what becomes of them, finish says.
	// dotless says that no line of them begins with a dot.
	write(p []byte, dotless bool)
	finish() result
	abort()
}

// result is what a delivery came to.
type result struct {
	reply   smtp.Reply // for the client
	custody string     // audit.Custody…
	relay   string     // the relay's own words, for the audit
	err     error      // why, when it was no reply of the relay's
}

// relayDelivery streams to a relay.
type relayDelivery struct{ transaction *relay.Transaction }

func (d relayDelivery) recipients(ctx context.Context, rcpts []smtp.Recipient, dataNext bool) ([]smtp.Reply, error) {
	if dataNext {
		return d.transaction.LastRecipients(ctx, rcpts)
	}
	return d.transaction.Recipients(ctx, rcpts)
}

func (d relayDelivery) start() { d.transaction.StartData() }

func (d relayDelivery) write(p []byte, dotless bool) {
	if dotless {
		d.transaction.WriteDotless(p)
		return
	}
	d.transaction.Write(p)
}

func (d relayDelivery) abort() { d.transaction.Abort() }

func (d relayDelivery) finish() result {
	reply, err := d.transaction.Finish()
	if err != nil {
		custody := audit.CustodyClient
		if lost := asRelayError(err); lost != nil && lost.Unknown {
			custody = audit.CustodyUnknown
		}
		return result{reply: relayFailure(err), custody: custody, err: err}
	}
	custody := audit.CustodyClient
	if reply.Positive() {
		custody = audit.CustodyRelay
	}
	return result{reply: relay.ForClient(reply), custody: custody, relay: reply.String()}
}

// holdDelivery keeps the message in the spool until a relay is approved.
type holdDelivery struct {
	spool  *spool.Spool
	entry  func() spool.Entry // what is known when the data begins
	writer *spool.Writer
	err    error
}

func (d *holdDelivery) recipients(_ context.Context, rcpts []smtp.Recipient, _ bool) ([]smtp.Reply, error) {
	replies := make([]smtp.Reply, len(rcpts))
	for i := range rcpts {
		replies[i] = smtp.NewReply(250, smtp.EnhancedCode{2, 1, 5}, "recipient accepted")
	}
	return replies, nil
}

func (d *holdDelivery) start() {}

func (d *holdDelivery) write(p []byte, _ bool) {
	if d.writer == nil && d.err == nil {
		d.writer, d.err = d.spool.Create(d.entry())
	}
	if d.err == nil {
		_, d.err = d.writer.Write(p)
	}
}

// finish says 250 only after file and directory are synced.
func (d *holdDelivery) finish() result {
	if d.err == nil {
		_, d.err = d.writer.Commit()
	} else {
		d.abort()
	}
	switch {
	case d.err == nil:
		return result{custody: audit.CustodySpool,
			reply: smtp.NewReply(250, smtp.EnhancedCode{2, 0, 0}, "held until a relay is configured")}
	case errors.Is(d.err, spool.ErrFull):
		return result{custody: audit.CustodyClient, err: d.err,
			reply: smtp.NewReply(452, smtp.EnhancedCode{4, 3, 1}, "no room in the spool, try again later")}
	}
	return result{custody: audit.CustodyClient, err: d.err,
		reply: smtp.NewReply(451, smtp.EnhancedCode{4, 3, 0}, "the message could not be stored, try again later")}
}

func (d *holdDelivery) abort() {
	if d.writer != nil {
		d.writer.Abort()
	}
}

package proxy

import (
	"context"

	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// delivery is where one transaction's message goes. It ends with one finish or
// with abort; abort after finish does nothing.
type delivery interface {
	// recipients gives a reply for each; after an error the delivery is of no
	// more use. dataNext says that the data follows at once and will not be
	// refused by us.
	recipients(ctx context.Context, rcpts []smtp.Recipient, dataNext bool) ([]smtp.Reply, error)
	// admit makes room for the message, when the envelope is complete and
	// before any of the data is taken. The reply says why there is none; the
	// zero reply is none needed.
	admit() (refusal smtp.Reply)
	// start says that data will come and will not be refused by us.
	start()
	// write takes octets of the message; what becomes of them, finish says.
	// dotless says that no line of them begins with a dot.
	write(p []byte, dotless bool)
	// park sends the message to hold instead, before finish.
	park(spool.Progress)
	finish() result
	abort()
}

// result is what a delivery came to.
type result struct {
	reply     smtp.Reply // for the client
	custody   string     // audit.Custody…
	relay     string     // the relay's own words, for the audit
	accepted  int        // recipients that the relay has the message for
	duplicate bool       // the relay may have the message, and will get it again
	err       error      // why, when it was no reply of the relay's
}

// taken says that somebody has the message, or may have it.
func (r *result) taken() bool {
	return r.custody == audit.CustodyRelay || r.custody == audit.CustodySpool || r.custody == audit.CustodyUnknown
}

package proxy

import (
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// reasonNoRelay stands in the spool with messages that came before any relay
// was approved.
const reasonNoRelay = "no relay is configured"

// spoolEntry is what the spool keeps beside the message.
func (s *session) spoolEntry(t *transaction) spool.Entry {
	id := s.identity()
	entry := spool.Entry{
		ID: t.id, Time: t.began, Reason: reasonNoRelay, Envelope: t.envelope,
		Identity: spool.Identity{
			User: id.User, Groups: id.Groups, Unit: id.Unit, Container: id.Container, Account: id.Account,
			Listener: string(s.role),
		},
	}
	if id.Proven {
		entry.Identity.UID = &id.UID
	}
	return entry
}

// identityOf is the identity of a message that was held, for policy to look at
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

// bodyWriter lets io.Copy feed a relay, whose word on what it was fed comes at
// the end.
type bodyWriter struct{ transaction *relay.Transaction }

func (w bodyWriter) Write(p []byte) (int, error) {
	w.transaction.Write(p)
	return len(p), nil
}

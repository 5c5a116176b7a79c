package proxy

import (
	"strings"

	"github.com/smtpwall/smtpwall/proxy/spool"
)

// keys are the names by which limits, breakers and suspensions know a sender.
// They are made of proven attributes and verified accounts alone; what a sender
// does not have is empty.
type keys struct {
	identity  string // spool.Identity.Key
	unit      string // "unit:php8.2-fpm.service"
	container string // "container:ID"
	user      string // "user:uid:33", of a user of the host
	account   string // "account:webshop"

	suspendable []string // all under which it can be suspended
}

func keysOf(id spool.Identity) *keys {
	k := &keys{identity: id.Key()}
	// A login is no unit of its own: a new one would be new room.
	if id.Unit != "" && !strings.HasSuffix(id.Unit, ".scope") {
		k.unit = "unit:" + id.Unit
	}
	switch {
	case id.Container != "":
		k.container = "container:" + id.Container
	case id.UID != nil:
		k.user = "user:" + k.identity
	}
	if id.Account != "" {
		k.account = "account:" + id.Account
	}
	k.suspendable = append(k.suspendable, k.identity)
	for _, other := range []string{k.unit, k.account} {
		if other != "" && other != k.identity {
			k.suspendable = append(k.suspendable, other)
		}
	}
	return k
}

// keys are those of the session's sender as it is known by now.
func (s *session) keys() *keys {
	if k := s.known.Load(); k != nil {
		return k
	}
	k := keysOf(s.keptIdentity())
	s.known.Store(k)
	return k
}

// senderKey is the budget of one reverse-path of an identity: another identity
// that uses the same one has its own.
func (k *keys) senderKey(reversePath string) string {
	return "sender:" + k.identity + ":" + strings.ToLower(reversePath)
}

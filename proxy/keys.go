package proxy

import (
	"strings"

	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// Keys are the names by which limits, breakers and suspensions know a sender.
// They are made of proven attributes and verified accounts alone; what a sender
// does not have is empty.
type Keys struct {
	Identity  string // spool.Identity.Key
	Unit      string // "unit:php8.2-fpm.service"
	Container string // "container:ID"
	User      string // "user:uid:33", of a user of the host
	Account   string // "account:webshop"

	Suspendable []string // all under which it can be suspended
}

// KeysOf are the keys of a sender.
func KeysOf(id spool.Identity) *Keys {
	k := &Keys{Identity: id.Key()}
	// A login is no unit of its own: a new one would be new room.
	if id.Unit != "" && !strings.HasSuffix(id.Unit, ".scope") {
		k.Unit = "unit:" + id.Unit
	}
	switch {
	case id.Container != "":
		k.Container = "container:" + id.Container
	case id.UID != nil:
		k.User = "user:" + k.Identity
	}
	if id.Account != "" {
		k.Account = "account:" + id.Account
	}
	k.Suspendable = append(make([]string, 0, 3), k.Identity)
	for _, other := range []string{k.Unit, k.Account} {
		if other != "" && other != k.Identity {
			k.Suspendable = append(k.Suspendable, other)
		}
	}
	return k
}

// keys are those of the session's sender as it is known by now.
func (s *session) keys() *Keys {
	if k := s.known.Load(); k != nil {
		return k
	}
	k := KeysOf(s.keptIdentity())
	s.known.Store(k)
	return k
}

// Sender is the key of one reverse-path of an identity, however it is
// written: another identity that uses the same one has its own.
func (k *Keys) Sender(reversePath string) string {
	return "sender:" + k.Identity + ":" + policy.Canonical(reversePath)
}

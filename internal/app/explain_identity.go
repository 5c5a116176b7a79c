package app

import (
	"errors"
	"fmt"
	"math"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// Who names somebody whom policy can decide about, by the words that a person
// has for it. What has no attribute at all is unknown.
type Who struct {
	User      string // a name of this host
	UID       string // a decimal number, where User is empty
	Unit      string
	Container string
	Account   string
}

// ErrNoUser means that this host has no user of that name.
var ErrNoUser = errors.New("no such user on this host")

// noUID stands for a proven user of whom nothing else is said: it is (uid_t)-1,
// which the kernel gives to nobody.
const noUID = math.MaxUint32

// ParseWho reads the spelling of limits and suspensions: uid:N, account:NAME,
// container:ID, unit:NAME and unknown; what has none of these prefixes is a user.
func ParseWho(text string) (Who, error) {
	kind, name, prefixed := strings.Cut(text, ":")
	switch {
	case text == "":
		return Who{}, errors.New("it is empty")
	case text == "unknown":
		return Who{}, nil
	case !prefixed:
		return Who{User: text}, nil
	case name == "":
		return Who{}, fmt.Errorf("%q lacks what is behind the colon", text)
	}
	switch kind {
	case "uid":
		_, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return Who{}, fmt.Errorf("%q is no uid", name)
		}
		return Who{UID: name}, nil
	case "account":
		return Who{Account: name}, nil
	case "container":
		return Who{Container: name}, nil
	case "unit":
		return Who{Unit: name}, nil
	}
	return Who{}, fmt.Errorf("%q begins with neither uid:, account:, container: nor unit:", text)
}

// Identity is what the proxy would know of such a client. The users and groups
// are this host's. With ErrNoUser the identity is complete but for its uid.
func (w Who) Identity() (id policy.Identity, err error) {
	id = policy.Identity{Account: w.Account, Unit: w.Unit, Container: w.Container, Placed: true, UID: noUID}
	id.Proven = w.User+w.UID+w.Unit+w.Container != ""
	uid := w.UID
	switch {
	case w.User != "":
		id.User = w.User
		found, unknown := user.Lookup(w.User)
		if unknown != nil {
			return id, fmt.Errorf("%w: %q", ErrNoUser, w.User)
		}
		uid = found.Uid
	case !id.Proven:
		id.UID = 0
		return id, nil
	case uid == "":
		return id, nil
	}
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return id, fmt.Errorf("reading the uid %q: %w", uid, err)
	}
	id.UID = uint32(n)
	id.User, id.Groups = peer.NewUsers("", "", nil).Lookup(id.UID)
	return id, nil
}

// IdentityThen is the identity that an event tells of. The groups are those that
// the user has today. Whether its unit was known the event does not say; where
// it names none it is taken to have had none, as for a message of the spool.
func IdentityThen(event *audit.Event) policy.Identity {
	id := policy.Identity{Account: event.AuthID, Unit: event.PeerUnit, Container: event.PeerContainer, Placed: true}
	if id.UID, id.Proven = event.PeerUID.Get(); id.Proven {
		id.User = event.PeerUser
		_, id.Groups = peer.NewUsers("", "", nil).Lookup(id.UID)
	}
	return id
}

// unstated is the key of a question that does not say enough to have one.
const unstated = "uid:?"

// keysOf are the keys of an identity as a session would have it.
func keysOf(kept spool.Identity) *proxy.Keys {
	k := proxy.KeysOf(kept)
	if kept.UID == nil && kept.Container == "" && kept.User+kept.Unit != "" {
		k.Suspendable = slices.DeleteFunc(k.Suspendable, func(key string) bool { return key == k.Identity })
		k.Identity = unstated
	}
	return k
}

// SpoolIdentity is an identity as the spool keeps it, which has the key. What
// nobody proved is left out, and so is a uid that a question did not name.
func SpoolIdentity(id policy.Identity) spool.Identity {
	kept := spool.Identity{Account: id.Account}
	if !id.Proven {
		return kept
	}
	kept.User, kept.Groups, kept.Unit, kept.Container = id.User, id.Groups, id.Unit, id.Container
	if id.UID == noUID {
		return kept
	}
	kept.UID = &id.UID
	if owner, owned := peer.NewUsers("", "", nil).Owner(id.UID); owned {
		kept.Owner = &owner
	}
	return kept
}

// whoExpects is the identity of an expectation.
func whoExpects(e *config.Expect) Who {
	return Who{User: e.User, UID: e.UID, Unit: e.Unit, Container: e.Container, Account: e.Account}
}

package plan

import (
	"cmp"
	"net/netip"
	"regexp"
	"strings"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// identify says who an event is of, and whether its connection was forwarded.
func identify(e *audit.Event) (id Identity, forwarded bool) {
	_, proven := e.PeerUID.Get()
	forwarded = e.Kind == audit.KindAttempt && !proven && strings.HasPrefix(e.Reason, "forwarded")
	source := e.Source.Addr().Unmap()
	if !forwarded {
		source = netip.Addr{}
	}
	switch {
	case e.PeerContainer != "":
		return Identity{Kind: KindContainer, Container: e.PeerContainer, Unit: e.PeerUnit, Source: source}, forwarded
	case proven:
		return Identity{Kind: KindUser, UID: e.PeerUID, User: e.PeerUser, Unit: unitPattern(e.PeerUnit)}, false
	case e.AuthID != "":
		return Identity{Kind: KindAccount, Account: e.AuthID}, false
	case forwarded && source.IsValid():
		return Identity{Kind: KindForwarded, Source: source, Unit: e.PeerUnit}, true
	}
	return Identity{Kind: KindUnknown}, forwarded
}

// key is what tells an identity apart.
func (id Identity) key() Identity {
	switch id.Kind {
	case KindUser:
		return Identity{Kind: KindUser, UID: id.UID, Unit: id.Unit}
	case KindContainer:
		return Identity{Kind: KindContainer, Container: id.Container}
	case KindForwarded:
		return Identity{Kind: KindForwarded, Source: id.Source}
	}
	return id
}

// merge takes over what this event alone tells.
func (id *Identity) merge(other Identity) {
	id.User = cmp.Or(id.User, other.User)
	id.Unit = cmp.Or(id.Unit, other.Unit)
	if !id.Source.IsValid() {
		id.Source = other.Source
	}
}

// compare orders identities for people: by name.
func compare(a, b *Identity) int {
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.User, b.User), cmp.Compare(a.UID.String(), b.UID.String()),
		cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Container, b.Container), a.Source.Compare(b.Source), cmp.Compare(a.Account, b.Account),
	)
}

// Units that are made anew for each login, run or connection.
var (
	sessionScope = regexp.MustCompile(`^session-c?[0-9]+\.scope$`)
	transient    = regexp.MustCompile(`^run-[a-z]?[0-9a-f]+(-[0-9a-f]+)*\.(scope|service)$`)
	connection   = regexp.MustCompile(`^([^@]+)@[0-9]+-.*:[0-9]+.*\.service$`)
)

// unitPattern is a pattern for units that are one to an administrator.
func unitPattern(unit string) string {
	if sessionScope.MatchString(unit) {
		return "session-*.scope"
	}
	if parts := transient.FindStringSubmatch(unit); parts != nil {
		return "run-*." + parts[len(parts)-1]
	}
	if parts := connection.FindStringSubmatch(unit); parts != nil {
		return parts[1] + "@*.service"
	}
	return unit
}

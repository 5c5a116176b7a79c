package guard

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/rules"
)

// Allow is one kind of direct connection that the rules leave alone. Exactly one
// of User, UID, Group and Unit is set.
type Allow struct {
	// User and Group are names, UID is a decimal number. A process counts by its
	// effective group; that its user is a member of others does not.
	User, UID, Group string
	// Unit is the full name of a systemd unit.
	Unit string
	// Host is a host name, a literal address or a network. Names are looked up
	// as those of the relays are.
	Host string
	Port uint16
	// Until is when the entry ends; zero is never.
	Until time.Time
}

// AllowStatus is what the guard knows about one entry.
type AllowStatus struct {
	Who         string    `json:"who"`         // "user postfix"
	Destination string    `json:"destination"` // "smtp.example.com:587"
	Until       time.Time `json:"until,omitzero"`
	// Count is how many opening packets were left alone. It starts anew when the
	// rules are taken down.
	Count uint64 `json:"count"`
	// Networks are those destinations that are in the rules now.
	Networks []netip.Prefix `json:"networks,omitempty"`
	// Error is why it does not count, or not for all, just now: the unit does
	// not run, the name does not resolve, its time is over.
	Error string `json:"error,omitempty"`
}

var errOver = errors.New("its time is over")

func (a Allow) who() string {
	switch {
	case a.User != "":
		return "user " + a.User
	case a.UID != "":
		return "uid " + a.UID
	case a.Group != "":
		return "group " + a.Group
	}
	return "unit " + a.Unit
}

func (a Allow) destination() string {
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

func (a Allow) validate() error {
	given := 0
	for _, name := range []string{a.User, a.UID, a.Group, a.Unit} {
		if name != "" {
			given++
		}
	}
	if given != 1 || a.Host == "" {
		return fmt.Errorf("what is allowed for %s to %s: it needs one owner and a destination", a.who(), a.destination())
	}
	if n, ok := a.network(); strings.Contains(a.Host, "/") && !ok || n.Addr().Is4In6() {
		return fmt.Errorf("what is allowed for %s: %q is not a network", a.who(), a.Host)
	}
	return nil
}

// ofNobody is the entry as the rules want it while nothing is known of it.
func (a Allow) ofNobody() rules.Allow {
	return rules.Allow{Name: a.name(), Port: a.Port, Owner: rules.CGroup0}
}

// name tells the entry from others, in the kernel and over restarts: what was
// counted belongs to it as long as it stands in the configuration.
func (a Allow) name() string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s", a.who(), a.destination())
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, a.User+a.UID+a.Group+a.Unit)
	return fmt.Sprintf("%.24s_%016x", readable, h.Sum64())
}

// network is the destination, unless that is a name to be looked up.
func (a Allow) network() (n netip.Prefix, ok bool) {
	if n, err := netip.ParsePrefix(a.Host); err == nil {
		return n.Masked(), true
	}
	if addr, err := netip.ParseAddr(a.Host); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	return netip.Prefix{}, false
}

// resolved is the entry as the rules want it, and why something of it is not
// known. Of what cannot be known, nothing is allowed.
func (a Allow) resolved(k known) (rules.Allow, error) {
	r := a.ofNobody()
	if !a.Until.IsZero() && !k.now.Before(a.Until) {
		return r, errOver
	}
	owner, err := a.owner(k)
	if k.tree != nil {
		err = fmt.Errorf("containers and units cannot be told apart: %w", k.tree)
	}
	if err == nil {
		r.Owner, r.ID, r.CGroups = owner.Owner, owner.ID, owner.CGroups
	}
	if n, ok := a.network(); ok {
		r.Networks = []netip.Prefix{n}
		return r, err
	}
	for _, endpoint := range k.addresses[a.Host] {
		// Whoever answers for the name must not spoil the rules by it.
		if addr := endpoint.Addr().Unmap().WithZone(""); endpoint.Port() == a.Port && addr.IsGlobalUnicast() {
			r.Networks = append(r.Networks, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	if len(r.Networks) == 0 {
		err = errors.Join(err, errors.New("the name has no address yet"))
	}
	return r, err
}

// owner finds out who is meant, in the fields of a rules.Allow.
func (a Allow) owner(k known) (rules.Allow, error) {
	switch {
	case a.Unit != "":
		return a.unit(k)
	case a.Group != "":
		found, err := user.LookupGroup(a.Group)
		if err != nil {
			return rules.Allow{}, errors.New("there is no such group")
		}
		return withID(rules.SKGID, found.Gid)
	case a.User != "":
		found, err := user.Lookup(a.User)
		if err != nil {
			return rules.Allow{}, errors.New("there is no such user")
		}
		return k.notProxy(withID(rules.SKUID, found.Uid))
	}
	return k.notProxy(withID(rules.SKUID, a.UID))
}

func withID(owner rules.Field, text string) (rules.Allow, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id == nobody {
		return rules.Allow{}, fmt.Errorf("%q is no id", text)
	}
	return rules.Allow{Owner: owner, ID: uint32(id)}, nil
}

func (k known) notProxy(r rules.Allow, err error) (rules.Allow, error) {
	if err == nil && r.ID == k.proxy {
		return rules.Allow{}, errors.New("the proxy reaches the relays, and nothing else")
	}
	return r, err
}

func (a Allow) unit(k known) (rules.Allow, error) {
	r := rules.Allow{Owner: rules.CGroup0}
	for _, p := range k.placed {
		if p.unit != a.Unit {
			continue
		}
		if p.deep {
			return rules.Allow{}, errors.New("the unit is too deep in slices for the rules to tell")
		}
		r.CGroups = append(r.CGroups, p.id)
	}
	if len(r.CGroups) == 0 {
		return rules.Allow{}, errors.New("the unit does not run")
	}
	return r, nil
}

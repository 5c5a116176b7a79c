package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/user"
	"strconv"
	"time"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/plan"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// hostLookup bounds the look-up of one name.
const hostLookup = 5 * time.Second

// allowEntries are the direct connections that the configuration leaves alone.
// Names lead where they lead now.
func (c *console) allowEntries(ctx context.Context, cfg *config.Config, now time.Time) []plan.AllowEntry {
	var entries []plan.AllowEntry
	for _, from := range cfg.Firewall.Allow {
		if !from.Until.IsZero() && !now.Before(from.Until) {
			continue
		}
		who, text, err := ownerOf(&from)
		to, lookupErr := networksOf(ctx, from.Host)
		if err == nil {
			err = lookupErr
		}
		text += " to " + net.JoinHostPort(from.Host, strconv.Itoa(int(from.Port)))
		if err != nil {
			fmt.Fprintf(c.err, "smtpwall: warning: firewall.allow of %s counts for nothing here: %v\n", visible(text), err)
			continue
		}
		entries = append(entries, plan.AllowEntry{Who: who, To: to, Port: from.Port, Text: text})
	}
	return entries
}

// ownerOf says whose connections an entry is about. A uid in a container is none
// of the host's users.
func ownerOf(entry *config.AllowEntry) (who func(*plan.Identity) bool, text string, err error) {
	uid := entry.UID
	switch {
	case entry.Unit != "":
		return func(id *plan.Identity) bool { return id.Unit == entry.Unit }, "unit " + entry.Unit, nil
	case entry.Group != "":
		group, err := user.LookupGroup(entry.Group)
		if err != nil {
			return nil, "group " + entry.Group, err
		}
		return ofGroup(group.Gid), "group " + entry.Group, nil
	case entry.User != "":
		found, err := user.Lookup(entry.User)
		if err != nil {
			return nil, "user " + entry.User, err
		}
		uid, text = found.Uid, "user "+entry.User
	default:
		text = "uid " + uid
	}
	number, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return nil, text, err
	}
	wanted := audit.KnownUID(uint32(number))
	return func(id *plan.Identity) bool { return id.Kind == plan.KindUser && id.UID == wanted }, text, nil
}

// ofGroup finds the users whose primary group it is: events tell of no other.
func ofGroup(gid string) func(*plan.Identity) bool {
	known := map[audit.UID]bool{}
	return func(id *plan.Identity) bool {
		if id.Kind != plan.KindUser {
			return false
		}
		is, asked := known[id.UID]
		if !asked {
			found, err := user.LookupId(id.UID.String())
			is = err == nil && found.Gid == gid
			known[id.UID] = is
		}
		return is
	}
}

// networksOf are where a destination is: a network, an address, or what a name
// leads to.
func networksOf(ctx context.Context, host string) ([]netip.Prefix, error) {
	if network, err := netip.ParsePrefix(host); err == nil {
		return []netip.Prefix{network}, nil
	}
	if address, err := netip.ParseAddr(host); err == nil {
		return []netip.Prefix{single(address)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, hostLookup)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var networks []netip.Prefix
	for _, address := range addresses {
		networks = append(networks, single(address))
	}
	return networks, err
}

func single(address netip.Addr) netip.Prefix {
	address = address.Unmap()
	return netip.PrefixFrom(address, address.BitLen())
}

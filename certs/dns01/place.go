package dns01

import (
	"context"
	"errors"
	"fmt"

	"github.com/libdns/libdns"
	"github.com/miekg/dns"
)

// maxAliases is how many CNAMEs a challenge may be delegated through; those who
// certify follow about as many.
const maxAliases = 8

// place is where a record belongs: absolute names in lower case.
type place struct{ name, zone string }

func (p place) relative() string { return libdns.RelativeName(p.name, p.zone) }

// locate finds where the challenge at name belongs: at the end of its CNAMEs, in
// the configured zone or else in the one that the name is in.
func (u Update) locate(ctx context.Context, name string) (place, error) {
	find, zone := u.finder(), dns.CanonicalName(u.Zone)
	end, err := find.alias(ctx, name)
	if unknown := new(unknownError); u.Zone != "" && errors.As(err, unknown) && dns.IsSubDomain(zone, dns.CanonicalName(unknown.name)) {
		end, err = unknown.name, nil // the server may take updates and tell us nothing
	}
	switch {
	case err != nil:
		return place{}, err
	case u.Zone == "":
		return find.place(ctx, end)
	case dns.IsSubDomain(zone, end):
		return place{name: end, zone: zone}, nil
	case end == dns.CanonicalName(name):
		return place{}, fmt.Errorf("%s is not in the zone %s, and no CNAME leads there: delegate it by one, or name another zone", name, u.Zone)
	}
	return place{}, fmt.Errorf("%s is a CNAME to %s, which is not in the zone %s: change either", name, plain(end), u.Zone)
}

// finder asks who is configured, else the server and then the host's resolvers.
func (u Update) finder() finder {
	if len(u.Resolvers) > 0 {
		return finder{u.Resolvers}
	}
	return finder{append([]string{u.Server}, systemResolvers()...)}
}

// alias follows the CNAMEs from a name to its end.
func (f finder) alias(ctx context.Context, name string) (string, error) {
	end := dns.CanonicalName(name)
	for range maxAliases + 1 {
		reply, err := f.ask(ctx, end, dns.TypeCNAME)
		if err != nil {
			return "", err
		}
		target := cnameOf(reply, end)
		if target == "" {
			return end, nil
		}
		end = target
	}
	return "", fmt.Errorf("more than %d CNAMEs lead on from %s", maxAliases, plain(name))
}

func cnameOf(reply *dns.Msg, name string) string {
	for _, rr := range reply.Answer {
		if cname, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(cname.Hdr.Name) == name {
			return dns.CanonicalName(cname.Target)
		}
	}
	return ""
}

// place finds the zone that a name is in: the SOA record is in the answer for a
// zone's own name, and beside the answer for what is below (RFC 2308 section 2).
func (f finder) place(ctx context.Context, name string) (place, error) {
	for _, at := range dns.Split(name) {
		reply, err := f.ask(ctx, name[at:], dns.TypeSOA)
		if err != nil {
			return place{}, err
		}
		for _, rr := range append(reply.Answer, reply.Ns...) {
			if zone := dns.CanonicalName(rr.Header().Name); rr.Header().Rrtype == dns.TypeSOA && dns.IsSubDomain(zone, name) {
				return place{name: name, zone: zone}, nil
			}
		}
	}
	return place{}, errors.New("no zone found for " + plain(name) + ": name the zone")
}

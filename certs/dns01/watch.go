package dns01

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	defaultPropagation = 2 * time.Minute
	watchInterval      = 2 * time.Second
	// maxWatched bounds what a zone's NS records make us ask.
	maxWatched = 32
)

// watch waits for a value to show.
type watch struct {
	find  finder
	also  []string // asked beside the servers of the zone
	limit time.Duration
}

// wait returns when each server of the zone that says something about the name
// shows the value. Resolvers are asked only if no such server can be: what they
// remember may be older than the value, so that their no proves nothing.
func (w watch) wait(ctx context.Context, name, value string) error {
	if w.limit < 0 {
		return nil
	}
	limit := w.limit
	if limit == 0 {
		limit = defaultPropagation
	}
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	missing := w.watch(inner, name, value)
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("after %v the value is not in TXT at %s on %s: do they get the zone's changes? (else more time for propagation)", limit, name, strings.Join(missing, ", "))
	}
	return nil
}

// watch looks again and again until the context ends. It gives those servers
// that did not have the value when they were asked last.
func (w watch) watch(ctx context.Context, name, value string) (missing []string) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	end, servers := w.servers(ctx, name)
	for {
		seen, without := look(ctx, servers, end, value)
		if ctx.Err() != nil {
			return missing
		}
		missing = without
		if seen && len(missing) == 0 {
			return nil
		}
		if !seen && len(missing) == 0 && w.resolved(ctx, end, value) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return missing
		}
	}
}

// servers finds who is responsible for a name, CNAMEs followed: host to address.
func (w watch) servers(ctx context.Context, name string) (end string, servers map[string]string) {
	servers = map[string]string{}
	for _, server := range w.also {
		servers[server] = server
	}
	end, err := w.find.alias(ctx, name)
	if err != nil {
		return dns.CanonicalName(name), servers
	}
	at, err := w.find.place(ctx, end)
	if err != nil {
		return end, servers
	}
	reply, err := w.find.ask(ctx, at.zone, dns.TypeNS)
	if err != nil {
		return end, servers
	}
	for _, rr := range reply.Answer {
		if ns, ok := rr.(*dns.NS); ok && len(servers) < maxWatched {
			w.addresses(ctx, ns.Ns, servers)
		}
	}
	return end, servers
}

func (w watch) addresses(ctx context.Context, host string, servers map[string]string) {
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		reply, err := w.find.ask(ctx, dns.CanonicalName(host), rrtype)
		if err != nil {
			continue
		}
		for _, rr := range reply.Answer {
			var address net.IP
			switch rr := rr.(type) {
			case *dns.A:
				address = rr.A
			case *dns.AAAA:
				address = rr.AAAA
			default:
				continue
			}
			if len(servers) < maxWatched {
				servers[fmt.Sprintf("%s (%s)", plain(host), address)] = net.JoinHostPort(address.String(), "53")
			}
		}
	}
}

// look asks all servers at once.
func look(ctx context.Context, servers map[string]string, name, value string) (seen bool, missing []string) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for label, server := range servers {
		all.Go(func() {
			reply, err := ask(ctx, server, name, dns.TypeTXT)
			says := err == nil && reply.Authoritative && (reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case !says:
			case shows(reply, value):
				seen = true
			default:
				missing = append(missing, label)
			}
		})
	}
	all.Wait()
	slices.Sort(missing)
	return seen, missing
}

func (w watch) resolved(ctx context.Context, name, value string) bool {
	reply, err := w.find.ask(ctx, name, dns.TypeTXT)
	return err == nil && shows(reply, value)
}

func shows(reply *dns.Msg, value string) bool {
	return slices.ContainsFunc(reply.Answer, func(rr dns.RR) bool {
		txt, ok := rr.(*dns.TXT)
		return ok && strings.Join(txt.Txt, "") == value
	})
}

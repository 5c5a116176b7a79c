package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// exchangeTimeout bounds one question to one server, as resolv.conf's
	// "timeout" does, whose default is the same.
	exchangeTimeout = 5 * time.Second
	// maxAliases bounds a chain of CNAME records.
	maxAliases = 16
	// udpSize avoids fragments on any path (RFC 9715 section 3).
	udpSize = 1232
)

// dnsClient asks the servers of a resolv.conf(5), which is read at each look-up.
type dnsClient struct {
	config string
	port   string // instead of 53
}

// lookup asks for A or AAAA records by the name itself and, as the "search" and
// "ndots" options say, by longer ones. The error is errNoSuchHost or errNoServer.
func (c dnsClient) lookup(ctx context.Context, host string, v6 bool) (answer, error) {
	config, err := dns.ClientConfigFromFile(c.config)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errNoServer, err)
	}
	if c.port != "" {
		config.Port = c.port
	}
	kind := dns.TypeA
	if v6 {
		kind = dns.TypeAAAA
	}
	for _, name := range config.NameList(host) {
		found, err := c.ask(ctx, config, name, kind)
		if !errors.Is(err, errNoSuchHost) {
			return found, err
		}
	}
	return answer{}, errNoSuchHost
}

// ask asks the servers in turn, each as often as "attempts" says, until one
// gives an answer that settles the question.
func (c dnsClient) ask(ctx context.Context, config *dns.ClientConfig, name string, kind uint16) (answer, error) {
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	query.SetEdns0(udpSize, false)
	last := errors.New("resolv.conf names none")
	for range max(1, config.Attempts) {
		for _, server := range config.Servers {
			reply, err := exchange(ctx, query, net.JoinHostPort(server, config.Port))
			if err == nil {
				var found answer
				if found, err = readReply(query, reply); err == nil || errors.Is(err, errNoSuchHost) {
					return found, err
				}
			}
			last = fmt.Errorf("%s: %w", server, err)
			if ctx.Err() != nil {
				return answer{}, fmt.Errorf("%w: %w", errNoServer, ctx.Err())
			}
		}
	}
	return answer{}, fmt.Errorf("%w: %w", errNoServer, last)
}

// exchange asks by UDP, and by TCP for what UDP had to cut off (RFC 7766
// section 5).
func exchange(ctx context.Context, query *dns.Msg, server string) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	udp := dns.Client{Net: "udp", Timeout: exchangeTimeout, UDPSize: udpSize}
	reply, _, err := udp.ExchangeContext(ctx, query, server)
	if err != nil || !reply.Truncated {
		return reply, err
	}
	tcp := dns.Client{Net: "tcp", Timeout: exchangeTimeout}
	reply, _, err = tcp.ExchangeContext(ctx, query, server)
	return reply, err
}

// readReply takes the addresses from a reply, and the shortest lifetime of the
// records that led to them. Records that the question does not lead to are not
// looked at.
func readReply(query, reply *dns.Msg) (answer, error) {
	asked := query.Question[0]
	switch {
	case !reply.Response || len(reply.Question) != 1 || !sameQuestion(reply.Question[0], asked):
		return answer{}, errors.New("reply to another question")
	case reply.Rcode == dns.RcodeNameError:
		return answer{}, errNoSuchHost
	case reply.Rcode != dns.RcodeSuccess:
		return answer{}, fmt.Errorf("reply %s", dns.RcodeToString[reply.Rcode])
	}
	name, ttl := followAliases(reply.Answer, asked.Name)
	var addrs []netip.Addr
	for _, rr := range reply.Answer {
		if a, ok := addressOf(rr, asked.Qtype); ok && sameName(rr.Header().Name, name) {
			addrs = append(addrs, a)
			ttl = min(ttl, lifetime(rr))
		}
	}
	if len(addrs) > 0 {
		return answer{addrs: addrs, ttl: ttl}, nil
	}
	return answer{ttl: min(ttl, negativeLifetime(reply))}, nil
}

// followAliases returns the name at the end of the CNAME chain of name and the
// shortest lifetime on the way.
func followAliases(records []dns.RR, name string) (string, time.Duration) {
	ttl := maxRefresh
	for range maxAliases {
		next := ""
		for _, rr := range records {
			if alias, ok := rr.(*dns.CNAME); ok && sameName(alias.Hdr.Name, name) {
				next = alias.Target
				ttl = min(ttl, lifetime(rr))
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	return name, ttl
}

func addressOf(rr dns.RR, kind uint16) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		if kind == dns.TypeA {
			a, ok := netip.AddrFromSlice(rr.A)
			return a.Unmap(), ok
		}
	case *dns.AAAA:
		if kind == dns.TypeAAAA {
			return netip.AddrFromSlice(rr.AAAA)
		}
	}
	return netip.Addr{}, false
}

// negativeLifetime is how long "no such record" holds (RFC 2308 section 5).
func negativeLifetime(reply *dns.Msg) time.Duration {
	for _, rr := range reply.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(lifetime(rr), time.Duration(soa.Minttl)*time.Second)
		}
	}
	return staticTTL
}

func lifetime(rr dns.RR) time.Duration { return time.Duration(rr.Header().Ttl) * time.Second }

func sameName(a, b string) bool { return strings.EqualFold(dns.Fqdn(a), dns.Fqdn(b)) }

func sameQuestion(a, b dns.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && sameName(a.Name, b.Name)
}

package dns01

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// askTime is how long one server may take, over UDP and then over TCP.
	askTime = 3 * time.Second
	// udpSize is what comes through without fragments.
	udpSize = 1232
)

// finder looks names up at servers in their order.
type finder struct{ servers []string }

// unknownError is what nobody could tell.
type unknownError struct {
	name     string
	failures []string
}

func (e unknownError) Error() string {
	return fmt.Sprintf("looking up %s: %s", plain(e.name), strings.Join(e.failures, "; "))
}

func systemResolvers() []string {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	servers := make([]string, len(config.Servers))
	for i, server := range config.Servers {
		servers[i] = net.JoinHostPort(server, config.Port)
	}
	return servers
}

func validateResolvers(resolvers []string) error {
	for _, resolver := range resolvers {
		if _, err := endpoint(resolver); err != nil {
			return fmt.Errorf("resolvers: %w", err)
		}
	}
	return nil
}

// ask gives the first reply that knows: that the records are these, or that
// there are none. A referral does not know.
func (f finder) ask(ctx context.Context, name string, rrtype uint16) (*dns.Msg, error) {
	var failures []string
	for _, server := range f.servers {
		reply, err := ask(ctx, server, name, rrtype)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("looking up %s: %w", plain(name), ctx.Err())
		}
		switch {
		case err != nil:
		case reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError:
			err = errors.New(rcode(reply))
		case !reply.Authoritative && !reply.RecursionAvailable:
			err = errors.New("knows only who knows")
		default:
			return reply, nil
		}
		failures = append(failures, fmt.Sprintf("%s: %v", server, err))
	}
	if len(failures) == 0 {
		failures = []string{"no resolver is configured, nor is one in /etc/resolv.conf"}
	}
	return nil, unknownError{name: name, failures: failures}
}

// ask asks one server, over TCP if UDP did not do.
func ask(ctx context.Context, server, name string, rrtype uint16) (*dns.Msg, error) {
	address, err := endpoint(server)
	if err != nil {
		return nil, err
	}
	question := new(dns.Msg).SetQuestion(name, rrtype)
	question.SetEdns0(udpSize, false)
	reply, err := askBy(ctx, "udp", address, question)
	if err == nil && !reply.Truncated || ctx.Err() != nil {
		return reply, err
	}
	return askBy(ctx, "tcp", address, question)
}

func askBy(ctx context.Context, network, server string, question *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTime, errNoAnswer)
	defer cancel()
	conn, end, err := dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := conn.WriteMsg(question); err != nil {
		return nil, because(ctx, err)
	}
	for {
		reply, err := conn.ReadMsg()
		switch {
		case err == nil && answers(reply, question):
			return reply, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case network == "udp" && (err == nil || reply != nil): // from somebody else; the answer may come yet
		case err == nil:
			return nil, errors.New("answers something else than it was asked")
		default:
			return nil, err
		}
	}
}

package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/relay"
)

// addressBook tells where a relay's name leads, as the firewall knows it: an
// address that is not in the kernel's set could not be reached anyway.
type addressBook interface {
	// Addresses gives the addresses that the firewall lets through for the
	// relay. An error of errNoGuard means that no guard runs.
	Addresses(ctx context.Context, relay string) ([]netip.AddrPort, error)
}

var errNoGuard = errors.New("no guard is running")

// builtRelay is a pool with what it was made from.
type builtRelay struct {
	from config.Relay
	host string
	pool *relay.Pool
}

// relaySet are the pools of the configuration in force. A reload keeps the
// pools of relays that did not change, with their connections.
type relaySet struct {
	book     addressBook
	timeouts relay.Timeouts // zero: the defaults
	log      *zap.Logger
	built    map[string]builtRelay
}

// build makes the pools of a configuration. The set is as before on an error;
// adopt makes the result the set.
func (r *relaySet) build(cfg *config.Config, hostName string) (map[string]builtRelay, error) {
	next := make(map[string]builtRelay, len(cfg.Relays))
	for _, from := range cfg.Relays {
		old, ok := r.built[from.Name]
		if ok && old.host == hostName && reflect.DeepEqual(old.from, from) && from.CAFile == "" {
			next[from.Name] = old
			continue
		}
		options, err := r.options(from, hostName)
		if err != nil {
			return nil, fmt.Errorf("relay %q: %w", from.Name, err)
		}
		next[from.Name] = builtRelay{from, hostName, relay.New(options)}
	}
	return next, nil
}

// adopt makes next the set and lets the pools that are not in it end.
func (r *relaySet) adopt(next map[string]builtRelay) {
	for name, old := range r.built {
		if next[name].pool != old.pool {
			old.pool.Retire()
		}
	}
	r.built = next
}

// relays is the set as the proxy wants it.
func relaysOf(built map[string]builtRelay, order []string) proxy.Relays {
	relays := proxy.Relays{ByName: make(map[string]*relay.Pool, len(built))}
	for name, b := range built {
		relays.ByName[name] = b.pool
	}
	for _, name := range order {
		relays.Order = append(relays.Order, relays.ByName[name])
	}
	return relays
}

func (r *relaySet) options(from config.Relay, hostName string) (relay.Options, error) {
	roots, err := loadRoots(from.CAFile)
	if err != nil {
		return relay.Options{}, err
	}
	options := relay.Options{
		Name: from.Name, Host: from.Host, LocalName: hostName,
		Endpoints: func(ctx context.Context) ([]relay.Endpoint, error) { return r.endpoints(ctx, from) },
		Username:  from.Username, Mechanism: string(from.Auth), Roots: roots,
		Connections: from.Connections, Rate: from.Rate, Timeouts: r.timeouts, Logger: r.log,
	}
	if from.Username != "" {
		options.Password = func() []byte { return []byte(from.Password.Reveal()) }
	}
	for _, pin := range from.Pins {
		options.Pins = append(options.Pins, pin[:])
	}
	return options, nil
}

func loadRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading its CA file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no PEM certificate in its CA file %s", path)
	}
	return roots, nil
}

// endpoints resolves a relay: by the guard, or by ourselves where none runs.
func (r *relaySet) endpoints(ctx context.Context, from config.Relay) ([]relay.Endpoint, error) {
	known, err := r.book.Addresses(ctx, from.Name)
	if err == nil {
		return matchEndpoints(from, known), nil
	}
	if !errors.Is(err, errNoGuard) {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", from.Host)
	if err != nil {
		return nil, err
	}
	var endpoints []relay.Endpoint
	for _, way := range from.Endpoints() {
		for _, address := range addresses {
			endpoints = append(endpoints, relay.Endpoint{
				Address: netip.AddrPortFrom(address.Unmap(), way.Port), TLS: relay.TLSMode(way.TLS),
			})
		}
	}
	return endpoints, nil
}

// matchEndpoints orders the guard's addresses by the ports to try.
func matchEndpoints(from config.Relay, known []netip.AddrPort) []relay.Endpoint {
	var endpoints []relay.Endpoint
	for _, way := range from.Endpoints() {
		for _, address := range known {
			if address.Port() == way.Port {
				endpoints = append(endpoints, relay.Endpoint{Address: address, TLS: relay.TLSMode(way.TLS)})
			}
		}
	}
	return endpoints
}

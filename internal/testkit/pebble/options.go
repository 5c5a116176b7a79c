package pebble

import (
	"context"
	"net/netip"
	"os/exec"
	"time"
)

// Network is where the CA runs, a namespace of a lab for example.
type Network interface {
	// Do runs f on a thread inside, so that sockets that f opens are inside.
	Do(f func() error) error
	// Command prepares a program to run inside, with a process id of its own.
	Command(ctx context.Context, name string, args ...string) *exec.Cmd
}

// Options say what a CA is like. The zero value is a CA on 127.0.0.1 in the
// test's own network that believes every name to live at 127.0.0.1, looks for
// challenges on 80 and 443, and answers at once.
type Options struct {
	// Network is where it runs; default the test's own.
	Network Network
	// Address is where it listens, on ports that the kernel chooses; default
	// 127.0.0.1.
	Address netip.Addr
	// Names are further names in the certificate of its API, which is good for
	// Address and localhost.
	Names []string

	// HTTPPort and TLSPort are where HTTP-01 and TLS-ALPN-01 are looked for;
	// default 80 and 443.
	HTTPPort, TLSPort int
	// Resolver is the DNS server, host:port on TCP, that the CA asks for
	// addresses and TXT records. Default: one that it starts, in Hosts.
	Resolver string
	// Hosts is the IPv4 address that the CA's own DNS server gives for names it
	// was not told about; default Address.
	Hosts netip.Addr

	// Profiles gives each profile's validity period in whole seconds; default
	// one profile, "default", of 90 days. For an order that names none Pebble
	// takes any.
	Profiles map[string]time.Duration
	// EAB are the keys for external account binding, base64url by key id. With
	// any, an account needs one.
	EAB map[string]string
	// Blocked are domains that it refuses to certify, with what is below them.
	Blocked []string
	// BadNonces is how many nonces of a hundred it refuses though they are good.
	BadNonces int
	// RetryAfter is what it tells clients to wait that ask for an authorization
	// or an order, in whole seconds; default nothing.
	RetryAfter time.Duration
	// Slow makes each validation wait a random time below it, in whole seconds.
	Slow time.Duration
	// AlternateRoots is how many chains to other roots it offers beside its own.
	AlternateRoots int
}

func (o Options) withDefaults() Options {
	if o.Network == nil {
		o.Network = here{}
	}
	if !o.Address.IsValid() {
		o.Address = netip.MustParseAddr("127.0.0.1")
	}
	if !o.Hosts.IsValid() {
		o.Hosts = o.Address
	}
	if o.HTTPPort == 0 {
		o.HTTPPort = 80
	}
	if o.TLSPort == 0 {
		o.TLSPort = 443
	}
	if o.Profiles == nil {
		o.Profiles = map[string]time.Duration{"default": 90 * 24 * time.Hour}
	}
	return o
}

// here is the network of the test itself.
type here struct{}

func (here) Do(f func() error) error { return f() }

func (here) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

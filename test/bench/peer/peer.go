package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Environment is what every peer is configured from.
type Environment struct {
	Dir         string // of this peer alone; readable to all, for programs that change their user
	Certificate string // PEM file: leaf and key of the proxies, for Name
	Key         string
	Name        string // what the certificate names
	RelaySTART  string // host:port of the relay with STARTTLS, and in clear
	RelayTLS    string // host:port of the relay with implicit TLS
	RelayName   string // what the relay's certificate names
	RelayCA     string // PEM file
	Banner      string // host:port of who says a banner in clear, and no more
	Username    string // of the account, at the relay and at the proxy alike
	Password    string
	Smtpwall    string // path of the program to measure
	Before      string // path of the program that it is compared with
}

// Running is a peer that serves. An empty address means: cannot do that.
type Running struct {
	Name     string
	STARTTLS string // host:port
	Implicit string // host:port
	Plain    string // host:port; brings the message to the relay under TLS, unless Note says otherwise
	// ClientAuth is set when AUTH towards the relay is the client's own, passed
	// through: the client must then log in on Plain too.
	ClientAuth bool
	PID        int    // of the process whose whole family is the peer; 0: no process
	Queues     bool   // 250 comes before the message is at the relay
	Held       string // host:port with STARTTLS; messages wait for Free. Empty: they wait on STARTTLS, while the relay is away
	Note       string

	free, flush func(context.Context) error
	stop        func() error
}

// Free lets the messages that wait be delivered from now on, but starts nothing.
func (r *Running) Free(ctx context.Context) error {
	if r.free == nil {
		return nil
	}
	return r.free(ctx)
}

// Flush orders that everything that waits is delivered at once.
func (r *Running) Flush(ctx context.Context) error {
	if r.flush == nil {
		return nil
	}
	return r.flush(ctx)
}

// Stop ends the peer.
func (r *Running) Stop() error {
	if r.stop == nil {
		return nil
	}
	return r.stop()
}

// starter makes one peer.
type starter struct {
	name    string
	program string // looked up in PATH and the sbin directories
	debian  string // packages that bring it
	start   func(context.Context, Environment) (*Running, error)
	special bool // only for scenarios that ask for it by name
}

func starters() []starter {
	return []starter{
		{name: "direct", start: startDirect},
		{name: "smtpwall", start: startSmtpwall},
		{name: "haproxy", program: "haproxy", debian: "haproxy", start: startHAProxy},
		{name: "nginx", program: "nginx", debian: "nginx-light libnginx-mod-mail libnginx-mod-stream", start: startNginx},
		{name: "postfix-relay", program: "postfix", debian: postfixPackages, start: startPostfixRelay},
		{name: "postfix-proxy", program: "postfix", debian: postfixPackages, start: startPostfixProxy},
		{name: "haproxy-greeting", program: "haproxy", debian: "haproxy", start: startHAProxyGreeting, special: true},
		{name: "smtpwall-before", start: startSmtpwallBefore, special: true},
		{name: "smtpwall-free", start: startSmtpwallFree, special: true},
		{name: "smtpwall-limits", start: startSmtpwallLimits, special: true},
		{name: "smtpwall-senders", start: startSmtpwallSenders, special: true},
		{name: "smtpwall-queue", start: startSmtpwallQueue, special: true},
		{name: "postfix-queue", program: "postfix", debian: postfixPackages, start: startPostfixQueue, special: true},
	}
}

const postfixPackages = "postfix sasl2-bin libsasl2-modules libsasl2-modules-db"

// Names lists the peers of most scenarios in the order in which they are run.
func Names() []string {
	var names []string
	for _, s := range starters() {
		if !s.special {
			names = append(names, s.name)
		}
	}
	return names
}

// ErrNotInstalled says which Debian packages are missing.
var ErrNotInstalled = errors.New("not installed")

// Start starts the named peer and waits until it accepts connections.
func Start(ctx context.Context, name string, env Environment) (*Running, error) {
	at := slices.IndexFunc(starters(), func(s starter) bool { return s.name == name })
	if at < 0 {
		return nil, fmt.Errorf("no peer %q; there are %s", name, strings.Join(Names(), ", "))
	}
	s := starters()[at]
	if s.program != "" {
		if _, err := lookUp(s.program); err != nil {
			return nil, fmt.Errorf("%s: %w (apt-get install %s, or make deps)", name, ErrNotInstalled, s.debian)
		}
	}
	if err := os.MkdirAll(env.Dir, 0o755); err != nil {
		return nil, err
	}
	running, err := s.start(ctx, env)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	running.Name = name
	for _, address := range []string{running.STARTTLS, running.Implicit, running.Plain, running.Held} {
		if err := awaitPort(ctx, address); err != nil {
			return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), running.Stop())
		}
	}
	return running, nil
}

// startDirect is no proxy at all: the rate that shares are shares of.
func startDirect(_ context.Context, env Environment) (*Running, error) {
	return &Running{STARTTLS: env.RelaySTART, Implicit: env.RelayTLS}, nil
}

// lookUp finds a program also where only root's PATH leads.
func lookUp(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", program))
}

// The ports peers listen on are below those that the kernel gives to clients
// and to listeners without a wish, so that nobody is handed one between our
// look and the peer's start.
const (
	firstPort = 20000
	lastPort  = 32000
)

// freePorts finds n ports of 127.0.0.1 on which nobody listens.
func freePorts(n int) ([]string, error) {
	var addresses []string
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		defer listener.Close() // not before all are found: each is another one
		if addresses = append(addresses, address); len(addresses) == n {
			return addresses, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d", n, firstPort, lastPort)
}

// portOf is the port of a host:port.
func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// awaitPort waits until somebody accepts connections; an empty address is fine.
func awaitPort(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody listens on %s: %w", address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// write puts a configuration file into the peer's directory.
func write(env Environment, name, content string, mode os.FileMode) (string, error) {
	path := filepath.Join(env.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		return "", err
	}
	return path, os.Chmod(path, mode) // whatever the umask says
}

package netns_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// Users of the firewall tests.
const (
	fwProxy    = 990
	fwOrdinary = 1234
)

// Relays of the firewall tests, all of them addresses of the remote.
var (
	fwRelay4      = netip.MustParseAddr("198.51.100.7")
	fwRelay6      = netip.MustParseAddr("2001:db8::7")
	fwRelayPort   = uint16(587)
	fwOddPort     = uint16(10025)
	fwListenPorts = map[uint16]uint16{465: 465, 587: 587, 2525: 12525}
)

func fwOptions() rules.Options {
	return rules.Options{
		Mode:     rules.Enforce,
		ProxyUID: fwProxy,
		Redirect: maps.Clone(fwListenPorts),

		DNSAnswers: true,
		Relays: []netip.AddrPort{
			netip.AddrPortFrom(fwRelay4, fwRelayPort), netip.AddrPortFrom(fwRelay6, fwRelayPort),
			netip.AddrPortFrom(fwRelay4, fwOddPort), netip.AddrPortFrom(fwRelay6, fwOddPort),
		},
	}
}

// firewall is a lab with a Conn in its host.
type firewall struct {
	*lab.Lab
	t    testing.TB
	conn *nft.Conn
}

func newFirewall(t testing.TB, o nft.Options) *firewall {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test changes firewall rules in network namespaces of its own and needs root")
	}
	l, err := lab.New(lab.Options{Container: true, RemoteAddrs: []netip.Addr{fwRelay4, fwRelay6}})
	if err != nil {
		t.Fatal(err)
	}
	f := &firewall{Lab: l, t: t}
	t.Cleanup(func() {
		if f.conn != nil {
			f.conn.Close()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	f.conn = f.open(o)
	return f
}

// open opens one more Conn in the host.
func (f *firewall) open(o nft.Options) *nft.Conn {
	f.t.Helper()
	var conn *nft.Conn
	err := f.Host.Do(func() (err error) {
		conn, err = nft.Open(o)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return conn
}

func (f *firewall) apply(o rules.Options) {
	f.t.Helper()
	if err := f.conn.Apply(f.t.Context(), o); err != nil {
		f.t.Fatal(err)
	}
}

// nft runs the nft command in the host and returns what it prints.
func (f *firewall) nft(args ...string) string {
	f.t.Helper()
	return f.run(f.Host, "", "nft", args...)
}

// load gives a ruleset in nft's language to the nft command in a namespace.
func (f *firewall) load(ns *lab.Namespace, ruleset string) {
	f.t.Helper()
	f.run(ns, ruleset, "nft", "-f", "-")
}

func (f *firewall) run(ns *lab.Namespace, input, name string, args ...string) string {
	f.t.Helper()
	cmd := ns.Command(f.t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// listTable is a table as nft lists it, without the comment that names the
// program that owns it.
func (f *firewall) listTable(name string) string {
	f.t.Helper()
	return regexp.MustCompile(` # progname .*`).ReplaceAllString(f.nft("list", "table", "inet", name), "")
}

// outcome of an attempt to connect: the name of who answered, or one of these.
type outcome string

const (
	reset  outcome = "reset"  // at once
	silent outcome = "silent" // no answer in two seconds
)

// atOnce is far below the second after which a refused IPv6 socket would notice
// anything but a reset.
const atOnce = 500 * time.Millisecond

// serve listens and answers each connection with a name.
func serve(t testing.TB, ns *lab.Namespace, name string, addrs ...netip.AddrPort) {
	t.Helper()
	for _, addr := range addrs {
		ln, err := ns.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { // ends with the listener, below
			defer close(done)
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				io.WriteString(conn, name)
				conn.Close()
			}
		}()
		t.Cleanup(func() {
			ln.Close()
			<-done
		})
	}
}

// everywhere is each port on all IPv4 and all IPv6 addresses.
func everywhere(ports ...uint16) []netip.AddrPort {
	var out []netip.AddrPort
	for _, p := range ports {
		out = append(out, netip.AddrPortFrom(netip.IPv4Unspecified(), p), netip.AddrPortFrom(netip.IPv6Unspecified(), p))
	}
	return out
}

// dial connects as uid and says who answered, or what else happened.
func dial(t testing.TB, ns *lab.Namespace, uid uint32, to netip.AddrPort) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	began := time.Now()
	conn, err := ns.DialAs(ctx, uid, to)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && time.Since(began) < atOnce:
		return reset
	case err != nil && ctx.Err() != nil:
		return silent
	case err != nil:
		t.Fatalf("uid %d in %s connecting to %s: %v after %s", uid, ns, to, err, time.Since(began))
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	name, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("reading from %s: %v", to, err)
	}
	return outcome(name)
}

package netns_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// pipe is an open connection, seen from both ends.
type pipe struct{ client, server *net.TCPConn }

// connectPipe opens a connection from one namespace to another and keeps it.
func connectPipe(t *testing.T, from *lab.Namespace, source netip.AddrPort, to *lab.Namespace, dest netip.AddrPort) pipe {
	t.Helper()
	return connectPipeAs(t, 0, from, source, to, dest)
}

func connectPipeAs(t *testing.T, uid uint32, from *lab.Namespace, source netip.AddrPort, to *lab.Namespace, dest netip.AddrPort) pipe {
	t.Helper()
	ln, err := to.Listen(dest)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	client, err := from.DialFrom(ctx, uid, source, dest)
	if err != nil {
		t.Fatal(err)
	}
	ln.SetDeadline(time.Now().Add(2 * time.Second))
	server, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return pipe{client, server}
}

// passes sends a line and says whether it arrived.
func passes(t testing.TB, from, to *net.TCPConn) bool {
	t.Helper()
	if _, err := from.Write([]byte("line\r\n")); err != nil {
		return false
	}
	to.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	buf := make([]byte, 6)
	_, err := io.ReadFull(to, buf)
	return err == nil
}

// dead checks that a connection has been cut at its client's end.
func dead(t *testing.T, c *net.TCPConn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, err := io.Copy(io.Discard, c)
	if !errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection lives: reading gave %v, want a reset", err)
	}
}

// TestFirewallCutsOpenConnections: what was open when the rules came dies with
// the first packet that we send, whoever speaks first. Connection tracking was
// off, so it would take a connection whose first packet comes from outside for
// an inbound one.
func TestFirewallCutsOpenConnections(t *testing.T) {
	reject := fwOptions()
	reject.SubmissionPorts = rules.RejectSubmission
	for name, o := range map[string]rules.Options{"redirect": fwOptions(), "reject": reject} {
		for _, port := range []uint16{25, 587} {
			for _, v6 := range []bool{false, true} {
				f := newFirewall(t, nft.Options{Lock: true})
				dest := netip.AddrPortFrom(f.Remote.Addr(v6), port)
				open := func(from *lab.Namespace) pipe {
					return connectPipe(t, from, netip.AddrPort{}, f.Remote, dest)
				}
				we, they := open(f.Host), open(f.Host)
				contained, answered := open(f.Container), open(f.Container)
				f.apply(o)
				for _, p := range []pipe{we, contained} {
					if passes(t, p.client, p.server) {
						t.Errorf("%s %s: our packet reached the other end", name, dest)
					}
					dead(t, p.client)
				}
				for _, p := range []pipe{they, answered} {
					p.server.Write([]byte("220 hello\r\n"))
					dead(t, p.client) // by its own acknowledgement
					if passes(t, p.client, p.server) {
						t.Errorf("%s %s: our packet reached the other end, which spoke first", name, dest)
					}
				}
			}
		}
	}
}

// TestFirewallCutsOthersOpenConnectionsToTheRelay, but not the proxy's.
func TestFirewallCutsOthersOpenConnectionsToTheRelay(t *testing.T) {
	for _, relay := range []netip.Addr{fwRelay4, fwRelay6} {
		f := newFirewall(t, nft.Options{Lock: true})
		dest := netip.AddrPortFrom(relay, fwOddPort)
		root := connectPipeAs(t, 0, f.Host, netip.AddrPort{}, f.Remote, dest)
		proxy := connectPipeAs(t, fwProxy, f.Host, netip.AddrPort{}, f.Remote, dest)
		f.apply(fwOptions())
		if passes(t, root.client, root.server) {
			t.Errorf("root's packet reached relay %s", relay)
		}
		dead(t, root.client)
		if !passes(t, proxy.client, proxy.server) || !passes(t, proxy.server, proxy.client) {
			t.Errorf("the proxy's connection to relay %s was cut", relay)
		}
	}
}

// TestFirewallProxyClosesCleanly: packets after the close have no owner, and
// must still get to the relay.
func TestFirewallProxyClosesCleanly(t *testing.T) {
	for _, relay := range []netip.Addr{fwRelay4, fwRelay6} {
		f := newFirewall(t, nft.Options{Lock: true})
		f.apply(fwOptions())
		p := connectPipeAs(t, fwProxy, f.Host, netip.AddrPort{}, f.Remote, netip.AddrPortFrom(relay, fwOddPort))
		const size = 1 << 20 // most of it is still to be sent when the socket closes
		go func() {
			p.client.Write(make([]byte, size))
			p.client.Close()
		}()
		p.server.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := io.Copy(io.Discard, p.server); err != nil || n != size {
			t.Errorf("relay %s got %d bytes and %v, want %d and a clean end", relay, n, err, size)
		}
	}
}

// TestFirewallLeavesInboundAlone: a client outside may have a mail port as its
// own; replies to it are no attempts.
func TestFirewallLeavesInboundAlone(t *testing.T) {
	for _, port := range []uint16{25, 465, 587, 2525} {
		for _, v6 := range []bool{false, true} {
			f := newFirewall(t, nft.Options{Lock: true})
			f.apply(fwOptions())
			source := netip.AddrPortFrom(f.Remote.Addr(v6), port)
			for _, to := range []*lab.Namespace{f.Host, f.Container} {
				p := connectPipe(t, f.Remote, source, to, netip.AddrPortFrom(to.Addr(v6), 8080))
				if !passes(t, p.client, p.server) || !passes(t, p.server, p.client) {
					t.Errorf("connection from %s to %s was cut", source, to)
				}
				f.apply(fwOptions())
				if !passes(t, p.server, p.client) {
					t.Errorf("connection from %s to %s was cut when the rules were applied anew", source, to)
				}
				f.nft("delete", "table", "inet", rules.Table)
				if !passes(t, p.server, p.client) {
					t.Errorf("connection from %s to %s was cut by the lock table", source, to)
				}
				f.apply(fwOptions())
				p.client.SetLinger(0)
				p.client.Close()
			}
		}
	}
}

// TestFirewallStrangerCannotOpenTheDoor: a remote that sends an opening packet
// from its port 25 makes an inbound entry; a local process that then connects
// back by the same ports is refused all the same.
func TestFirewallStrangerCannotOpenTheDoor(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		f := newFirewall(t, nft.Options{Lock: true})
		f.apply(fwOptions())
		theirs, ours := netip.AddrPortFrom(f.Remote.Addr(v6), 25), netip.AddrPortFrom(f.Host.Addr(v6), 40025)
		p := connectPipe(t, f.Remote, theirs, f.Host, ours)
		p.client.SetLinger(0)
		p.client.Close()
		p.server.SetLinger(0)
		p.server.Close()
		serve(t, f.Remote, "remote", theirs)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if conn, err := f.Host.DialFrom(ctx, fwOrdinary, ours, theirs); !errors.Is(err, syscall.ECONNREFUSED) {
			if err == nil {
				conn.Close()
			}
			t.Errorf("connecting from %s to %s gave %v, want a reset", ours, theirs, err)
		}
	}
}

// TestFirewallRefusesARenumberedSource: see proxy/peer, which asks the kernel by
// the source port.
func TestFirewallRefusesARenumberedSource(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		f := newFirewall(t, nft.Options{Lock: true})
		f.apply(fwOptions())
		f.serveAll()
		source := netip.AddrPortFrom(f.Host.Addr(v6), 41000)
		first, err := f.Host.DialFrom(t.Context(), fwOrdinary, source, netip.AddrPortFrom(f.Remote.Addr(v6), 587))
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		second, err := f.Host.DialFrom(t.Context(), fwOrdinary, source, netip.AddrPortFrom(f.address(toRelay, v6), 587))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			if err == nil {
				second.Close()
			}
			t.Errorf("a connection with a changed source port gave %v, want a reset", err)
		}
	}
}

package netns_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// TestFirewallSeesMappedAddresses: an IPv6 socket may connect to an IPv4
// address, and sends IPv4 packets then.
func TestFirewallSeesMappedAddresses(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.apply(fwOptions())
	f.serveAll()
	for port, want := range map[int]error{25: syscall.ECONNREFUSED, 8080: nil, 587: nil} {
		to := &syscall.SockaddrInet6{Port: port, Addr: f.Remote.Addr4().As16()}
		err := f.Host.Do(func() error {
			fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer syscall.Close(fd)
			for err = syscall.EINTR; err == syscall.EINTR; {
				err = syscall.Connect(fd, to)
			}
			return err
		})
		if !errors.Is(err, want) {
			t.Errorf("an IPv6 socket to IPv4 port %d: %v, want %v", port, err, want)
		}
	}
}

// TestFirewallKnowsLinkLocalAddresses: those of the host are its own, those of
// a neighbour are outside.
func TestFirewallKnowsLinkLocalAddresses(t *testing.T) {
	f := newFirewall(t, nft.Options{Lock: true})
	f.apply(fwOptions())
	f.serveAll()
	own := linkLocal(t, f.Host, lab.Uplink).WithZone(lab.Uplink)
	neighbour := linkLocal(t, f.Remote, lab.RemoteIf).WithZone(lab.Uplink)
	for _, c := range []struct {
		to   netip.AddrPort
		want outcome
	}{
		{netip.AddrPortFrom(own, 25), "host"},
		{netip.AddrPortFrom(neighbour, 25), reset},
		{netip.AddrPortFrom(neighbour, 587), reset}, // cannot be redirected
		{netip.AddrPortFrom(neighbour, 8080), "remote"},
	} {
		if got := dial(t, f.Host, fwOrdinary, c.to); got != c.want {
			t.Errorf("to %s: %s, want %s", c.to, got, c.want)
		}
	}
}

func linkLocal(t *testing.T, ns *lab.Namespace, iface string) netip.Addr {
	t.Helper()
	var found netip.Addr
	err := ns.Do(func() error {
		i, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		addrs, err := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsLinkLocalUnicast() {
				found = p.Addr()
			}
		}
		return err
	})
	if err != nil || !found.IsValid() {
		t.Fatalf("no link-local address on %s: %v", iface, err)
	}
	return found
}

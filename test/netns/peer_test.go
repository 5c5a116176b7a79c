package netns_test

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/proxy/peer"
)

func TestPeerRedirected(t *testing.T) {
	p := newPeerLab(t, peerRules)
	tests := []struct {
		name, network, listen string
		dst                   netip.AddrPort
		redirected            bool
	}{
		{"remote v4", "tcp4", "127.0.0.1:10587", netip.AddrPortFrom(peerFar4, 587), true},
		{"remote v6", "tcp6", "[::1]:10587", netip.AddrPortFrom(peerFar6, 587), true},
		{"remote v4 at a listener for both", "tcp", "[::]:10587", netip.AddrPortFrom(peerFar4, 587), true},
		{"remote v6 at a listener for both", "tcp", "[::]:10587", netip.AddrPortFrom(peerFar6, 587), true},
		{"own address v4", "tcp4", "127.0.0.1:10587", netip.AddrPortFrom(p.Host.Addr4(), 587), true},
		{"own address v6", "tcp6", "[::1]:10587", netip.AddrPortFrom(p.Host.Addr6(), 587), true},
		{"direct v4", "tcp4", "127.0.0.1:10587", netip.MustParseAddrPort("127.0.0.1:10587"), false},
		{"direct v6", "tcp6", "[::1]:10587", netip.MustParseAddrPort("[::1]:10587"), false},
		{"direct v4 at a listener for both", "tcp", "[::]:10587", netip.MustParseAddrPort("127.0.0.1:10587"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ln := p.listen(t, tt.network, tt.listen)
			for _, uid := range []uint32{0, 1001, 2002, 65534} {
				client := p.dial(t, uid, netip.AddrPort{}, tt.dst)
				got := p.id.TCP(accept(t, ln))
				if !got.Proven || got.UID != uid {
					t.Errorf("uid %d: got %+v", uid, got)
				}
				if src := client.LocalAddr().(*net.TCPAddr).AddrPort(); got.Remote != src {
					t.Errorf("remote %v, want %v", got.Remote, src)
				}
				if got.OriginalDst.IsValid() != tt.redirected || tt.redirected && got.OriginalDst != tt.dst {
					t.Errorf("original destination %v, want %v (%v)", got.OriginalDst, tt.dst, tt.redirected)
				}
			}
			ln.Close()
		})
	}
}

// dialMapped connects an AF_INET6 socket to an IPv4-mapped address.
func (p *peerLab) dialMapped(t *testing.T, uid uint32, dst netip.AddrPort) {
	t.Helper()
	err := p.Host.DoAs(uid, uid, func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		return unix.Connect(fd, &unix.SockaddrInet6{Port: int(dst.Port()), Addr: dst.Addr().As16()})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPeerMappedSocket(t *testing.T) {
	p := newPeerLab(t, peerRules)
	ln := p.listen(t, "tcp", "[::]:10587")
	for _, dst := range []string{"203.0.113.5:587", "127.0.0.1:10587"} {
		p.dialMapped(t, 1001, netip.MustParseAddrPort(dst))
		got := p.id.TCP(accept(t, ln))
		if !got.Proven || got.UID != 1001 || got.OriginalDst.IsValid() != (got.Local.Port() != 0 && dst[:1] == "2") {
			t.Errorf("%s: got %+v", dst, got)
		}
	}
}

// TestPeerOfAnotherHost: who connects from outside is nobody here, also when
// a local socket has the same port.
func TestPeerOfAnotherHost(t *testing.T) {
	p := newPeerLab(t, peerRules)
	for _, v6 := range []bool{false, true} {
		ln := p.listen(t, "tcp", netip.AddrPortFrom(p.Host.Addr(v6), 2525).String())
		client, err := p.Remote.DialAs(t.Context(), 1001, netip.AddrPortFrom(p.Host.Addr(v6), 2525))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if got := p.id.TCP(accept(t, ln)); got.Proven || got.UID != peer.NoUID {
			t.Errorf("v6 %v: got %+v", v6, got)
		}
		ln.Close()
	}
}

// TestPeerChangedSourcePort shows why the rules must refuse a connection whose
// source port was changed. Two sockets may share a source port if they go to
// different places; once both are redirected to us they would be one, so the
// kernel changes the port of the second. Whoever has the new port as his own is
// then found in its place.
func TestPeerChangedSourcePort(t *testing.T) {
	first, second := netip.AddrPortFrom(peerFar4, 587), netip.AddrPortFrom(peerFar4b, 587)
	t.Run("without the rule", func(t *testing.T) {
		p := newPeerLab(t, peerRedirectOnly)
		ln := p.listen(t, "tcp4", "127.0.0.1:10587")
		src := netip.AddrPortFrom(p.Host.Addr4(), 40000)
		p.dial(t, 1001, src, first)
		if got := p.id.TCP(accept(t, ln)); got.UID != 1001 {
			t.Fatalf("first: got %+v", got)
		}
		p.dial(t, 1001, src, second)
		if got := p.id.TCP(accept(t, ln)); got.Proven || got.Remote == src {
			t.Errorf("the port was not changed, or somebody else was found: %+v", got)
		}
	})
	t.Run("with the rule", func(t *testing.T) {
		p := newPeerLab(t, peerRules)
		ln := p.listen(t, "tcp4", "127.0.0.1:10587")
		src := netip.AddrPortFrom(p.Host.Addr4(), 40000)
		p.dial(t, 1001, src, first)
		accept(t, ln)
		if conn, err := p.tryDial(1001, src, second); err == nil {
			conn.Close()
			t.Error("a connection with a changed port reached the listener")
		}
	})
}

func BenchmarkPeerRedirected(b *testing.B) {
	p := newPeerLab(b, peerRules)
	ln := p.listen(b, "tcp4", "127.0.0.1:10587")
	p.dial(b, 1001, netip.AddrPort{}, netip.AddrPortFrom(peerFar4, 587))
	server := accept(b, ln)
	b.ReportAllocs()
	for b.Loop() {
		if got := p.id.TCP(server); got.UID != 1001 {
			b.Fatalf("got %+v", got)
		}
	}
}

package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// answerFor makes the kernel's answer about a client socket.
type answer struct {
	family, state byte
	src, dst      netip.AddrPort
	uid, inode    uint32
	cgroup        uint64
}

func (a answer) encode() []byte {
	b := make([]byte, headerLen+answerLen)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	body := b[headerLen:]
	body[0], body[1] = a.family, a.state
	id := body[answerSockid:]
	binary.BigEndian.PutUint16(id[0:], a.src.Port())
	binary.BigEndian.PutUint16(id[2:], a.dst.Port())
	copy(id[4:20], a.src.Addr().AsSlice())
	copy(id[20:36], a.dst.Addr().AsSlice())
	binary.NativeEndian.PutUint32(body[64:], a.uid)
	binary.NativeEndian.PutUint32(body[68:], a.inode)
	b = append(b, 5, 0, 8, 0, 7, 0, 0, 0) // another attribute, padded
	if a.cgroup != 0 {
		b = binary.NativeEndian.AppendUint16(b, 12)
		b = binary.NativeEndian.AppendUint16(b, attrCGroupID)
		b = binary.NativeEndian.AppendUint64(b, a.cgroup)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestDecode(t *testing.T) {
	src, dst := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("203.0.113.5:587")
	mapped := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	client := answer{family: unix.AF_INET, state: tcpEstablished, src: src, dst: dst, uid: 33, inode: 77, cgroup: 14617}
	tests := []struct {
		name   string
		change func(*answer)
		want   owner
		err    error
	}{
		{"client", func(a *answer) {}, owner{33, 77, 14617}, nil},
		{"root", func(a *answer) { a.uid = 0 }, owner{0, 77, 14617}, nil},
		{"half closed", func(a *answer) { a.state = tcpFinWait2 }, owner{33, 77, 14617}, nil},
		{"no cgroup2", func(a *answer) { a.cgroup = 0 }, owner{33, 77, 0}, nil},
		{"mapped", func(a *answer) { a.family, a.src, a.dst = unix.AF_INET6, mapped(src), mapped(dst) }, owner{33, 77, 14617}, nil},
		{"closed, owner kept", func(a *answer) { a.inode, a.state = 0, tcpFinWait1 }, owner{33, 0, 14617}, nil},
		{"closed, owner not kept", func(a *answer) { a.inode, a.state, a.uid = 0, tcpFinWait1, 0 }, owner{}, errGone},
		{"time-wait minisock", func(a *answer) { a.inode, a.state, a.uid, a.cgroup = 0, tcpFinWait2, 0, 0 }, owner{}, errGone},
		{"no inode and no cgroup", func(a *answer) { a.inode, a.cgroup = 0, 0 }, owner{}, errGone},
		{"time-wait", func(a *answer) { a.state = 6 }, owner{}, errNotClient},
		{"connecting", func(a *answer) { a.state = 2 }, owner{}, errNotClient},
		{"listener", func(a *answer) { a.state = 10 }, owner{}, errNotClient},
		{"other source", func(a *answer) { a.src = netip.MustParseAddrPort("192.0.2.2:40000") }, owner{}, errNotClient},
		{"other source port", func(a *answer) { a.src = netip.MustParseAddrPort("192.0.2.1:40001") }, owner{}, errNotClient},
		{"other destination", func(a *answer) { a.dst = netip.MustParseAddrPort("203.0.113.6:587") }, owner{}, errNotClient},
		{"listener's wildcard", func(a *answer) { a.src, a.dst = netip.MustParseAddrPort("0.0.0.0:40000"), netip.AddrPort{} }, owner{}, errNotClient},
		{"swapped", func(a *answer) { a.src, a.dst = dst, src }, owner{}, errNotClient},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := client
			tt.change(&a)
			var c diagConn
			c.encode(src, dst)
			got, err := decode(a.encode(), c.req[requestSockid:])
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	src, dst := netip.MustParseAddrPort("[2001:db8::1]:40000"), netip.MustParseAddrPort("[2001:db8::2]:587")
	var c diagConn
	c.encode(src, dst)
	f.Add(answer{family: unix.AF_INET6, state: 1, src: src, dst: dst, uid: 1, inode: 2, cgroup: 3}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decode(b, c.req[requestSockid:])
		if err == nil && got.inode == 0 && (got.uid == 0 || got.cgroup == 0) {
			t.Errorf("a remnant was taken for an owner: %+v", got)
		}
	})
}

// loopback is an accepted connection from ourselves.
func loopback(t testing.TB, network, address string) (server, client *net.TCPConn) {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	ln, err := config.Listen(context.Background(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

func newIdentifier(t testing.TB, opts Options) *Identifier {
	t.Helper()
	id, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := id.Close(); err != nil {
			t.Error(err)
		}
	})
	return id
}

func TestIdentifySelf(t *testing.T) {
	id := newIdentifier(t, Options{})
	if err := id.SelfTest(t.Context()); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		server, client := loopback(t, "tcp", address)
		p := id.TCP(server)
		if !p.Proven || p.UID != uint32(os.Getuid()) || p.OriginalDst.IsValid() {
			t.Errorf("%s: %+v", address, p)
		}
		if p.Remote != unmapped(client.LocalAddr()) || p.Local != unmapped(client.RemoteAddr()) {
			t.Errorf("%s: wrong ends: %+v", address, p)
		}
		if q := id.Socket(p.Remote, p.Local); !q.Proven || q.UID != p.UID {
			t.Errorf("%s: by tuple: %+v", address, q)
		}
	}
}

func TestStrangersAreUnknown(t *testing.T) {
	id := newIdentifier(t, Options{})
	server, _ := loopback(t, "tcp", "127.0.0.1:0")
	local := unmapped(server.LocalAddr())
	for _, src := range []string{"192.0.2.1:40000", "[2001:db8::1]:40000"} {
		if p := id.Socket(netip.MustParseAddrPort(src), local); p.Proven || p.UID != NoUID {
			t.Errorf("%s: %+v", src, p)
		}
	}
	// A listener must not vouch for whoever claims its port as source.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if p := id.Socket(unmapped(ln.Addr()), local); p.Proven {
		t.Errorf("a listener was taken for a client: %+v", p)
	}
}

func TestClosedIdentifier(t *testing.T) {
	id, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	server, _ := loopback(t, "tcp", "127.0.0.1:0")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				if p := id.TCP(server); p.Proven && p.UID != uint32(os.Getuid()) {
					t.Errorf("wrong: %+v", p)
				}
			}
		})
	}
	if err := id.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	if p := id.TCP(server); p.Proven {
		t.Errorf("identified after Close: %+v", p)
	}
	if err := id.Close(); err != nil {
		t.Error("closing twice:", err)
	}
}

func BenchmarkTCP(b *testing.B) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		b.Run(address, func(b *testing.B) {
			id := newIdentifier(b, Options{})
			server, _ := loopback(b, "tcp", address)
			b.ReportAllocs()
			for b.Loop() {
				if p := id.TCP(server); !p.Proven {
					b.Fatal("unknown")
				}
			}
		})
	}
}

func BenchmarkTCPParallel(b *testing.B) {
	id := newIdentifier(b, Options{})
	server, _ := loopback(b, "tcp", "127.0.0.1:0")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if p := id.TCP(server); !p.Proven {
				b.Error("unknown")
			}
		}
	})
}

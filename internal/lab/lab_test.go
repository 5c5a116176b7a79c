package lab_test

import (
	"context"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
)

func newLab(t *testing.T, opts lab.Options) *lab.Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces and needs root")
	}
	l, err := lab.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestEverybodyReachesTheRemote(t *testing.T) {
	far4, far6 := netip.MustParseAddr("203.0.113.25"), netip.MustParseAddr("2001:db8:25::1")
	l := newLab(t, lab.Options{Container: true, RemoteAddrs: []netip.Addr{far4, far6}})
	for _, to := range []netip.Addr{l.Remote.Addr4(), l.Remote.Addr6(), far4, far6} {
		for _, from := range []*lab.Namespace{l.Host, l.Container, l.Remote} {
			t.Run(from.String()+" "+to.String(), func(t *testing.T) { checkEcho(t, l, from, to) })
		}
	}
}

func checkEcho(t *testing.T, l *lab.Lab, from *lab.Namespace, to netip.Addr) {
	t.Helper()
	ln, err := l.Remote.Listen(netip.AddrPortFrom(to, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := from.DialAs(ctx, 1234, netip.MustParseAddrPort(ln.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	served, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(served, "hello")
	served.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v; want hello", got, err)
	}
}

// TestTheRemoteReachesTheContainerAtOnce: the first packet needs neighbour
// discovery by a host that is a router there.
func TestTheRemoteReachesTheContainerAtOnce(t *testing.T) {
	l := newLab(t, lab.Options{Container: true})
	for _, v6 := range []bool{true, false} {
		ln, err := l.Container.Listen(netip.AddrPortFrom(l.Container.Addr(v6), 0))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
		defer cancel()
		conn, err := l.Remote.Dial(ctx, netip.MustParseAddrPort(ln.Addr().String()))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
}

func TestCommandRunsInsideAsTheUser(t *testing.T) {
	l := newLab(t, lab.Options{})
	cmd := lab.AsUser(l.Host.Command(t.Context(), "sh", "-c", "id -u; id -g; cat /proc/net/dev"), 1234, 5678)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := string(out); !strings.HasPrefix(got, "1234\n5678\n") || !strings.Contains(got, lab.Uplink+":") {
		t.Errorf("ran with another identity or elsewhere:\n%s", got)
	}
}

func TestDoComesHome(t *testing.T) {
	l := newLab(t, lab.Options{})
	home, inside := netnsID(t), ""
	if err := l.Host.Do(func() error { inside = netnsID(t); return nil }); err != nil {
		t.Fatal(err)
	}
	if inside == home {
		t.Error("Do did not leave the test's namespace")
	}
	if now := netnsID(t); now != home {
		t.Errorf("after Do the thread is in %s, not in %s", now, home)
	}
}

func netnsID(t *testing.T) string {
	t.Helper()
	id, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

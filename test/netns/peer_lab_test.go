package netns_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/peer"
)

// peerRules redirects what a host dials on 587, as the firewall does, and
// refuses a connection whose source port had to be changed: its peer could be
// taken for another (see TestPeerChangedSourcePort).
const peerRules = `table inet peer_test {
	chain peer_redirect {
		type nat hook output priority -110
		tcp dport 587 redirect to :10587
	}
	chain peer_refuse {
		type filter hook input priority 0
		tcp dport 10587 ct status snat reject with tcp reset
	}
}
`

// peerRedirectOnly is the first half of peerRules.
const peerRedirectOnly = `table inet peer_test {
	chain peer_redirect {
		type nat hook output priority -110
		tcp dport 587 redirect to :10587
	}
}
`

var (
	peerFar4  = netip.MustParseAddr("203.0.113.5")
	peerFar4b = netip.MustParseAddr("203.0.113.6")
	peerFar6  = netip.MustParseAddr("2001:db8:f::5")
)

// peerLab is a lab whose host redirects, with an identifier in the host.
type peerLab struct {
	*lab.Lab
	id *peer.Identifier
}

func newPeerLab(t testing.TB, rules string) *peerLab {
	t.Helper()
	l, err := lab.New(lab.Options{RemoteAddrs: []netip.Addr{peerFar4, peerFar4b, peerFar6}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cmd := l.Host.Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("loading rules in the lab: %v\n%s", err, out)
	}
	p := &peerLab{Lab: l}
	if err := l.Host.Do(func() (err error) { p.id, err = peer.New(peer.Options{}); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.id.Close() })
	return p
}

// listen opens a listener in the host; network "tcp" makes one for both families.
func (p *peerLab) listen(t testing.TB, network, address string) *net.TCPListener {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	var ln net.Listener
	err := p.Host.Do(func() (err error) {
		ln, err = config.Listen(context.Background(), network, address)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// dial connects as uid from a source address that others may use as well.
func (p *peerLab) dial(t testing.TB, uid uint32, from, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	conn, err := p.tryDial(uid, from, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *peerLab) tryDial(uid uint32, from, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, Control: reuseAddress}
	d.SetMultipathTCP(false)
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	var conn net.Conn
	err := p.Host.DoAs(uid, uid, func() (err error) {
		conn, err = d.Dial("tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func reuseAddress(_, _ string, c syscall.RawConn) error {
	var serr error
	err := c.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, serr)
}

func accept(t testing.TB, ln *net.TCPListener) *net.TCPConn {
	t.Helper()
	ln.SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

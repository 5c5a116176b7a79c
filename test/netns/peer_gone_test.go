package netns_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/peer"
)

// TestPeerGone closes, resets or half-closes the client before the server has
// accepted: the right owner or none, never another.
func TestPeerGone(t *testing.T) {
	const rounds = 1000
	p := newPeerLab(t, peerRules)
	ln := p.listen(t, "tcp", "[::]:10587")
	ends := []struct {
		name string
		end  func(*net.TCPConn) error
		sure bool // the owner must be found
	}{
		{"stays", func(*net.TCPConn) error { return nil }, true},
		{"shuts down", (*net.TCPConn).CloseWrite, true},
		{"closes", (*net.TCPConn).Close, false},
		{"resets", func(c *net.TCPConn) error { c.SetLinger(0); return c.Close() }, false},
	}
	found := make([]int, len(ends))
	for round := range rounds {
		kind := round % len(ends)
		uid := []uint32{0, 1001, 2002}[round%3]
		dst := netip.AddrPortFrom([]netip.Addr{peerFar4, peerFar6}[round%2], 587)
		client, err := p.tryDial(uid, netip.AddrPort{}, dst)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(client, "uid %d\n", uid)
		if err := ends[kind].end(client); err != nil {
			t.Fatal(err)
		}
		server := accept(t, ln)
		got := p.id.TCP(server)
		if got.Proven && got.UID != uid || !got.Proven && got.UID != peer.NoUID {
			t.Fatalf("%s: uid %d was taken for %+v", ends[kind].name, uid, got)
		}
		if got.Proven {
			found[kind]++
		} else if ends[kind].sure {
			t.Errorf("%s: uid %d unknown", ends[kind].name, uid)
		}
		server.Close()
		client.Close()
	}
	for i, end := range ends {
		t.Logf("client %s: identified %d of %d", end.name, found[i], rounds/len(ends))
	}
}

// TestPeerPortTakenOver resets a connection and connects again from the same
// port as somebody else, before either is accepted: the first must not get the
// second's name.
func TestPeerPortTakenOver(t *testing.T) {
	p := newPeerLab(t, peerRules)
	ln := p.listen(t, "tcp4", "127.0.0.1:10587")
	for round := range 200 {
		// Directly, where the server reads the same port, and redirected.
		dst := []netip.AddrPort{netip.AddrPortFrom(peerFar4, 587), netip.MustParseAddrPort("127.0.0.1:10587")}[round%2]
		from := []netip.Addr{p.Host.Addr4(), netip.MustParseAddr("127.0.0.1")}[round%2]
		src := netip.AddrPortFrom(from, uint16(20000+round))
		first, err := p.tryDial(1001, src, dst)
		if err != nil {
			t.Fatal(err)
		}
		first.Write([]byte("EHLO thief\r\n"))
		first.SetLinger(0)
		first.Close()
		second := p.dial(t, 2002, src, dst)
		if got := p.id.TCP(accept(t, ln)); got.Proven {
			t.Fatalf("round %d: the first connection was taken for %+v", round, got)
		}
		if got := p.id.TCP(accept(t, ln)); got.UID != 2002 {
			t.Fatalf("round %d: the second is %+v", round, got)
		}
		second.Close()
	}
}

// TestPeerRace: two users connect to two places from one small range of ports
// as fast as they can. What a client says of itself is what the kernel says, or
// the client is unknown.
func TestPeerRace(t *testing.T) {
	p := newPeerLab(t, peerRules)
	ln := p.listen(t, "tcp4", "127.0.0.1:10587")
	const each = 500
	var clients sync.WaitGroup
	for _, uid := range []uint32{1001, 2002} {
		clients.Go(func() { p.raceClient(uid, each) })
	}
	go func() {
		clients.Wait()
		ln.Close() // ends the loop below, once it has accepted what is queued
	}()
	seen := map[uint32]int{}
	ln.SetDeadline(time.Now().Add(60 * time.Second))
	for {
		conn, err := ln.AcceptTCP()
		if err != nil {
			break
		}
		got := p.id.TCP(conn)
		p.checkClaim(t, conn, got, seen)
		conn.Close()
	}
	clients.Wait()
	t.Logf("identified: %v, unknown: %d", seen, seen[peer.NoUID])
	if seen[1001] < each/4 || seen[2002] < each/4 {
		t.Errorf("too few were identified: %v", seen)
	}
}

// raceClient connects n times, says who it is, and leaves in different ways. A
// port that is taken, or refused because it had to be changed, is a lost try.
func (p *peerLab) raceClient(uid uint32, n int) {
	for i := range n {
		src := netip.AddrPortFrom(p.Host.Addr4(), uint16(30000+i%16))
		dst := netip.AddrPortFrom([]netip.Addr{peerFar4, peerFar4b}[i%2], 587)
		conn, err := p.tryDial(uid, src, dst)
		if err != nil {
			conn, err = p.tryDial(uid, netip.AddrPort{}, dst)
		}
		if err != nil {
			continue
		}
		fmt.Fprintf(conn, "uid %d\n", uid)
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if i%3 != 0 {
			conn.Read(make([]byte, 1)) // until the server is done
		}
		conn.SetLinger(0) // so that the port is free again at once
		conn.Close()
	}
}

// checkClaim compares what was identified with what the client says.
func (p *peerLab) checkClaim(t *testing.T, conn *net.TCPConn, got peer.Peer, seen map[uint32]int) {
	t.Helper()
	seen[got.UID]++
	if !got.Proven {
		return
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return // reset before it was read
	}
	claim, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(line, "uid ")), 10, 32)
	if err != nil || uint32(claim) != got.UID {
		t.Errorf("%q was taken for %+v", line, got)
	}
}

// TestPeerExited: the whole process is gone before its connection is accepted,
// as with a script that does not wait for an answer.
func TestPeerExited(t *testing.T) {
	p := newPeerLab(t, peerRules)
	ln := p.listen(t, "tcp4", "127.0.0.1:10587")
	for round := range 30 {
		uid := uint32(3000 + round)
		script := fmt.Sprintf("exec 3<>/dev/tcp/%s/587; echo 'uid %d' >&3", peerFar4, uid)
		cmd := lab.AsUser(p.Host.Command(t.Context(), "bash", "-c", script), uid, uid)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		server := accept(t, ln)
		if got := p.id.TCP(server); got.UID != uid && got.UID != peer.NoUID || got.Proven != (got.UID != peer.NoUID) {
			t.Errorf("uid %d was taken for %+v", uid, got)
		}
		server.Close()
	}
}

package certs

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestSlowStrangers: those who open connections to a listener for challenges and say nothing, all from one address and
// as often as they are thrown out, do not keep a CA out, though it comes from there as well.
func TestSlowStrangers(t *testing.T) {
	httpListener, tlsListener := listenLocal(t), listenLocal(t)
	m := open(t, Options{HTTPListeners: []net.Listener{httpListener}, TLSALPNListeners: []net.Listener{tlsListener}})
	m.challenges.tokens["token"] = "answer"
	for _, listener := range []net.Listener{httpListener, tlsListener} {
		for range 500 {
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n"))
		}
	}
	begin := time.Now()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + httpListener.Addr().String() + challengePath + "token")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if answer, err := io.ReadAll(response.Body); err != nil || string(answer) != "answer" {
		t.Errorf("answered %q: %v", answer, err)
	}
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: &tls.Config{ServerName: "localhost"}}
	if _, err := dialer.DialContext(t.Context(), "tcp", tlsListener.Addr().String()); err == nil || !strings.Contains(err.Error(), "remote error: tls") {
		t.Errorf("answered %v, want an alert", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %s", took)
	}
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// TestChallengeListenerIsFull: the oldest goes, of its neighbours or of all, and nothing is kept of who has gone.
func TestChallengeListenerIsFull(t *testing.T) {
	l := limitChallenges(nil)
	var conns []*challengeConn
	come := func(from netip.Prefix) []*challengeConn {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close(); far.Close() })
		c := &challengeConn{Conn: near, listener: l, from: from}
		conns = append(conns, c)
		return l.admit(c)
	}
	one := netip.MustParsePrefix("192.0.2.1/32")
	for i := range maxChallengeNeighbours + 2 {
		leaving := come(one)
		if full := i - maxChallengeNeighbours; full >= 0 && (len(leaving) != 1 || leaving[0] != conns[full]) || full < 0 && leaving != nil {
			t.Fatalf("the connection %d: %d go", i, len(leaving))
		}
	}
	for i := range maxChallengeConnections {
		leaving := come(netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 32))
		if full := i >= maxChallengeConnections-maxChallengeNeighbours; full != (len(leaving) == 1) || full && leaving[0].from != one {
			t.Fatalf("the neighbour %d: %d go", i, len(leaving))
		}
	}
	for _, c := range conns {
		c.Close()
		c.Close()
	}
	if l.all.Len() != 0 || len(l.neighbours) != 0 {
		t.Errorf("%d connections and %d neighbours are left", l.all.Len(), len(l.neighbours))
	}
}

func TestNeighbourhood(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1:1", "192.0.2.1:2", true}, {"192.0.2.1:1", "192.0.2.2:1", false}, {"192.0.2.1:1", "[::ffff:192.0.2.1]:1", true},
		{"[2001:db8::1]:1", "[2001:db8::ffff:0:0:2]:1", true}, {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[fe80::1%lo]:1", "[fe80::2]:1", true},
	} {
		of := func(text string) netip.Prefix {
			return neighbourhood(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text)))
		}
		if same := of(test.a) == of(test.b); same != test.same || !of(test.a).IsValid() {
			t.Errorf("%s and %s: %v", test.a, test.b, of(test.a))
		}
	}
	if neighbourhood(&net.UnixAddr{}).IsValid() {
		t.Error("a Unix socket has an address")
	}
}

// TestLongRequest: what no CA sends is cut off, and no memory is spent on it.
func TestLongRequest(t *testing.T) {
	listener := listenLocal(t)
	open(t, Options{TLSALPNListeners: []net.Listener{listener}})
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// a ClientHello of 65,532 octets, of which half comes
	_, _ = conn.Write([]byte("\x16\x03\x01\x40\x00\x01\x00\xff\xfc" + strings.Repeat("\x00", 0x3ffc) + "\x16\x03\x01\x40\x00" + strings.Repeat("\x00", 0x4000)))
	begin := time.Now()
	_ = conn.SetReadDeadline(begin.Add(10 * time.Second))
	_, _ = io.Copy(io.Discard, conn)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it was listened to for %s", took)
	}
}

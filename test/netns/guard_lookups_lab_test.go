package netns_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/rules"
)

var lookupStub = netip.MustParseAddrPort("127.0.0.53:53")

// lookupBed is a guard whose look-ups a test listens to, with name servers in the
// remote and on the host.
type lookupBed struct {
	*guardBed
	rules rules.Options
	heard chan []byte
}

func newLookupBed(t *testing.T) *lookupBed {
	t.Helper()
	b := &lookupBed{heard: make(chan []byte, 100_000)}
	b.guardBed = newGuardBed(t, func(o *guard.Options) {
		o.Rules.Redirect = fwListenPorts
		o.Rules.DNSAnswers = true
		b.rules = o.Rules
	})
	serveDNS(t, b.Remote, b.server(false), b.server(true))
	serveDNS(t, b.Host, lookupStub)
	return b
}

// server is the name server outside.
func (b *lookupBed) server(v6 bool) netip.AddrPort { return netip.AddrPortFrom(b.Remote.Addr(v6), 53) }

// listen hears all from now on.
func (b *lookupBed) listen() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	client := guard.NewClient(b.socket, nil)
	go func() { ended <- client.Lookups(ctx, func(m []byte) { b.heard <- m }) }() // ends by cancel, below
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			b.t.Errorf("listening ended with %v", err)
		}
	})
	for range 100 { // until the guard has bound to the log
		b.ask(b.Host, lookupStub, "probe.example.")
		select {
		case <-b.heard:
			b.drain("probe.example.")
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
	b.t.Fatal("nothing is heard")
}

// drain takes what is left of the probes.
func (b *lookupBed) drain(name string) {
	b.t.Helper()
	b.ask(b.Host, lookupStub, "last."+name)
	for {
		var m dns.Msg
		if got := b.next(); m.Unpack(got) == nil && m.Question[0].Name == "last."+name {
			return
		}
	}
}

func (b *lookupBed) next() []byte {
	b.t.Helper()
	select {
	case m := <-b.heard:
		return m
	case <-time.After(5 * time.Second):
		b.t.Fatal("nothing more is heard")
		return nil
	}
}

// nothingElse fails if anything was heard before a last question's answer.
func (b *lookupBed) nothingElse(why string) {
	b.t.Helper()
	want := b.ask(b.Host, lookupStub, "end.example.")
	if got := b.next(); !bytes.Equal(got, want) {
		b.t.Errorf("%s: heard %x", why, got)
		b.drain("end.example.")
	}
}

// ask asks a name server from a namespace, and returns its answer as it came.
func (b *lookupBed) ask(from *lab.Namespace, server netip.AddrPort, name string) []byte {
	b.t.Helper()
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	packed, err := q.Pack()
	if err != nil {
		b.t.Fatal(err)
	}
	conn := b.udp(from, netip.AddrPort{}, server)
	defer conn.Close()
	if _, err := conn.Write(packed); err != nil {
		b.t.Fatal(err)
	}
	answer := make([]byte, 65535)
	n, err := conn.Read(answer)
	if err != nil {
		b.t.Fatalf("asking %s from %s for %s: %v", server, from, name, err)
	}
	return answer[:n]
}

// udp opens a socket towards an address.
func (b *lookupBed) udp(from *lab.Namespace, local, to netip.AddrPort) net.Conn {
	b.t.Helper()
	var conn net.Conn
	err := from.Do(func() (err error) {
		d := net.Dialer{}
		if local.IsValid() {
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		}
		conn, err = d.DialContext(b.t.Context(), "udp", to.String())
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	return conn
}

// serveDNS answers any question with addresses, as many as the name's first label
// says if it is a number.
func serveDNS(t testing.TB, ns *lab.Namespace, addrs ...netip.AddrPort) {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(dnsAnswer(q)) })
	for _, addr := range addrs {
		var conn net.PacketConn
		err := ns.Do(func() (err error) {
			network := "udp4"
			if addr.Addr().Is6() {
				network = "udp6"
			}
			conn, err = net.ListenPacket(network, addr.String())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		server := &dns.Server{PacketConn: conn, Handler: handler}
		ended := make(chan error, 1)
		go func() { ended <- server.ActivateAndServe() }() // ends with the server
		t.Cleanup(func() {
			conn.Close()
			<-ended
		})
	}
}

func dnsAnswer(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	for i := range manyOf(q.Question[0].Name) {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   net.IPv4(192, 0, byte(i>>8), byte(i)),
		})
	}
	return m
}

// manyOf is the number that a name begins with, or 1.
func manyOf(name string) int {
	n := 0
	for _, c := range []byte(name) {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return max(n, 1)
}

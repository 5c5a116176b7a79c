package certs

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
)

func hello(serverName string, destination netip.AddrPort) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: serverName, Conn: redirectedConn{loopback{}, destination}}
}

// loopback is a connection of which only the addresses are asked.
type loopback struct{ net.Conn }

func (loopback) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 587} }
func (loopback) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }

// BenchmarkGetCertificate is the share of a handshake that this package adds. "certmagic" is what its own
// GetCertificate would cost in the place of "host".
func BenchmarkGetCertificate(b *testing.B) {
	m := open(b, Options{Names: []string{"vps1.example.net"}, Logger: zap.NewNop(), LookedUp: func(address netip.Addr) []string {
		if address == foreign6.Addr() {
			return []string{"smtp.example.com", "mail.example.com"}
		}
		return nil
	}})
	g := m.current.Load()
	ask := func(b *testing.B, get func(*tls.ClientHelloInfo) (*tls.Certificate, error), h *tls.ClientHelloInfo) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := get(h); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("host", func(b *testing.B) { ask(b, m.certificate, hello("vps1.example.net", direct)) })
	stored := open(b, storedOptions(b, "vps1.example.net"))
	b.Run("acme", func(b *testing.B) { ask(b, stored.certificate, hello("vps1.example.net", direct)) })
	b.Run("redirected-known", func(b *testing.B) { ask(b, m.certificate, hello("smtp.example.com", foreign4)) })
	b.Run("redirected-no-name", func(b *testing.B) { ask(b, m.certificate, hello("", foreign4)) })
	b.Run("redirected-looked-up", func(b *testing.B) { ask(b, m.certificate, hello("", foreign6)) })
	b.Run("certmagic", func(b *testing.B) { ask(b, g.managed.config.GetCertificate, hello("vps1.example.net", direct)) })
}

// BenchmarkIssue is what the first client that asks for a name waits.
func BenchmarkIssue(b *testing.B) {
	m := open(b, Options{})
	r := m.current.Load().redirected
	unlimited(r)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n++; r.byName("", fmt.Sprintf("h%d.example", n)) == nil {
			b.Fatal("not issued")
		}
	}
}

// BenchmarkHandshake is a full handshake with P-256 and without resumption, client and server together.
func BenchmarkHandshake(b *testing.B) {
	directory := b.TempDir()
	m := open(b, Options{Directory: directory})
	plain := &tls.Config{Certificates: []tls.Certificate{*m.current.Load().managed.certificate()}}
	run := func(server *tls.Config, name string, destination netip.AddrPort) func(*testing.B) {
		return func(b *testing.B) {
			client := &tls.Config{ServerName: name, InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.CurveP256}}
			for b.Loop() {
				if _, err := dial(server, client, destination); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("host", run(m.TLSConfig(), "localhost", direct))
	b.Run("redirected", run(m.TLSConfig(), "smtp.example.com", foreign4))
	b.Run("static", run(plain, "localhost", direct))
}

// BenchmarkNewNames is ten thousand clients of redirected connections that ask for a name each, in full handshakes, and
// what is kept of them.
func BenchmarkNewNames(b *testing.B) {
	const names = 10_000
	client := &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.CurveP256}}
	for b.Loop() {
		m := open(b, Options{})
		r := m.current.Load().redirected
		before, start := heapInUse(), time.Now()
		for i := range names {
			client.ServerName = fmt.Sprintf("host-%d.customers.example.com", i)
			state, err := dial(m.TLSConfig(), client, foreign4)
			if err != nil {
				b.Fatal(err)
			}
			if got := state.PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != client.ServerName {
				b.Fatalf("%s is shown %q", client.ServerName, got)
			}
		}
		took, kept := time.Since(start), heapInUse()-before
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(float64(took.Microseconds())/names, "µs/name")
		b.ReportMetric(float64(kept)/(1<<20), "MiB")
		b.ReportMetric(float64(r.issued.Len()), "kept")
		m.Close()
	}
}

package certs

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	fuzzHost    = "vps1.example.net"
	fuzzRefused = "excluded.example"
)

// openFuzzed opens a Manager that refuses one name, and keeps few.
func openFuzzed(f *testing.F, lookedUp func(netip.Addr) []string) *Manager {
	m := open(f, Options{Names: []string{fuzzHost}, LookedUp: lookedUp, AllowName: func(name string) bool {
		return name != fuzzRefused && !strings.HasSuffix(name, "."+fuzzRefused)
	}})
	unlimited(m.current.Load().redirected)
	return m
}

// FuzzServerName holds that whatever stands in the ClientHello, a certificate comes back whose names are the host's,
// or that one name in a form that verifiers match, if it is allowed.
func FuzzServerName(f *testing.F) {
	for _, name := range []string{"", "smtp.example.com", "SMTP.EXAMPLE.COM", "*.example.com", "192.0.2.1", fuzzRefused, "Excluded.Example",
		"a." + fuzzRefused, "xn--bcher-kva.example", "a_b", "\xff", "a..b", "\u017f.example", "\u212a.example", "a.example.", "a\x00.example"} {
		f.Add(name, true)
		f.Add(name, false)
	}
	m := openFuzzed(f, nil)
	f.Fuzz(func(t *testing.T, name string, redirected bool) {
		destination := direct
		if redirected {
			destination = foreign4
		}
		c, err := m.certificate(hello(name, destination))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(leaf.DNSNames, fuzzHost) {
			return
		}
		if !redirected || len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != strings.ToLower(name) || len(leaf.IPAddresses) != 0 {
			t.Fatalf("%q, redirected %v: shown %v %v", name, redirected, leaf.DNSNames, leaf.IPAddresses)
		}
		judge(t, m, leaf, name)
	})
}

// judge fails the test unless leaf is for name and no more is kept than may be.
func judge(t *testing.T, m *Manager, leaf *x509.Certificate, name string) {
	t.Helper()
	if err := leaf.VerifyHostname(name); err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	if lower := strings.ToLower(name); !validHostName(lower) || strings.HasSuffix("."+lower, "."+fuzzRefused) {
		t.Fatalf("%q was signed for", name)
	}
	if kept := m.current.Load().redirected.issued.Len(); kept > maxIssued {
		t.Fatalf("%d certificates kept", kept)
	}
}

// FuzzLookedUp holds the same of the names that strangers' DNS answers gave for an address.
func FuzzLookedUp(f *testing.F) {
	f.Add("smtp.example.com mail.example.org", []byte{192, 0, 2, 25})
	f.Add("excluded.example *.example.com 192.0.2.1 \xff", []byte{127, 0, 0, 1})
	f.Add("", []byte{0x20, 1, 0xd, 0xb8, 15: 1})
	f.Add(strings.Repeat("a.example b.example ", 50), []byte{0, 0, 0, 0})
	var names []string
	m := openFuzzed(f, func(netip.Addr) []string { return slices.Clone(names) })
	f.Fuzz(func(t *testing.T, list string, octets []byte) {
		address, ok := netip.AddrFromSlice(octets)
		if !ok {
			return
		}
		names = strings.Split(list, " ")
		c, err := m.certificate(hello("", netip.AddrPortFrom(address, 587)))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if len(leaf.DNSNames) > maxLookedUp+2 || len(leaf.Raw) > 8192 {
			t.Fatalf("%d names in %d octets", len(leaf.DNSNames), len(leaf.Raw))
		}
		for _, name := range leaf.DNSNames {
			judge(t, m, leaf, name)
			if name != fuzzHost && name != "localhost" && !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
				t.Fatalf("%q was never looked up", name)
			}
		}
	})
}

// FuzzClientHello sends octets instead of a handshake. A server that answers them at all shows the host's certificate or
// one for the name in them.
func FuzzClientHello(f *testing.F) {
	for _, client := range []*tls.Config{
		{ServerName: "smtp.example.com"}, {ServerName: fuzzRefused}, {InsecureSkipVerify: true},
		{ServerName: "smtp.example.com", MaxVersion: tls.VersionTLS12}, {ServerName: "a.example", NextProtos: []string{"acme-tls/1"}},
	} {
		f.Add(firstFlight(f, client))
	}
	m := openFuzzed(f, nil)
	f.Fuzz(func(t *testing.T, octets []byte) {
		config := m.TLSConfig().Clone()
		get := config.GetCertificate
		config.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := get(h)
			if err != nil {
				return c, err
			}
			leaf, err := x509.ParseCertificate(c.Certificate[0])
			if err != nil {
				t.Error(err)
			} else if !slices.Contains(leaf.DNSNames, fuzzHost) {
				judge(t, m, leaf, h.ServerName)
			}
			return c, nil
		}
		near, far := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer far.Close()
			far.SetDeadline(time.Now().Add(10 * time.Second))
			_ = tls.Server(redirectedConn{far, foreign4}, config).Handshake()
		}()
		go io.Copy(io.Discard, near)
		near.SetDeadline(time.Now().Add(10 * time.Second))
		near.Write(octets)
		near.Close()
		<-served
	})
}

// firstFlight is what a client writes before it reads.
func firstFlight(f *testing.F, client *tls.Config) []byte {
	f.Helper()
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = tls.Client(near, client).Handshake()
	}()
	octets := make([]byte, 1<<14)
	n, err := far.Read(octets)
	if err != nil {
		f.Fatal(err)
	}
	far.Close()
	<-ended
	return octets[:n]
}

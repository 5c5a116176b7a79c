package certs

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"testing"
	"time"
)

// elsewhere is a connection to an address that is not on loopback.
type elsewhere struct{ loopback }

func (elsewhere) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 587} }

// A client that dialled an address, and says so where a name should stand or says nothing, gets a certificate for it:
// PHP is one.
func TestAddressForName(t *testing.T) {
	ca, files, directory := newPublicCA(t), newPairFiles(t), t.TempDir()
	certificate, key := ca.issue(t, "vps1.example.net")
	files.write(t, certificate, key)
	m := open(t, files.options(directory))
	foreign6 := netip.MustParseAddrPort("[2001:db8::25]:465")
	for _, c := range []struct {
		serverName  string
		conn        net.Conn
		destination netip.AddrPort
		want        string // what the local CA's is for; "" is the files'
	}{
		{"127.0.0.1", loopback{}, direct, "127.0.0.1"},
		{"::1", loopback{}, direct, "::1"},
		{"", loopback{}, direct, "127.0.0.1"},
		{"127.0.0.1", elsewhere{}, direct, "127.0.0.1"},
		{"", elsewhere{}, direct, ""},
		{"", loopback{}, foreign4, foreign4.Addr().String()},
		{foreign4.Addr().String(), loopback{}, foreign4, foreign4.Addr().String()},
		{foreign6.Addr().String(), loopback{}, foreign6, foreign6.Addr().String()},
		{"192.0.2.99", loopback{}, foreign4, foreign4.Addr().String()}, // what it says is not signed
	} {
		shown, err := m.certificate(&tls.ClientHelloInfo{ServerName: c.serverName, Conn: redirectedConn{c.conn, c.destination}})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(shown.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "" {
			if leaf.Issuer.CommonName != "public CA" {
				t.Errorf("%q: issued by %q", c.serverName, leaf.Issuer.CommonName)
			}
			continue
		}
		verify(t, leaf, directory, c.want, time.Now())
	}
}

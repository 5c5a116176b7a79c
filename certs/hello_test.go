package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestLegacyClients: crypto/tls's own alert for them, and a line that says what they offered.
func TestLegacyClients(t *testing.T) {
	rsaOnly := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
	tests := map[string]struct {
		least         uint16
		client        *tls.Config
		alert, logged string
		field, value  string
	}{
		"TLS 1.1": {0, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version not supported",
			"no version of TLS from 1.2 on", "versions", "TLS 1.1"},
		"TLS 1.2 where 1.3 is the least": {tls.VersionTLS13, &tls.Config{MaxVersion: tls.VersionTLS12}, "protocol version not supported",
			"no TLS 1.3", "versions", "TLS 1.2"},
		"legacy suites": {0, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsaOnly}, "handshake failure",
			"nothing but legacy cipher suites", "suites", "TLS_RSA_WITH_AES_128_CBC_SHA"},
		"a legacy suite beside a good one": {0, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: append(rsaOnly[:1:1], tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)}, "",
			"", "", ""},
		"TLS 1.2": {0, &tls.Config{MaxVersion: tls.VersionTLS12}, "", "", "", ""},
		"TLS 1.3": {tls.VersionTLS13, &tls.Config{}, "", "", "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zap.WarnLevel)
			m := open(t, Options{MinVersion: test.least, Logger: zap.New(core)})
			client := test.client.Clone()
			client.ServerName, client.InsecureSkipVerify = "localhost", true
			for range 3 {
				_, err := dial(m.TLSConfig(), client, direct)
				if test.alert == "" && err != nil || test.alert != "" && (err == nil || !strings.Contains(err.Error(), test.alert)) {
					t.Errorf("error %v, want %q", err, test.alert)
				}
			}
			if test.logged == "" {
				if logs.Len() != 0 {
					t.Errorf("logged %v", logs.All())
				}
				return
			}
			lines := logs.FilterMessageSnippet(test.logged).All()
			if logs.Len() != 1 || len(lines) != 1 {
				t.Fatalf("logged %v, want one line with %q", logs.All(), test.logged)
			}
			told, _ := lines[0].ContextMap()[test.field].([]any)
			if len(told) == 0 || !strings.Contains(strings.Join(texts(told), " "), test.value) || lines[0].ContextMap()["client"] == nil {
				t.Errorf("fields %v, want %s in %s", lines[0].ContextMap(), test.value, test.field)
			}
		})
	}
}

func texts(values []any) (list []string) {
	for _, v := range values {
		s, _ := v.(string)
		list = append(list, s)
	}
	return list
}

// TestClientCertificates: asked for, taken as they are, and not needed; tickets go on over a Reload that asks.
func TestClientCertificates(t *testing.T) {
	ca, directory := newPublicCA(t), t.TempDir()
	certificatePEM, keyPEM := ca.issue(t, "client.example")
	pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, Options{Directory: directory})
	ask := func(client *tls.Config) bool {
		t.Helper()
		asked := false
		client = client.Clone()
		client.ServerName, client.RootCAs = "localhost", roots(t, directory)
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &pair, nil
		}
		if _, err := dial(m.TLSConfig(), client, direct); err != nil {
			t.Fatal(err)
		}
		return asked
	}
	resuming := &tls.Config{MaxVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	if ask(&tls.Config{}) || ask(resuming) {
		t.Error("asked for a certificate unasked")
	}
	for i := range 2 {
		if err := m.Reload(Options{Directory: directory, ClientCertificates: true}); err != nil {
			t.Fatal(err)
		}
		if !ask(&tls.Config{}) || !ask(&tls.Config{MaxVersion: tls.VersionTLS12}) {
			t.Error("not asked for a certificate")
		}
		client := resuming.Clone()
		client.ServerName, client.RootCAs = "localhost", roots(t, directory)
		// A ticket from before it was asked would bring no certificate; from then on they are good over reloads.
		if state, err := dial(m.TLSConfig(), client, direct); err != nil || state.DidResume != (i > 0) {
			t.Errorf("resumed over reload %d: %v: %v", i, state.DidResume, err)
		}
	}
	if _, err := dial(m.TLSConfig(), &tls.Config{ServerName: "localhost", RootCAs: roots(t, directory)}, direct); err != nil {
		t.Errorf("without a certificate: %v", err)
	}
}

// serverSide is dial over TCP as the server sees it.
func serverSide(t testing.TB, server, client *tls.Config, destination netip.AddrPort) (tls.ConnectionState, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer near.Close()
		_, _ = io.Copy(io.Discard, tls.Client(near, client))
	}()
	defer func() { <-done }()
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn := tls.Server(redirectedConn{far, destination}, server)
	err = conn.HandshakeContext(ctx)
	return conn.ConnectionState(), err
}

// clientChain is a certificate of at least so many octets, with n-1 others.
func clientChain(t testing.TB, n, padding int) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, padding)}}}
	chain := tls.Certificate{PrivateKey: key}
	for range n {
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		chain.Certificate = append(chain.Certificate, der)
		template.ExtraExtensions = nil
	}
	return chain
}

// TestClientChains: a stranger's certificates take a bounded place in a session and its ticket, and none in a
// redirected one, which is not asked for any.
func TestClientChains(t *testing.T) {
	m := open(t, Options{ClientCertificates: true})
	stapled, stamped := clientChain(t, 1, 0), clientChain(t, 1, 0)
	stapled.OCSPStaple = make([]byte, maxClientChainSize)
	stamped.SignedCertificateTimestamps = make([][]byte, 5000)
	for i := range stamped.SignedCertificateTimestamps {
		stamped.SignedCertificateTimestamps[i] = []byte{1}
	}
	tests := map[string]struct {
		shown  tls.Certificate
		modern bool // TLS 1.2 has no place for it
		taken  bool
	}{
		"one":                    {clientChain(t, 1, 0), false, true},
		"as many as are taken":   {clientChain(t, maxClientChain, 8<<10), false, true},
		"too many":               {clientChain(t, maxClientChain+1, 0), false, false},
		"as many as crypto/tls":  {clientChain(t, 800, 0), false, false},
		"too large":              {clientChain(t, 1, maxClientChainSize), false, false},
		"too large a staple":     {stapled, true, false},
		"too many of timestamps": {stamped, true, false},
	}
	for name, test := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if test.modern && version == tls.VersionTLS12 {
				continue
			}
			t.Run(name+" "+tls.VersionName(version), func(t *testing.T) {
				client := &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, MinVersion: version, MaxVersion: version,
					ClientSessionCache: tls.NewLRUClientSessionCache(1),
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
						return &test.shown, nil
					}}
				state, err := serverSide(t, m.TLSConfig(), client, direct)
				if (err == nil) != test.taken {
					t.Fatalf("taken %v: %v", err == nil, err)
				}
				if err != nil && !strings.Contains(err.Error(), "the client shows ") {
					t.Error(err)
				}
				if test.taken && len(state.PeerCertificates) != len(test.shown.Certificate) {
					t.Errorf("%d certificates", len(state.PeerCertificates))
				}
				client.ClientSessionCache = nil
				if state, err := serverSide(t, m.TLSConfig(), client, foreign4); err != nil || len(state.PeerCertificates) != 0 {
					t.Errorf("redirected: %d certificates: %v", len(state.PeerCertificates), err)
				}
			})
		}
	}
}

// TestRedirectedTickets: redirected clients resume what this generation of options gave them, and nothing else.
func TestRedirectedTickets(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		o := Options{Directory: t.TempDir()}
		m := open(t, o)
		client := &tls.Config{ServerName: "smtp.example.com", RootCAs: roots(t, o.Directory), MaxVersion: version,
			ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		dial := func(destination netip.AddrPort) (resumed bool, err error) {
			state, err := serverSide(t, m.TLSConfig(), client, destination)
			return state.DidResume, err
		}
		for _, want := range []bool{false, true, true} {
			if resumed, err := dial(foreign4); err != nil || resumed != want {
				t.Errorf("resumed %v, want %v: %v", resumed, want, err)
			}
		}
		o.AllowName = func(string) bool { return false }
		if err := m.Reload(o); err != nil {
			t.Fatal(err)
		}
		if resumed, err := dial(foreign4); err == nil {
			t.Errorf("%s: resumed %v for a name that is excluded now", tls.VersionName(version), resumed)
		}

		client.ServerName, client.ClientSessionCache = "localhost", tls.NewLRUClientSessionCache(1)
		for _, step := range []struct {
			destination netip.AddrPort
			want        bool
		}{{direct, false}, {direct, true}, {foreign4, false}, {foreign4, true}} {
			if resumed, err := dial(step.destination); err != nil || resumed != step.want {
				t.Errorf("%s: to %v: resumed %v, want %v: %v", tls.VersionName(version), step.destination, resumed, step.want, err)
			}
		}
	}
}

// TestLongServerName: a line of the log does not grow with what a hello has room for.
func TestLongServerName(t *testing.T) {
	var written bytes.Buffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&written), zap.DebugLevel))
	m := open(t, Options{Logger: logger})
	written.Reset()
	name := strings.Repeat("\x01", 60_000)
	versions := make([]uint16, 127)
	for i := range versions {
		versions[i] = 0x0301
	}
	l := newLegacy()
	l.logger.Store(logger)
	l.look(&tls.ClientHelloInfo{ServerName: name, SupportedVersions: versions, CipherSuites: make([]uint16, 30_000), Conn: loopback{}}, tls.VersionTLS12)
	if _, err := m.certificate(hello(name, foreign4)); err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(written.Bytes(), []byte("\n")); lines != 2 || written.Len() > 8<<10 {
		t.Errorf("%d octets in %d lines", written.Len(), lines)
	}
}

package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// open opens a Manager that ends with the test.
func open(t testing.TB, o Options) *Manager {
	t.Helper()
	if o.Directory == "" {
		o.Directory = t.TempDir()
	}
	m, err := Open(context.Background(), o)
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	t.Cleanup(m.Close)
	return m
}

// roots is the pool that holds the root of the local CA in directory and nothing else.
func roots(t testing.TB, directory string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(RootFile(directory))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in the root file")
	}
	return pool
}

// redirectedConn is a connection that says where its client meant to go.
type redirectedConn struct {
	net.Conn
	destination netip.AddrPort
}

func (c redirectedConn) OriginalDestination() netip.AddrPort { return c.destination }

// dial makes one handshake with the server configuration, in memory. A valid destination makes the connection a
// redirected one.
func dial(server *tls.Config, client *tls.Config, destination netip.AddrPort) (tls.ConnectionState, error) {
	near, far := net.Pipe()
	defer near.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer far.Close()
		conn := tls.Server(redirectedConn{far, destination}, server)
		if conn.Handshake() == nil {
			conn.Read(make([]byte, 1)) // until the client closes
		}
	}()
	defer func() { <-served }()
	conn := tls.Client(near, client)
	defer conn.Close()
	err := conn.Handshake()
	return conn.ConnectionState(), err
}

// shown returns the certificate that a client is shown, unverified.
func shown(t testing.TB, m *Manager, serverName string, destination netip.AddrPort) *x509.Certificate {
	t.Helper()
	state, err := dial(m.TLSConfig(), &tls.Config{ServerName: serverName, InsecureSkipVerify: true}, destination)
	if err != nil {
		t.Fatalf("handshake for %q: %v", serverName, err)
	}
	return state.PeerCertificates[0]
}

// verify fails the test unless leaf chains to the local CA in directory and is for name at the time.
func verify(t testing.TB, leaf *x509.Certificate, directory, name string, at time.Time) {
	t.Helper()
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots(t, directory), CurrentTime: at})
	if err != nil {
		t.Errorf("certificate for %v: %v", leaf.DNSNames, err)
	}
}

var (
	direct   = netip.AddrPort{}
	foreign4 = netip.MustParseAddrPort("192.0.2.25:587")
	foreign6 = netip.MustParseAddrPort("[2001:db8::25]:465")
)

// serveFiles is the web server of another program.
func serveFiles(t testing.TB, l net.Listener, root string) {
	t.Helper()
	server := &http.Server{Handler: http.FileServerFS(os.DirFS(root))}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { server.Close(); served.Wait() })
}

// absentCA is the directory of a CA that nobody answers for.
const absentCA = "https://127.0.0.1:1/dir"

// storedOptions are those of a host that has certificates of a CA which is away now.
func storedOptions(t testing.TB, names ...string) Options {
	t.Helper()
	o := Options{Source: SourceACME, Directory: t.TempDir(), Names: []string{"vps1.example.net"}, ACME: ACMEOptions{
		Names: names, Challenge: ChallengeDNS, Hook: []string{"/bin/true"}, Issuers: []ACMEIssuer{{Directory: absentCA}}, Retries: []time.Duration{time.Hour}}}
	ca, storage := newPublicCA(t), certmagic.FileStorage{Path: filepath.Join(o.Directory, acmeDirectory)}
	for _, name := range names {
		certificate, key := ca.issue(t, name)
		for path, content := range map[string][]byte{
			certmagic.StorageKeys.SiteCert("127.0.0.1:1-dir", name):       certificate,
			certmagic.StorageKeys.SitePrivateKey("127.0.0.1:1-dir", name): key,
			certmagic.StorageKeys.SiteMeta("127.0.0.1:1-dir", name):       []byte("{}"),
		} {
			if err := storage.Store(context.Background(), path, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	return o
}

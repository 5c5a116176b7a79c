package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestRenewalOverWeeks lets certmagic run, with its own intervals, through three weeks of a clock that jumps.
func TestRenewalOverWeeks(t *testing.T) {
	t.Run("name", func(t *testing.T) { renewOverWeeks(t, "vps1.example.net") })
	t.Run("name longer than a common name", func(t *testing.T) {
		renewOverWeeks(t, strings.Repeat("long.", 20)+"example.net")
	})
}

func renewOverWeeks(t *testing.T, name string) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		directory := t.TempDir()
		m, err := Open(context.Background(), Options{Directory: directory, Names: []string{name}, Logger: zap.New(core)})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		pool := roots(t, directory)
		serials := map[string]bool{}
		for range 21 * 24 {
			time.Sleep(time.Hour)
			state, err := dial(m.TLSConfig(), &tls.Config{ServerName: name, RootCAs: pool}, direct)
			if err != nil {
				t.Fatalf("on %s: %v", time.Now(), err)
			}
			leaf := state.PeerCertificates[0]
			serials[leaf.SerialNumber.String()] = true
			if left := time.Until(leaf.NotAfter); left < 2*24*time.Hour {
				t.Fatalf("%s left: not renewed in time", left)
			}
			if err := leaf.VerifyHostname("127.0.0.1"); err != nil {
				t.Fatal(err)
			}
		}
		if len(serials) != 5 { // on day 0 and each 4 ⅔ days
			t.Errorf("%d certificates in three weeks, want 5", len(serials))
		}
		if issued := logs.FilterMessage("issued the host's certificate").Len(); issued != len(serials) {
			t.Errorf("issuing was logged %d times, want %d", issued, len(serials))
		}
		if all := logs.Len(); all != len(serials) {
			t.Errorf("%d log entries, want one for each certificate: %v", all, logs.All())
		}
	})
}

// TestRenewalUnderLoad renews every few seconds while clients connect without a pause: none fails, and each new
// certificate is shown to the next handshake.
func TestRenewalUnderLoad(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	m := open(t, Options{Directory: directory, LeafLifetime: minLeafLifetime})
	stop := load(t, m.TLSConfig(), roots(t, directory), "localhost", "smtp.example.com", foreign4.Addr().String())

	serials := map[string]bool{}
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for len(serials) < 3 {
		select {
		case <-ticker.C:
			serials[m.current.Load().managed.certificate().Leaf.SerialNumber.String()] = true
		case <-deadline.C:
			t.Fatalf("%d certificates in a minute, want 3", len(serials))
		}
	}
	t.Logf("%d certificates over %d handshakes", len(serials), stop())
}

// TestReloadUnderLoad swaps generations while clients connect.
func TestReloadUnderLoad(t *testing.T) {
	directory := t.TempDir()
	m := open(t, Options{Directory: directory})
	stop := load(t, m.TLSConfig(), roots(t, directory), "localhost", "smtp.example.com", foreign4.Addr().String())
	for range 100 {
		if err := m.Reload(Options{Directory: directory}); err != nil {
			t.Error(err)
		}
	}
	t.Logf("100 reloads over %d handshakes", stop())
}

// load connects to m over TCP, direct and redirected, until the function that it returns is called. Each certificate
// is verified; one handshake that fails fails the test. It returns the number of handshakes at the end.
func load(t *testing.T, config *tls.Config, pool *x509.CertPool, names ...string) (stop func() int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var servers, clients sync.WaitGroup
	servers.Go(func() { serve(listener, config, &servers) })
	var handshakes atomic.Int64
	ending := make(chan struct{})
	for _, name := range names {
		clients.Go(func() {
			for done := false; !done; {
				select {
				case <-ending:
					done = true
				default:
				}
				conn, err := tls.Dial("tcp", listener.Addr().String(), verifying(name, pool))
				if err != nil {
					t.Errorf("handshake for %s: %v", name, err)
					return
				}
				handshakes.Add(1)
				conn.Close()
			}
		})
	}
	return func() int64 {
		close(ending)
		clients.Wait()
		listener.Close()
		servers.Wait()
		return handshakes.Load()
	}
}

// verifying is a client that verifies as ever, but takes a certificate that was valid when it began or is when it
// looks: on a busy machine there may be seconds in between, a good part of the lives that these tests give.
func verifying(name string, pool *x509.CertPool) *tls.Config {
	began := time.Now()
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) (err error) {
		between := x509.NewCertPool()
		for _, c := range state.PeerCertificates[1:] {
			between.AddCert(c)
		}
		for _, at := range []time.Time{began, time.Now()} {
			_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: pool, Intermediates: between, CurrentTime: at})
			if err == nil {
				return nil
			}
		}
		return err
	}}
}

// serve makes every connection a redirected one.
func serve(listener net.Listener, config *tls.Config, servers *sync.WaitGroup) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		servers.Go(func() {
			defer conn.Close()
			served := tls.Server(redirectedConn{conn, foreign4}, config)
			if served.Handshake() == nil {
				served.Read(make([]byte, 1))
			}
		})
	}
}

// TestIssuerRefuses holds that certmagic can have no name signed but the host's.
func TestIssuerRefuses(t *testing.T) {
	m := open(t, Options{Names: []string{"vps1.example.net"}})
	config := m.current.Load().managed.config
	if err := config.ObtainCertSync(context.Background(), "other.example"); err == nil {
		t.Error("signed for another name")
	}
	if len(config.Issuers) != 1 {
		t.Errorf("%d issuers, want the local CA alone", len(config.Issuers))
	}
	if certmagic.Default.Logger == config.Logger || config.Storage == certmagic.Default.Storage {
		t.Error("the package's own defaults are used")
	}
}

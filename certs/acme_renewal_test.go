package certs

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestACMERenewalUnderLoad: certificates of ten seconds are renewed while clients connect without a pause, and again
// by hand.
func TestACMERenewalUnderLoad(t *testing.T) {
	t.Parallel()
	l, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port, BadNonces: 10, Profiles: map[string]time.Duration{"default": 10 * time.Second}})
	core, logs := observer.New(zap.InfoLevel)
	o := acmeOptions(ca, t.TempDir())
	o.HTTPListeners, o.Logger, o.ACME.calm = []net.Listener{l}, zap.New(core), time.Nanosecond
	m := open(t, o)
	leaf := awaitIssued(t, m, ca, acmeHost)
	if renewal := m.Status()[0].RenewAfter; renewal.Before(leaf.NotBefore) || renewal.After(leaf.NotAfter) {
		t.Errorf("a certificate from %s to %s is renewed at %s", leaf.NotBefore, leaf.NotAfter, renewal)
	}
	stop := load(t, m.TLSConfig(), ca.Roots(0), acmeHost, acmeHost)
	serials := map[string]bool{leaf.SerialNumber.String(): true}
	await(t, "three certificates", func() bool {
		serials[awaitIssued(t, m, ca, acmeHost).SerialNumber.String()] = true
		return len(serials) >= 3
	})
	for range 3 {
		if err := m.Renew(context.Background()); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d certificates over %d handshakes", logs.FilterMessage("issued a certificate").Len(), stop())
	if cached := m.current.Load().source.(*acmeSource).names[0].cached(); len(cached) != 1 {
		t.Errorf("%d certificates are kept", len(cached))
	}
	for _, entry := range logs.FilterLevelExact(zap.WarnLevel).All() {
		t.Errorf("warned: %+v", entry)
	}
}

// TestACMEExpired: a certificate that ended while the CA was away is shown to nobody; renewal goes on by itself.
func TestACMEExpired(t *testing.T) {
	t.Parallel()
	l, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port, Profiles: map[string]time.Duration{"default": 6 * time.Second}})
	o := acmeOptions(ca, t.TempDir())
	o.HTTPListeners = []net.Listener{l}
	m := open(t, o)
	leaf := awaitIssued(t, m, ca, acmeHost)
	ca.Stop()
	condition := awaitCondition(t, m, "could not be renewed: ")
	if !strings.Contains(condition, "connection refused") || !strings.Contains(condition, "It is good until ") {
		t.Errorf("condition %q", condition)
	}
	condition = awaitCondition(t, m, "ended ")
	if !strings.Contains(condition, "; clients are shown the local CA's instead: ") || !time.Now().After(leaf.NotAfter) {
		t.Errorf("condition %q", condition)
	}
	verify(t, shown(t, m, acmeHost, direct), o.Directory, acmeHost, time.Now())
	verify(t, shown(t, m, "", direct), o.Directory, acmeHost, time.Now())
	if status := m.Status()[0]; status.Serving || status.NextTry.IsZero() {
		t.Errorf("status %+v", status)
	}
	ca.Start()
	if err := m.Renew(context.Background(), acmeHost); err != nil {
		t.Fatal(err)
	}
	awaitIssued(t, m, ca, acmeHost)
	if conditions := m.Conditions(); len(conditions) != 0 {
		t.Errorf("conditions: %v", conditions)
	}
}

// TestACMEKilled: what a kill at any point left behind is mended at the next start.
func TestACMEKilled(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	l, port := listener(t)
	serveFiles(t, l, root)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port})
	o := acmeOptions(ca, t.TempDir())
	o.ACME.WebRoot = root
	m := open(t, o)
	first := awaitIssued(t, m, ca, acmeHost)
	m.Close()

	pattern := filepath.Join(o.Directory, "acme", "certificates", "*", acmeHost)
	sites, err := filepath.Glob(pattern)
	if err != nil || len(sites) != 1 {
		t.Fatalf("%s: %v: %v", pattern, sites, err)
	}
	file := func(suffix string) string { return filepath.Join(sites[0], acmeHost+suffix) }
	_, strangeKey := newPublicCA(t).issue(t, acmeHost)
	damages := map[string]func(t *testing.T){
		"key of the next, certificate of the last": func(t *testing.T) { write(t, file(".key"), strangeKey) },
		"no certificate":     func(t *testing.T) { remove(t, file(".crt")) },
		"empty certificate":  func(t *testing.T) { write(t, file(".crt"), nil) },
		"no key":             func(t *testing.T) { remove(t, file(".key")) },
		"no description":     func(t *testing.T) { remove(t, file(".json")) },
		"half a description": func(t *testing.T) { write(t, file(".json"), []byte("{")) },
		"in an order": func(t *testing.T) {
			tokens := filepath.Join(o.Directory, "acme", "acme", filepath.Base(filepath.Dir(sites[0])), "challenge_tokens")
			if err := os.MkdirAll(tokens, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(tokens, acmeHost+".json"), []byte(`{"type":"http-01","token":"left","keyAuthorization":"left.x"}`))
			write(t, tokenFile(root, "left"), []byte("left.x"))
			locks := filepath.Join(o.Directory, "acme", "locks")
			if err := os.MkdirAll(locks, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(locks, "issue_cert_"+acmeHost+".lock"), []byte(`{"created":"2099-01-01T00:00:00Z","updated":"2099-01-01T00:00:00Z"}`))
			remove(t, sites[0])
		},
	}
	for name, damage := range damages {
		damage(t)
		core, logs := observer.New(zap.WarnLevel)
		o.Logger = zap.New(core)
		m := open(t, o)
		again := awaitIssued(t, m, ca, acmeHost)
		if again.Equal(first) {
			t.Errorf("%s: the old certificate", name)
		}
		first = again
		if removed := logs.FilterMessageSnippet("cannot be used").Len(); logs.Len() != removed || (removed == 1) == (name == "in an order") {
			t.Errorf("%s: logged %v", name, logs.All())
		}
		if _, err := os.Stat(tokenFile(root, "left")); err == nil {
			t.Errorf("%s: a token is left in the web root", name)
		}
		m.Close()
	}
	core, logs := observer.New(zap.InfoLevel)
	o.Logger = zap.New(core)
	whole := open(t, o)
	if now := shown(t, whole, acmeHost, direct); !now.Equal(first) {
		t.Error("the first handshake after a restart did not get the certificate")
	}
	whole.Close()
	if logs.FilterMessage("issued a certificate").Len() != 0 {
		t.Error("a restart asked for a certificate")
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// TestACMESelection: the CA's certificate for its names and for whoever names none, the local CA's for the rest.
func TestACMESelection(t *testing.T) {
	t.Parallel()
	l, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port})
	o := acmeOptions(ca, t.TempDir())
	o.HTTPListeners, o.ACME.Names = []net.Listener{l}, []string{"Mail.Example.Test", "mail.example.test."}
	m := open(t, o)
	verify(t, shown(t, m, "mail.example.test", direct), o.Directory, "mail.example.test", time.Now())
	awaitIssued(t, m, ca, "mail.example.test")
	tests := []struct {
		serverName           string
		redirected, byPublic bool
	}{
		{"mail.example.test", false, true}, {"MAIL.example.test", false, true}, {"", false, true}, {"foreign.example", false, true},
		{acmeHost, false, false}, {"localhost", false, false},
		{"mail.example.test", true, true}, {acmeHost, true, false}, {"foreign.example", true, false}, {"", true, false}, {"localhost", true, false},
	}
	for _, test := range tests {
		destination := direct
		if test.redirected {
			destination = foreign4
		}
		leaf := shown(t, m, test.serverName, destination)
		if public := strings.HasPrefix(leaf.Issuer.CommonName, "Pebble"); public != test.byPublic {
			t.Errorf("%q, redirected %v: by the CA %v, want %v", test.serverName, test.redirected, public, test.byPublic)
		}
	}
	if err := m.Renew(context.Background(), "nobody.example", acmeHost); err == nil || err.Error() != `no certificate by the name "nobody.example"` {
		t.Errorf("renewing nobody: %v", err)
	}
	before := shown(t, m, acmeHost, direct)
	if err := m.Renew(context.Background(), acmeHost, acmeHost); err != nil || shown(t, m, acmeHost, direct).Equal(before) {
		t.Errorf("the local CA's certificate was not renewed: %v", err)
	}
	state, err := dial(m.TLSConfig(), &tls.Config{ServerName: "localhost", RootCAs: roots(t, o.Directory)}, direct)
	if err != nil || len(state.PeerCertificates) != 1 {
		t.Error(err)
	}
}

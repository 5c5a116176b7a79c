package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/certs/dns01"
	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const acmeHost = "vps1.example.test"

// acmeOptions asks ca for acmeHost.
func acmeOptions(ca *pebble.CA, directory string) Options {
	return Options{Source: SourceACME, Directory: directory, Names: []string{acmeHost}, ACME: ACMEOptions{
		Issuers: []ACMEIssuer{{Directory: ca.Directory(), Roots: ca.Pool()}},
		Retries: []time.Duration{time.Second},
	}}
}

func listener(t testing.TB) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

// await polls until ok, for what other programs do.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitIssued waits until name is shown with a certificate of ca's, and returns it verified.
func awaitIssued(t testing.TB, m *Manager, ca *pebble.CA, name string) *x509.Certificate {
	t.Helper()
	var leaf *x509.Certificate
	client := &tls.Config{ServerName: name, RootCAs: ca.Roots(0)}
	await(t, "certificate for "+name, func() bool {
		state, err := dial(m.TLSConfig(), client, direct)
		if err != nil {
			return false
		}
		leaf = state.PeerCertificates[0]
		return true
	})
	return leaf
}

// TestACMEChallenges gets a certificate by each way in which the proxy itself answers, beside connections that go on.
func TestACMEChallenges(t *testing.T) {
	webServer := func(t *testing.T, root string) int {
		l, port := listener(t)
		serveFiles(t, l, root)
		return port
	}
	tests := map[string]func(t *testing.T, o *Options) pebble.Options{
		"http-01, listener handed over": func(t *testing.T, o *Options) pebble.Options {
			l, port := listener(t)
			o.HTTPListeners = []net.Listener{l}
			return pebble.Options{HTTPPort: port}
		},
		"http-01, own port": func(t *testing.T, o *Options) pebble.Options {
			l, port := listener(t)
			l.Close()
			o.ACME.HTTPPort = port
			return pebble.Options{HTTPPort: port}
		},
		"http-01, web root": func(t *testing.T, o *Options) pebble.Options {
			o.ACME.WebRoot = t.TempDir()
			return pebble.Options{HTTPPort: webServer(t, o.ACME.WebRoot)}
		},
		"tls-alpn-01, listener handed over": func(t *testing.T, o *Options) pebble.Options {
			l, port := listener(t)
			o.ACME.Challenge = ChallengeTLSALPN
			o.TLSALPNListeners = []net.Listener{l}
			return pebble.Options{TLSPort: port}
		},
		"tls-alpn-01, own port": func(t *testing.T, o *Options) pebble.Options {
			l, port := listener(t)
			l.Close()
			o.ACME.Challenge, o.ACME.TLSALPNPort = ChallengeTLSALPN, port
			return pebble.Options{TLSPort: port}
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, logs := observer.New(zap.InfoLevel)
			o := Options{Source: SourceACME, Directory: t.TempDir(), Names: []string{acmeHost}, Logger: zap.New(core)}
			ca := pebble.Start(t, prepare(t, &o))
			o.ACME.Issuers = []ACMEIssuer{{Directory: ca.Directory(), Roots: ca.Pool()}}
			o.ACME.Names = []string{acmeHost, "mail.example.test"}
			m := open(t, o)
			for _, name := range o.ACME.Names {
				leaf := awaitIssued(t, m, ca, name)
				if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != name {
					t.Errorf("%s is shown a certificate for %v", name, leaf.DNSNames)
				}
			}
			if conditions := m.Conditions(); len(conditions) != 0 {
				t.Errorf("conditions: %v", conditions)
			}
			if issued := logs.FilterMessage("issued a certificate").Len(); issued != 2 {
				t.Errorf("issuing was logged %d times", issued)
			}
			for _, entry := range logs.FilterLevelExact(zap.WarnLevel).All() {
				t.Errorf("warned: %+v", entry)
			}
			verify(t, shown(t, m, "localhost", direct), o.Directory, "localhost", time.Now())
			checkModes(t, filepath.Join(o.Directory, "acme"))
			if o.ACME.WebRoot != "" {
				left, err := os.ReadDir(filepath.Join(o.ACME.WebRoot, challengePath))
				if err != nil || len(left) != 0 {
					t.Errorf("left in the web root: %v: %v", left, err)
				}
			}
			list := m.Status()
			if len(list) != 4 || list[0].Name != acmeHost || !list[0].Serving || list[0].Source != "acme" || list[0].RenewAfter.Before(time.Now()) ||
				!list[0].RenewAfter.Before(list[0].NotAfter) || len(list[0].Fingerprint) != 64 {
				t.Errorf("status: %+v", list)
			}
		})
	}
}

// checkModes: nobody else reads what lies below directory.
func checkModes(t *testing.T, directory string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(directory, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			files++
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		if strings.Contains(path, "challenge_tokens/") {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files below %s: %v", files, directory, err)
	}
}

// TestACMEAway starts without the CA: the local CA serves, with a condition, until the CA is there.
func TestACMEAway(t *testing.T) {
	t.Parallel()
	l, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port})
	ca.Stop()
	o := acmeOptions(ca, t.TempDir())
	o.HTTPListeners = []net.Listener{l}
	began := time.Now()
	m := open(t, o)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("opening took %s", took)
	}
	verify(t, shown(t, m, acmeHost, direct), o.Directory, acmeHost, time.Now())
	await(t, "the failure", func() bool { return strings.Contains(m.Conditions()["certificate "+acmeHost], "connection refused") })
	condition := m.Conditions()["certificate "+acmeHost]
	for _, part := range []string{"is not there yet; clients are shown the local CA's instead: ", "Look whether the CA is reached from this host."} {
		if !strings.Contains(condition, part) {
			t.Errorf("%q is not in the condition %q", part, condition)
		}
	}
	if err := m.Renew(context.Background(), acmeHost); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("renewed by hand: %v", err)
	}
	ca.Start()
	awaitIssued(t, m, ca, acmeHost)
	await(t, "no condition", func() bool { return len(m.Conditions()) == 0 })
}

// TestACMEReload keeps what is under way while its options are the same.
func TestACMEReload(t *testing.T) {
	t.Parallel()
	l, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port})
	o := acmeOptions(ca, t.TempDir())
	o.HTTPListeners = []net.Listener{l}
	m := open(t, o)
	leaf := awaitIssued(t, m, ca, acmeHost)
	for range 3 {
		again := acmeOptions(ca, o.Directory) // with another pool of the same roots
		if err := m.Reload(again); err != nil {
			t.Fatal(err)
		}
	}
	if now := awaitIssued(t, m, ca, acmeHost); !now.Equal(leaf) {
		t.Error("a reload asked for another certificate")
	}
	more := acmeOptions(ca, o.Directory)
	more.ACME.Names = []string{acmeHost, "mail.example.test"}
	if err := m.Reload(more); err != nil {
		t.Fatal(err)
	}
	if now := awaitIssued(t, m, ca, acmeHost); !now.Equal(leaf) {
		t.Error("a name more asked for another certificate of the first")
	}
	awaitIssued(t, m, ca, "mail.example.test")
	if err := m.Reload(Options{Directory: o.Directory, Names: []string{acmeHost}}); err != nil {
		t.Fatal(err)
	}
	verify(t, shown(t, m, acmeHost, direct), o.Directory, acmeHost, time.Now())
	if err := m.Reload(more); err != nil {
		t.Fatal(err)
	}
	if now := shown(t, m, acmeHost, direct); !now.Equal(leaf) {
		t.Error("the first handshake did not get the certificate in the storage")
	}
	if err := m.Renew(context.Background(), acmeHost); err != nil {
		t.Fatal(err)
	}
	if now := awaitIssued(t, m, ca, acmeHost); now.Equal(leaf) {
		t.Error("not renewed by hand")
	}
}

// TestACMEReloadPort: a source takes the port over from the one before.
func TestACMEReloadPort(t *testing.T) {
	t.Parallel()
	l, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port})
	l.Close()
	core, logs := observer.New(zap.WarnLevel)
	o := acmeOptions(ca, t.TempDir())
	o.ACME.HTTPPort, o.Logger = port, zap.New(core)
	m := open(t, o)
	awaitIssued(t, m, ca, acmeHost)
	o.ACME.Email, o.ACME.Names = "admin@example.test", []string{acmeHost, "mail.example.test"}
	if err := m.Reload(o); err != nil {
		t.Fatal(err)
	}
	awaitIssued(t, m, ca, "mail.example.test")
	if conditions := m.Conditions(); len(conditions) != 0 || logs.Len() != 0 {
		t.Errorf("conditions %v, logged %v", conditions, logs.All())
	}
}

// TestACMEStored: certificates in the storage are shown from the first handshake on, a wildcard for one label.
func TestACMEStored(t *testing.T) {
	o := storedOptions(t, "*.example.net", "vps1.example.net")
	m := open(t, o)
	for name, want := range map[string]string{
		"vps1.example.net": "vps1.example.net", "mail.example.net": "*.example.net", "MAIL.example.net": "*.example.net",
		"a.mail.example.net": "*.example.net", "example.net": "*.example.net", "": "*.example.net", // for anybody: the first
	} {
		if leaf := shown(t, m, name, direct); leaf.Issuer.CommonName != "public CA" || leaf.DNSNames[0] != want {
			t.Errorf("%q is shown %v by %s, want %s", name, leaf.DNSNames, leaf.Issuer.CommonName, want)
		}
	}
	for _, name := range []string{"a.mail.example.net", "example.net"} {
		if leaf := shown(t, m, name, foreign4); leaf.DNSNames[0] != name {
			t.Errorf("redirected, %q is shown %v", name, leaf.DNSNames)
		}
	}
	if leaf := shown(t, m, "mail.example.net", foreign4); leaf.DNSNames[0] != "*.example.net" {
		t.Errorf("redirected, the host's own name is shown %v", leaf.DNSNames)
	}
	if conditions := m.Conditions(); len(conditions) != 0 {
		t.Errorf("conditions: %v", conditions)
	}
}

// TestACMEOptions: what no CA would do is said before one is asked.
func TestACMEOptions(t *testing.T) {
	tests := map[string]func(*ACMEOptions){
		`"localhost": no public CA certifies a name without a dot`: func(o *ACMEOptions) { o.Names = []string{"localhost"} },
		`"*.example.net": a wildcard needs the challenge "dns-01"`: func(o *ACMEOptions) { o.Names = []string{"*.example.net"} },
		`"192.0.2.1": not a host name`:                             func(o *ACMEOptions) { o.Names = []string{"192.0.2.1"} },
		`no CA to ask`:                                             func(o *ACMEOptions) { o.Issuers = nil },
		`"ftp://ca.example" is no URL of https`:                    func(o *ACMEOptions) { o.Issuers[0].Directory = "ftp://ca.example" },
		`needs both a key id and a key`:                            func(o *ACMEOptions) { o.Issuers[0].EABKeyID = "kid" },
		`needs a name server or a hook, and not both`:              func(o *ACMEOptions) { o.Challenge = ChallengeDNS },
		`"hook" is not an absolute path`:                           func(o *ACMEOptions) { o.Challenge, o.Hook = ChallengeDNS, []string{"hook"} },
		`server: `:                                                 func(o *ACMEOptions) { o.Challenge, o.DNS = ChallengeDNS, &dns01.Update{} },
		`challenge "dns-02" is none of`:                            func(o *ACMEOptions) { o.Challenge = "dns-02" },
		`web root "www" is not an absolute path`:                   func(o *ACMEOptions) { o.WebRoot = "www" },
		`a web root is for the challenge "http-01"`:                func(o *ACMEOptions) { o.Challenge, o.WebRoot = ChallengeTLSALPN, "/" },
	}
	for want, spoil := range tests {
		o := Options{Source: SourceACME, Directory: t.TempDir(), Names: []string{"vps1.example.net"}, ACME: ACMEOptions{Issuers: []ACMEIssuer{{Directory: absentCA}}}}
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		spoil(&o.ACME)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

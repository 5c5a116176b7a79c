package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
)

// fakeCertifier has certificates, and renews them in its way.
type fakeCertifier struct {
	mu      sync.Mutex
	all     []admin.Certificate
	renew   func(ctx context.Context, names []string) error // nil: done
	ordered [][]string
}

func (f *fakeCertifier) Certificates(context.Context) ([]admin.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all), nil
}

func (f *fakeCertifier) RenewCertificates(ctx context.Context, names []string) error {
	f.mu.Lock()
	f.ordered = append(f.ordered, names)
	f.mu.Unlock()
	if f.renew == nil {
		return nil
	}
	return f.renew(ctx, names)
}

// serve makes a proxy with these certificates answer, and gives the
// configuration that leads to it.
func (f *fakeCertifier) serve(t *testing.T, conditions map[string]string) (config string) {
	t.Helper()
	p := letters()
	p.status = admin.Status{Conditions: conditions}
	config = file(t, "[listen]\nadmin = \"DIR/a\"\n[delivery]\nspool = \"DIR/spool\"\n")
	serveAdmin(t, config, admin.Options{Reader: p, Limits: p, Actor: p, Certifier: f})
	return config
}

// issued is a certificate that is as it should be.
func issued(name string, now time.Time) admin.Certificate {
	return admin.Certificate{
		Name: name, Names: []string{name}, Source: "acme", Issuer: "R13", Serial: "4ab", Fingerprint: "00ff", Serving: true,
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(89*24*time.Hour + time.Minute), RenewAfter: now.Add(59*24*time.Hour + time.Minute),
	}
}

func TestCertificateLines(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name   string
		change func(*admin.Certificate)
		idle   bool // no proxy runs
		want   []string
		not    string
		ails   bool
	}{
		{"well", func(*admin.Certificate) {}, false, []string{
			"vps1.example.net", "  source       ACME", "  issuer       R13", ": 89d left", "  serial       4ab", "  fingerprint  sha256:00ff",
			"  renewal      after ", ", in 59d", "  shown        to clients that ask for its names"}, "  names", false},
		{"other names", func(c *admin.Certificate) { c.Names = []string{"vps1.example.net", "192.0.2.7"} }, false,
			[]string{"  names        vps1.example.net, 192.0.2.7"}, "", false},
		{"none yet", func(c *admin.Certificate) {
			*c = admin.Certificate{Name: c.Name, Names: c.Names, Source: "acme", Error: "no \x1baddress", ErrorAt: now.Add(-3*time.Minute - time.Second), NextTry: now.Add(4*time.Minute + time.Second)}
		}, false, []string{"  valid        there is none yet: the local CA's is shown", `  failed       3m ago: no \x1baddress`, "  next try     in 4m"}, "issuer", true},
		{"expired", func(c *admin.Certificate) { c.NotAfter, c.Serving = now.Add(-time.Hour), false }, false,
			[]string{": expired 1h ago", "  shown        to nobody"}, "left", true},
		{"not yet", func(c *admin.Certificate) { c.NotBefore = now.Add(time.Hour) }, false, []string{": not yet"}, "left", false},
		{"due", func(c *admin.Certificate) {
			c.RenewAfter, c.Error, c.NextTry = now.Add(-time.Second), "rate limited", now.Add(-time.Second)
		}, false,
			[]string{"  renewal      due since ", "  failed       rate limited", "  next try     now"}, "", true},
		{"files", func(c *admin.Certificate) {
			c.Source, c.RenewAfter, c.Error = "files", time.Time{}, "key does not match"
		}, false,
			[]string{"  source       files that somebody else renews", "  next try     when the files change"}, "renewal", true},
		{"failed for good", func(c *admin.Certificate) { c.Error = "x" }, false, []string{"  next try     not known; smtpwall cert renew asks at once"}, "", true},
		{"root", func(c *admin.Certificate) { c.Source = "local-ca" }, false, []string{"  source       root of the local CA, which smtpwall trust install makes programs trust"}, "shown", false},
		{"stored", func(c *admin.Certificate) { c.Serving = false }, true, []string{": 89d left"}, "shown", false},
	} {
		c := issued("vps1.example.net", now)
		test.change(&c)
		text := strings.Join(certificateLines(&c, !test.idle, now), "\n") + "\n"
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in:\n%s", test.name, want, text)
			}
		}
		if test.not != "" && strings.Contains(text, test.not) {
			t.Errorf("%s: %q in:\n%s", test.name, test.not, text)
		}
		if ailing(c, now) != test.ails {
			t.Errorf("%s: ails: %t", test.name, !test.ails)
		}
	}
}

func TestCertificatesLine(t *testing.T) {
	now := time.Now()
	root := issued("smtpwall local CA", now)
	root.Source = "local-ca"
	local := issued("vps1.example.net", now)
	local.Source, local.Issuer = "local", "smtpwall local CA"
	late := issued("old.example.net", now)
	late.NotAfter = now
	failing := issued("mail.example.net", now)
	failing.Error = "x"
	wanted := admin.Certificate{Name: "new.example.net", Source: "acme"}
	for _, test := range []struct {
		all  []admin.Certificate
		want string
	}{
		{nil, ""},
		{[]admin.Certificate{root}, ""},
		{[]admin.Certificate{issued("a", now), local, root}, "a by R13, 89d left"},
		{[]admin.Certificate{local, root}, "vps1.example.net by smtpwall local CA, 89d left"},
		{[]admin.Certificate{late, failing, wanted}, "old.example.net by R13: expired; mail.example.net by R13, 89d left, the last try failed; new.example.net: none yet"},
		{[]admin.Certificate{wanted, wanted, wanted, issued("a", now), issued("b", now), late},
			"new.example.net: none yet; new.example.net: none yet; new.example.net: none yet; a by R13, 89d left; 2 more, which smtpwall cert status shows"},
	} {
		if got := certificatesLine(test.all, now); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestCertStatus(t *testing.T) {
	now := time.Now()
	f := &fakeCertifier{all: []admin.Certificate{issued("vps1.example.net", now), issued("mail.example.net", now)}}
	config := f.serve(t, map[string]string{"relay main": "away"})
	status, out, err := run(t, "", "cert", "status", "--config", config)
	if status != exitDone || err != "" || !strings.HasPrefix(out, "vps1.example.net\n  source ") || !strings.Contains(out, "\n\nmail.example.net\n") || strings.Contains(out, "degraded") {
		t.Errorf("all is well: %d, %q\n%s", status, err, out)
	}
	f.all[1].Error = "too many certificates (5) already issued"
	config = f.serve(t, map[string]string{"certificate mail.example.net": "the CA says too many", "relay main": "away"})
	status, out, err = run(t, "", "cert", "--config", config, "status")
	if status != exitDegraded || err != "" || !strings.HasSuffix(out, "\n\ndegraded: certificate mail.example.net: the CA says too many\n") {
		t.Errorf("one fails: %d, %q\n%s", status, err, out)
	}
	status, out, _ = run(t, "", "cert", "status", "--json", "--config", config)
	var got certificateState
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != exitDegraded || !got.Running || !got.Degraded || len(got.Certificates) != 2 || len(got.Conditions) != 1 {
		t.Errorf("JSON: %d, %v, %s", status, err, out)
	}
	if _, out, _ = run(t, "", "status", "--config", config); !strings.Contains(out, "\ncertificates: vps1.example.net by R13, 89d left; mail.example.net by R13, 89d left, the last try failed\n") {
		t.Errorf("status does not tell:\n%s", out)
	}
}

func TestCertUsage(t *testing.T) {
	for _, args := range [][]string{{"cert"}, {"cert", "show"}, {"cert", "status", "vps1"}} {
		if status, _, err := run(t, "", args...); status != exitUsage || !strings.Contains(err, "smtpwall: error: ") {
			t.Errorf("%q: %d, %q", args, status, err)
		}
	}
}

// Without a proxy there are the files.
func TestCertStatusOfFiles(t *testing.T) {
	config := file(t, "[listen]\nadmin = \"DIR/a\"\n[delivery]\nspool = \"DIR/spool\"\n[certificates]\nsource = \"files\"\ncertificate = \"DIR/cert.pem\"\nkey = \"DIR/key.pem\"\n")
	directory := filepath.Dir(config)
	status, out, err := run(t, "", "cert", "status", "--config", config)
	if status != exitFailed || out != "" || !strings.Contains(err, "no proxy is running") || !strings.Contains(err, "cert.pem") {
		t.Errorf("no file: %d, %q, %q", status, out, err)
	}
	writeCertificate(t, filepath.Join(directory, "cert.pem"), "vps1.example.net")
	writeCertificate(t, filepath.Join(directory, "certs/local-ca/root.pem"), "")
	status, out, err = run(t, "", "cert", "status", "--config", config)
	if status != exitDegraded || !strings.Contains(err, "no proxy is running: these certificates are in files, and nobody shows or renews them\nhint: ") {
		t.Errorf("%d, %q", status, err)
	}
	for _, want := range []string{"vps1.example.net\n  source       files ", "  issuer       Test CA\n", ": 89d left\n", "\n\nTest CA\n  source       root "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "shown") {
		t.Errorf("somebody shows them:\n%s", out)
	}
}

func TestCertStatusOfStoredACME(t *testing.T) {
	config := file(t, "[listen]\nadmin = \"\"\n[delivery]\nspool = \"DIR/spool\"\n[host]\nname = \"vps1.example.net\"\n[certificates]\nsource = \"acme\"\n")
	directory := filepath.Dir(config)
	writeCertificate(t, filepath.Join(directory, "certs/acme/certificates/ca.example-directory/vps1.example.net/vps1.example.net.crt"), "vps1.example.net")
	if err := os.WriteFile(filepath.Join(directory, "certs/acme/certificates/ca.example-directory/vps1.example.net/vps1.example.net.key"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, err := run(t, "", "cert", "status", "--json", "--config", config)
	var got certificateState
	if jsonErr := json.Unmarshal([]byte(out), &got); jsonErr != nil || status != exitDone || got.Running || len(got.Certificates) != 1 || got.Certificates[0].Source != "acme" ||
		!strings.Contains(err, "listen.admin is empty") {
		t.Errorf("%d, %v, %q, %s", status, jsonErr, err, out)
	}
	if status, _, err := run(t, "", "cert", "renew", "--config", config); status != exitFailed || !strings.Contains(err, "listen.admin is empty\nhint: give listen.admin a path") {
		t.Errorf("renewing: %d, %q", status, err)
	}
}

// writeCertificate writes one for name, or that of a CA for none.
func writeCertificate(t *testing.T, path, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	issuer := x509.Certificate{Subject: pkix.Name{CommonName: "Test CA"}, SerialNumber: big.NewInt(7), NotBefore: now, NotAfter: now.Add(89*24*time.Hour + time.Minute),
		IsCA: true, BasicConstraintsValid: true}
	template := issuer
	if name != "" {
		template.Subject, template.IsCA, template.DNSNames = pkix.Name{}, false, []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &issuer, key.Public(), key)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCertRenew(t *testing.T) {
	now := time.Now()
	f := &fakeCertifier{all: []admin.Certificate{issued("vps1.example.net", now)}}
	f.renew = func(context.Context, []string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.all[0].Fingerprint = "11ff"
		return nil
	}
	config := f.serve(t, nil)
	status, out, err := run(t, "", "cert", "renew", "vps1.example.net", "--config", config)
	if status != exitDone || !strings.HasPrefix(out, "vps1.example.net: issued by R13, valid until ") || !strings.Contains(err, "may take minutes") {
		t.Errorf("%d, %q, %q", status, out, err)
	}
	if len(f.ordered) != 1 || !slices.Equal(f.ordered[0], []string{"vps1.example.net"}) {
		t.Errorf("ordered %q", f.ordered)
	}
	status, out, err = run(t, "", "cert", "renew", "--config", config)
	if status != exitDone || out != "" || !strings.Contains(err, "the certificates are the same as before\n") || len(f.ordered[1]) != 0 {
		t.Errorf("nothing new: %d, %q, %q", status, out, err)
	}
	f.renew = func(context.Context, []string) error {
		return errors.New("mail.example.net: the CA said: too many\ncertificates")
	}
	status, out, err = run(t, "", "cert", "renew", "--config", config)
	if status != exitFailed || out != "" || !strings.Contains(err, "smtpwall: error: the proxy: mail.example.net: the CA said: too many") {
		t.Errorf("refused: %d, %q, %q", status, out, err)
	}
}

// Who stops waiting hears that it goes on.
func TestCertRenewUnderWay(t *testing.T) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	f := &fakeCertifier{renew: func(ctx context.Context, _ []string) error {
		cancel()
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}}
	config := f.serve(t, nil)
	var stderr bytes.Buffer
	c := &console{out: &bytes.Buffer{}, err: &stderr}
	if status := c.main(ctx, []string{"cert", "renew", "--config", config}); status != exitFailed ||
		!strings.HasSuffix(stderr.String(), "smtpwall: error: the renewal has not ended yet, and goes on\nhint: smtpwall cert status tells what becomes of it\n") {
		t.Errorf("%d, %q", status, stderr.String())
	}
	<-ended
}

// check asks the CAs for what they are.
func TestCheckAsksIssuers(t *testing.T) {
	var meta string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := `{"newNonce":"x","newAccount":"x","newOrder":"x","revokeCert":"x","keyChange":"x","meta":` + meta + `}`
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/other":
			text = `{"hello":"world"}`
		case "/page":
			w.Header().Set("Content-Type", "text/html")
		}
		_, _ = w.Write([]byte(text))
	}))
	defer server.Close()
	check := func(t *testing.T, keys string) (int, string) {
		t.Helper()
		status, _, err := run(t, "", "check", file(t, "[host]\nname = \"vps1.example.net\"\n[delivery]\nspool = \"DIR/spool\"\n[certificates]\nsource = \"acme\"\nhttp_port = 8402\n"+keys))
		return status, err
	}
	for _, test := range []struct {
		name, path, meta, keys string
		status                 int
		want                   []string
	}{
		{"well", "/well", `{"profiles":{"shortlived":"x"}}`, "profile = \"shortlived\"\n", exitDone, []string{": asked, and well\n"}},
		{"profile and account", "/picky", `{"externalAccountRequired":true,"profiles":{"classic":"x","tlsserver":"y"}}`, "profile = \"shortlived\"\n", exitFailed,
			[]string{": the CA wants accounts bound to one that you have there: get a key from it, and write eab_key_id and eab_key\n",
				": the CA has no profile \"shortlived\": it has classic, tlsserver\n", "smtpwall: error: certificates cannot be had as [certificates] says\nhint: "}},
		{"no profiles", "/plain", `{}`, "profile = \"shortlived\"\n", exitFailed, []string{"the CA has no profile \"shortlived\": it has none\n"}},
		{"no directory", "/other", `{}`, "", exitFailed, []string{"/other: it is not the directory of an ACME server: "}},
		{"a page", "/page", `{}`, "", exitFailed, []string{"/page: it is not the directory of an ACME server: "}},
	} {
		meta = test.meta
		status, err := check(t, "directory = \""+server.URL+test.path+"\"\n"+test.keys)
		if status != test.status {
			t.Errorf("%s: %d, %q", test.name, status, err)
		}
		for _, want := range test.want {
			if !strings.Contains(err, want) {
				t.Errorf("%s: no %q in:\n%s", test.name, want, err)
			}
		}
	}
	server.Close()
	if status, err := check(t, "directory = \""+server.URL+"/gone\"\n"); status != exitFailed || !strings.Contains(err, "smtpwall: error: issuer http://127.0.0.1:") || !strings.Contains(err, "connection refused") {
		t.Errorf("away: %d, %q", status, err)
	}
}

// Keys that systemd hands to the service alone keep nothing from being checked,
// nor a reload from being made, which begins with a check that is not shown them.
func TestCheckWithoutCredentials(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	const text = "[host]\nname = \"vps1.example.net\"\n[delivery]\nspool = \"DIR/spool\"\n[certificates]\nsource = \"acme\"\nchallenge = \"dns-01\"\n" +
		"eab_key_id = \"kid-1\"\neab_key = { credential = \"acme-eab\" }\n[certificates.dns]\nserver = \"192.0.2.53\"\nkey_name = \"k\"\nkey = { credential = \"acme-tsig\" }\n"
	status, _, err := run(t, "", "check", "--offline", file(t, text))
	if status != exitDone || strings.Count(err, "was not checked: systemd hands it to the service alone") != 2 {
		t.Errorf("%d, %q", status, err)
	}
}

// A CA of one's own has a certificate that the system does not know.
func TestCheckAsksAPrivateIssuer(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"newNonce":"x","newAccount":"x","newOrder":"x"}`))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it says that it is not believed
	server.StartTLS()
	defer server.Close()
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "[host]\nname = \"vps1.example.net\"\n[delivery]\nspool = \"DIR/spool\"\n[certificates]\nsource = \"acme\"\nhttp_port = 8402\ndirectory = \"" + server.URL + "\"\n"
	status, _, err := run(t, "", "check", file(t, text))
	if status != exitFailed || !strings.Contains(err, "certificate signed by unknown authority: where the CA is one of your own, name its root by ca\n") {
		t.Errorf("without its root: %d, %q", status, err)
	}
	status, _, err = run(t, "", "check", file(t, text+"ca = \""+root+"\"\n"))
	if status != exitDone || !strings.Contains(err, "issuer "+server.URL+": asked, and well\n") {
		t.Errorf("with it: %d, %q", status, err)
	}
}

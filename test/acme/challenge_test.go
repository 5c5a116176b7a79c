package acme_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// TestHTTP: the proxy answers HTTP-01 itself on port 80, and nothing else there.
func TestHTTP(t *testing.T) {
	t.Parallel()
	b := startBed(t, setup{config: acmeConfig})
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	b.checkMail(t, b.ca.Roots(0))
	for _, path := range []string{"/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/guessed"} {
		if status, _ := b.fetch(t, "http://"+b.Host.Addr4().String()+path); status != http.StatusNotFound {
			t.Errorf("%s has status %d, want 404", path, status)
		}
	}
	// What only the local CA signs it still does.
	if _, err := b.handshake(submissions, b.localRoots(t), "localhost"); err != nil {
		t.Errorf("for localhost: %v", err)
	}
	got := b.certificate(t, "acme", hostName)
	if !got.Serving || got.Error != "" || !got.RenewAfter.After(time.Now()) || !got.NotAfter.After(got.RenewAfter) {
		t.Errorf("cert status says %+v", got)
	}
	if _, status := b.certificates(t); status != 0 {
		t.Errorf("cert status ends with status %d", status)
	}
	if conditions, status := b.conditions(t); len(conditions) != 0 || status != 0 {
		t.Errorf("status %d with the conditions %v", status, conditions)
	}
}

// fetch gets a page from outside.
func (b *bed) fetch(t testing.TB, url string) (status int, body string) {
	t.Helper()
	response, err := b.ca.Client().Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestWebRoot: a web server that is there already serves the challenge.
func TestWebRoot(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	tokens := b.startWebRoot(t)
	b.configure(setup{config: acmeConfig + "web_root = \"$DIR/www\"\n"})
	b.start()
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	if left, err := os.ReadDir(tokens); err != nil || len(left) > 0 {
		t.Errorf("the web root keeps %v, %v", left, err)
	}
	if status, body := b.fetch(t, "http://"+b.Host.Addr4().String()+"/"); status != 200 || body != "the site\n" {
		t.Errorf("the site is %d %q", status, body)
	}
}

// startWebRoot runs a web server with a site, where smtpwall may write tokens.
func (b *bed) startWebRoot(t testing.TB) (tokens string) {
	t.Helper()
	tokens = b.path("www", ".well-known", "acme-challenge")
	err := os.MkdirAll(tokens, 0o755)
	if err = errors.Join(err, os.Chown(tokens, proxyUID, proxyUID)); err != nil {
		t.Fatal(err)
	}
	b.write("www/index.html", "the site\n", 0o644, 0)
	b.startNginx(t, "root "+b.path("www")+";")
	return tokens
}

// TestHandedOver: a web server hands the challenge to the proxy's own port.
func TestHandedOver(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	b.startNginx(t, "location /.well-known/acme-challenge/ { proxy_pass http://127.0.0.1:8402; proxy_set_header Host $host; }")
	b.configure(setup{config: acmeConfig + "http_port = 8402\n"})
	b.start()
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
}

// TestPortTaken: another program's port 80 stops no mail, and is told of.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{errors: []string{"a CA's challenges cannot come in"}})
	b.startWebRoot(t)
	b.configure(setup{config: acmeConfig})
	b.start()
	b.run.await(t, "0.0.0.0:80: bind: address already in use", 1)
	b.checkMail(t, b.localRoots(t))
	b.awaitComplaint(t, "listen tcp :80")
}

// startNginx runs a web server on the host's port 80.
func (b *bed) startNginx(t testing.TB, location string) {
	t.Helper()
	b.write("nginx.conf", `daemon off;
user www-data;
worker_processes 1;
pid `+b.path("nginx.pid")+`;
error_log stderr notice;
events {}
http {
    access_log off;
    client_body_temp_path `+b.path("nginx-body")+`;
    proxy_temp_path `+b.path("nginx-proxy")+`;
    fastcgi_temp_path `+b.path("nginx-fastcgi")+`;
    uwsgi_temp_path `+b.path("nginx-uwsgi")+`;
    scgi_temp_path `+b.path("nginx-scgi")+`;
    server { listen 80; `+location+` }
}
`, 0o644, 0)
	p := launch(t, b.Host.Command(context.WithoutCancel(t.Context()), "nginx", "-e", "stderr", "-p", b.dir, "-c", b.path("nginx.conf")))
	t.Cleanup(func() {
		// Its worker ends with it only if it is asked to.
		if err := p.end(quit); err != nil {
			t.Errorf("nginx ended with %v", err)
		}
		if t.Failed() {
			t.Logf("nginx says:\n%s", p.said)
		}
	})
	p.await(t, "start worker process ", 1)
}

// TestTLSALPN: the proxy answers TLS-ALPN-01 on port 443, and nothing else there.
func TestTLSALPN(t *testing.T) {
	t.Parallel()
	b := startBed(t, setup{config: acmeConfig + "challenge = \"tls-alpn-01\"\n"})
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	b.checkMail(t, b.ca.Roots(0))
	to := netip.AddrPortFrom(b.Host.Addr4(), 443)
	for _, protocols := range [][]string{nil, {"h2", "http/1.1"}, {"acme-tls/1"}, {"acme-tls/1", "h2"}} {
		if err := b.greet(t, to, protocols); err == nil {
			t.Errorf("port 443 completes a handshake for %v without a challenge", protocols)
		}
	}
}

// greet tries a handshake from outside that offers protocols.
func (b *bed) greet(t testing.TB, to netip.AddrPort, protocols []string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := b.Remote.Dial(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return tls.Client(conn, &tls.Config{ServerName: hostName, InsecureSkipVerify: true, NextProtos: protocols}).HandshakeContext(ctx)
}

// portMap leads the CA from port 443 to the submissions listener.
const portMap = `table ip portmap {
	chain in {
		type nat hook prerouting priority dstnat
		tcp dport 443 redirect to :465
	}
}
`

// TestTLSALPNOnSubmissions: the submissions listener answers TLS-ALPN-01 too,
// where port 443 leads to it, and says no word of SMTP then.
func TestTLSALPNOnSubmissions(t *testing.T) {
	t.Parallel()
	s := setup{
		config: acmeConfig + "challenge = \"tls-alpn-01\"\ntls_alpn_port = 0\n",
		listen: `submissions = ["127.0.0.1:465", "[::1]:465", "198.51.100.1:465"]`,
	}
	b := newBed(t, s)
	b.write("portmap.nft", portMap, 0o600, 0)
	must(t, b.Host.Command(t.Context(), "nft", "-f", b.path("portmap.nft")))
	b.configure(s)
	b.start()
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	b.checkMail(t, b.ca.Roots(0))
	if ct := must(t, b.Host.Command(t.Context(), "nft", "list", "table", "ip", "portmap")); !strings.Contains(ct, "redirect to :465") {
		t.Errorf("the port map is gone: %s", ct)
	}
	if events := readFile(t, b.path("log", "transactions.jsonl")); strings.Contains(events, caAddr.String()) || strings.Contains(events, b.Remote.Addr4().String()) {
		t.Errorf("the audit log tells of the CA's connections:\n%s", events)
	}
	if err := b.greet(t, netip.AddrPortFrom(b.Host.Addr4(), 465), []string{"acme-tls/1"}); err == nil {
		t.Error("a handshake for a challenge that nobody asked for is completed")
	}
}

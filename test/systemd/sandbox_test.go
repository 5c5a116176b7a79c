package systemd_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path"
	"testing"
)

// What other programs do for a certificate, and what the service's sandbox lets
// them do.

const hookPath = "/usr/local/sbin/dns-hook"

// hookScript is a hook as in docs/certificates.md, with a log; it hangs where it
// is told to.
const hookScript = `#!/bin/sh
set -eu
echo "$1" >/tmp/last
if [ "$(cat /srv/hook/hang 2>/dev/null)" = "$1" ]; then
	trap '' TERM INT HUP
	rm /srv/hook/hang
	sleep 300
fi
curl --silent --show-error --fail --max-time 20 --header @/etc/smtpwall/acme-dns.header \
	--data-urlencode "action=$1" --data-urlencode "name=$2" --data-urlencode "value=$3" http://` + remote4 + `/
echo "$1 $2" >>/srv/hook/log
`

// testHook changes the name server by a program that also writes a log.
func testHook(t *testing.T, s *issuing) {
	s.write(t, hookPath, 0o755, []byte(hookScript))
	s.write(t, "/etc/smtpwall/acme-dns.header", 0o640, []byte("Authorization: Bearer "+apiKey+"\n"))
	s.run(t, "chgrp", "smtpwall", "/etc/smtpwall/acme-dns.header")
	s.run(t, "install", "-d", "-o", "smtpwall", "/srv/hook")
	s.hooked(t, "hook.example.net")
	s.reload(t)
	s.complains(t, "hook.example.net", hookPath, "/srv/hook/log: Read-only file system")
	s.standsIn(t, "hook.example.net")

	s.dropIn(t, proxy, "hook", "[Service]", "ReadWritePaths=/srv/hook")
	s.quickly(t, "systemctl", "restart", proxy)
	s.certified(t, "hook.example.net")
	s.well(t)
	const want = "present _acme-challenge.hook.example.net\ncleanup _acme-challenge.hook.example.net"
	if log := s.run(t, "cat", "/srv/hook/log"); log != want {
		t.Errorf("the hook was called for:\n%s\nwant\n%s", log, want)
	}
	if n := s.names.left(); n != 0 {
		t.Errorf("%d names still have TXT records", n)
	}
	if out, err := s.try("cat", "/tmp/last"); err == nil {
		t.Errorf("the hook wrote %q to everybody's /tmp", out)
	}
}

// hooked configures the challenge by the hook.
func (s *issuing) hooked(t *testing.T, name string) {
	t.Helper()
	s.configure(t, s.ask(), `challenge = "dns-01"`, fmt.Sprintf("hook = [%q]", hookPath), fmt.Sprintf("names = [%q]", name))
}

// testHookHangs stops the service while its program does not end, nor obey.
func testHookHangs(t *testing.T, s *issuing) {
	for _, action := range []string{"present", "cleanup"} {
		s.write(t, "/srv/hook/hang", 0o644, []byte(action))
		s.hooked(t, action+".example.net")
		s.reload(t)
		eventually(t, "the hook hangs at "+action, func() bool { _, err := s.try("test", "-e", "/srv/hook/hang"); return err != nil })
		s.stopped(t)
		if out, err := s.try("pgrep", "--full", hookPath); err == nil {
			t.Errorf("the hook is left behind: %s", out)
		}
		s.run(t, "systemctl", "start", proxy)
		s.certified(t, action+".example.net")
	}
}

const (
	webRoot = "/srv/www"
	tokens  = webRoot + "/.well-known/acme-challenge"
)

// testWebRoot leaves the challenge to a web server that is there, as another
// user, and gives the proxy no more than the folder of tokens.
func testWebRoot(t *testing.T, s *issuing) {
	s.serveWeb(t, http.HandlerFunc(s.serveFiles))
	s.run(t, "install", "-d", "-g", "www-data", "-m", "2775", tokens)
	s.configure(t, s.ask(), `names = ["web.example.net"]`, fmt.Sprintf("web_root = %q", webRoot))
	s.reload(t)
	s.complains(t, "web.example.net", webRoot, "read-only file system", "ReadWritePaths="+tokens+" in a drop-in of smtpwall.service")
	s.dropIn(t, proxy, "web-root", "[Service]", "ReadWritePaths="+tokens)
	s.quickly(t, "systemctl", "restart", proxy)
	s.complains(t, "web.example.net", webRoot, "permission denied")
	s.run(t, "chown", "smtpwall", tokens)
	s.run(t, "smtpwall", "cert", "renew", "web.example.net")
	s.certified(t, "web.example.net")
	s.well(t)
	if left := s.run(t, "find", webRoot, "-type", "f"); left != "" {
		t.Errorf("in the web root is left %s", left)
	}
}

// serveFiles answers as a web server does that reads its files as www-data.
func (s *issuing) serveFiles(w http.ResponseWriter, r *http.Request) {
	text, err := s.try("runuser", "-u", "www-data", "--", "cat", path.Join(webRoot, path.Clean("/"+r.URL.Path)))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(text))
}

// serveWeb is a web server at the machine's port 80, for the rest of the test.
func (s *issuing) serveWeb(t *testing.T, handler http.Handler) {
	t.Helper()
	l, err := s.net.Host.Listen(netip.MustParseAddrPort("0.0.0.0:80"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { // ends when the cleanup closes the server
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-done })
}

// testHandedOver has a web server hand the challenge to a port on loopback.
func testHandedOver(t *testing.T, s *issuing) {
	const unit = "smtpwall-acme@8402.socket"
	at := netip.MustParseAddrPort("127.0.0.1:8402")
	s.serveWeb(t, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: at.String()}) },
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.net.Host.Dial(ctx, at)
		}},
	})
	s.configure(t, s.ask(), `names = ["handed.example.net"]`, "http_port = 8402")
	s.dropIn(t, unit, "loopback", "[Socket]", "ListenStream=", "ListenStream="+at.String())
	s.run(t, "systemctl", "enable", unit)
	s.quickly(t, "systemctl", "restart", proxy)
	s.certified(t, "handed.example.net")
	s.well(t)
	if listening := s.sh(t, "ss -Hltn 'sport = 8402' | awk '{print $4}'"); listening != at.String() {
		t.Errorf("port 8402 is open at %s", listening)
	}
	s.run(t, "systemctl", "disable", "--now", unit)
}

// lineage has a certificate for the host as certbot leaves it: numbered, with
// links to the current one, for root alone at first and then as the one before.
const lineage = `set -eu
name=machine.example.net base=/etc/letsencrypt
for place in live archive; do [ -e $base/$place ] || install -d -m 0700 $base/$place; done
mkdir -p -m 0755 $base/live/$name $base/archive/$name
cd $base/archive/$name
n=$(($(ls | wc -l) / 2 + 1))
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=$name -addext subjectAltName=DNS:$name \
	-keyout privkey$n.pem -out fullchain$n.pem 2>/dev/null
chmod 0600 privkey$n.pem
for f in fullchain privkey; do ln -sf ../../archive/$name/$f$n.pem ../../live/$name/$f.pem; done`

// Both from docs/certificates.md: what lets the service read certbot's files, and
// what copies those of others.
const (
	deployHook = `#!/bin/sh
set -eu
chgrp smtpwall /etc/letsencrypt/live /etc/letsencrypt/archive
chmod 0710 /etc/letsencrypt/live /etc/letsencrypt/archive
key=$(readlink -f "$RENEWED_LINEAGE/privkey.pem")
chgrp smtpwall "$key"
chmod 0640 "$key"
`
	copyScript = `#!/bin/sh
# smtpwall-tls CERTIFICATE KEY
set -eu
install -m 0640 -g smtpwall "$2" /etc/smtpwall/tls/key.pem
install -m 0644 "$1" /etc/smtpwall/tls/certificate.pem
`
)

// testFiles reads what certbot keeps: in its place, and where a copy is put.
func testFiles(t *testing.T, s *issuing) {
	const live = "/etc/letsencrypt/live/" + hostName
	s.sh(t, lineage)
	s.files(t, live+"/fullchain.pem", live+"/privkey.pem")
	s.refused(t, live+"/fullchain.pem: permission denied")
	s.quickly(t, "systemctl", "restart", proxy)
	s.standsIn(t, hostName)
	s.complains(t, live+"/fullchain.pem", "cannot be loaded", "permission denied")

	s.write(t, "/etc/letsencrypt/renewal-hooks/deploy/smtpwall", 0o755, []byte(deployHook))
	const deploy = "RENEWED_LINEAGE=" + live + " /etc/letsencrypt/renewal-hooks/deploy/smtpwall"
	s.sh(t, deploy)
	s.showsFile(t, live+"/fullchain.pem")
	s.sh(t, lineage)
	s.sh(t, deploy)
	s.showsFile(t, live+"/fullchain.pem")
	s.well(t)

	s.write(t, "/usr/local/sbin/smtpwall-tls", 0o755, []byte(copyScript))
	s.run(t, "install", "-d", "-m", "0750", "-g", "smtpwall", "/etc/smtpwall/tls")
	const copied = "umask 077; /usr/local/sbin/smtpwall-tls " + live + "/fullchain.pem " + live + "/privkey.pem"
	s.sh(t, copied)
	s.files(t, "/etc/smtpwall/tls/certificate.pem", "/etc/smtpwall/tls/key.pem")
	s.reload(t)
	s.sh(t, lineage)
	s.sh(t, copied)
	s.showsFile(t, live+"/fullchain.pem")
	s.well(t)
}

func (s *issuing) files(t *testing.T, certificate, key string) {
	t.Helper()
	s.configure(t, `source = "files"`, fmt.Sprintf("certificate = %q", certificate), fmt.Sprintf("key = %q", key))
}

// showsFile waits until clients are shown the certificate of a file.
func (s *issuing) showsFile(t *testing.T, file string) {
	t.Helper()
	roots := poolOf(t, s.run(t, "cat", file))
	eventually(t, "clients are shown "+file, func() bool { _, err := s.shown(hostName, roots); return err == nil })
}

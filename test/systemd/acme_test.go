package systemd_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
)

// Units of the ports at which a CA asks.
const (
	httpPort = "smtpwall-acme@80.socket"
	tlsPort  = "smtpwall-acme@443.socket"
)

// testNoPort asks for a certificate and forgets the port at which the CA looks.
func testNoPort(t *testing.T, s *issuing) {
	s.configure(t, s.ask())
	s.refused(t, "the port of a CA's challenges changed in [certificates]: restart")
	s.quickly(t, "systemctl", "restart", proxy)
	s.standsIn(t, hostName)
	s.complains(t, hostName, "listen tcp :80: bind: permission denied", "systemctl enable "+httpPort+", then systemctl restart smtpwall.service")
	s.delivered(t, s.machine)
}

// testHTTP opens the port, and asks a CA that takes its time.
func testHTTP(t *testing.T, s *issuing) {
	s.ca.Pause()
	s.configure(t, s.ask(), `names = ["machine.example.net", "six.example.net"]`)
	s.run(t, "systemctl", "enable", httpPort)
	s.quickly(t, "systemctl", "restart", proxy)
	s.standsIn(t, hostName)
	s.complains(t, hostName, "The CA is being asked")
	s.delivered(t, s.machine)
	s.stopped(t)
	s.quickly(t, "systemctl", "start", proxy)
	s.ca.Resume()
	shown := s.certified(t, hostName)
	s.certified(t, "six.example.net")
	s.well(t)
	s.kept(t, 2)
	s.nothingElse(t)
	testConfined(t, s.machine, s.outside)

	// What it has it need not ask for.
	s.ca.Pause()
	s.quickly(t, "systemctl", "restart", proxy)
	if again, err := s.shown(hostName, s.roots); err != nil || !again.Equal(shown) {
		t.Errorf("after a restart there is another certificate, %v", err)
	}
	s.ca.Resume()

	s.configure(t, s.ask(), `names = ["machine.example.net", "six.example.net", "added.example.net"]`)
	s.reload(t)
	s.certified(t, "added.example.net")
	s.configure(t, s.ask(), "http_port = 8402")
	s.refused(t, "the port of a CA's challenges changed in [certificates]: restart")
	s.certified(t, "added.example.net")
}

// stopped stops the service while something is under way: it ends by itself, with
// all that it started, and nobody outside wakes it.
func (s *issuing) stopped(t *testing.T) {
	t.Helper()
	s.quickly(t, "systemctl", "stop", proxy)
	if result := s.show(t, proxy, "Result"); result != "success" {
		t.Errorf("%s ended with %s:\n%s", proxy, result, s.journal(t, beginning, proxy))
	}
	eventually(t, httpPort+" is closed", func() bool { return s.show(t, httpPort, "ActiveState") == "inactive" })
}

// kept looks at what is on the disk: names certificates with their keys, for the
// proxy's user alone.
func (s *issuing) kept(t *testing.T, names int) {
	t.Helper()
	find := "cd " + certificateFolder + "/acme && find "
	if wrong := s.sh(t, find+`. \( ! -user smtpwall -o ! -group smtpwall -o -type d ! -perm 700 -o -type f ! -perm 600 \) -printf '%M %u:%g %p\n'`); wrong != "" {
		t.Errorf("below %s/acme there is:\n%s", certificateFolder, wrong)
	}
	for _, suffix := range []string{"crt", "key"} {
		if found := s.sh(t, find+"certificates -name '*."+suffix+"'"); len(strings.Fields(found)) != names {
			t.Errorf("below %s/acme there is %q, want %d of .%s", certificateFolder, found, names, suffix)
		}
	}
}

// nothingElse: on the port for challenges there is nothing to be had.
func (s *issuing) nothingElse(t *testing.T) {
	t.Helper()
	for _, address := range []netip.Addr{s.net.Host.Addr4(), s.net.Host.Addr6()} {
		for _, path := range []string{"/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/guessed"} {
			url := "http://" + netip.AddrPortFrom(address, 80).String() + path
			if status, body := fetch(t, s.net.Remote, url); status != http.StatusNotFound {
				t.Errorf("%s is %d %q", url, status, body)
			}
		}
	}
}

// fetch gets a page, from inside a network.
func fetch(t *testing.T, from *lab.Namespace, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := from.Dial(t.Context(), netip.MustParseAddrPort(request.URL.Host))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := request.Write(conn); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
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

// testPortTaken: another program has the port at the start. That costs a
// certificate, and no mail.
func testPortTaken(t *testing.T, s *issuing) {
	s.configure(t, s.ask(), `names = ["later.example.net"]`)
	s.run(t, "systemctl", "enable", httpPort)
	s.stopped(t)
	taken, err := s.net.Host.Listen(netip.MustParseAddrPort("0.0.0.0:80"))
	if err != nil {
		t.Fatal(err)
	}
	s.quickly(t, "systemctl", "start", proxy)
	if state := s.show(t, httpPort, "ActiveState"); state != "failed" {
		t.Errorf("%s is %s", httpPort, state)
	}
	s.standsIn(t, "later.example.net")
	s.complains(t, "later.example.net", "80")
	s.delivered(t, s.machine)
	taken.Close()
	s.quickly(t, "systemctl", "restart", proxy)
	s.certified(t, "later.example.net")
	s.well(t)
}

// testTLSALPN has the CA come to the other port.
func testTLSALPN(t *testing.T, s *issuing) {
	s.configure(t, s.ask(), `challenge = "tls-alpn-01"`, `names = ["alpn.example.net"]`)
	s.refused(t, "the port of a CA's challenges changed in [certificates]: restart")
	s.run(t, "systemctl", "enable", tlsPort)
	s.quickly(t, "systemctl", "restart", proxy)
	s.certified(t, "alpn.example.net")
	s.well(t)
	s.nothingElse(t) // the other port is still open
	s.run(t, "systemctl", "disable", "--now", httpPort, tlsPort)
}

// testTLSALPNOnSubmissions has the submissions listener on port 443, for clients
// behind firewalls that let nothing else out; it answers the CA as well.
func testTLSALPNOnSubmissions(t *testing.T, s *issuing) {
	s.configure(t, s.ask(), `challenge = "tls-alpn-01"`, "tls_alpn_port = 0", `names = ["wide.example.net"]`,
		"[listen]", `submissions = ["127.0.0.1:465", "[::1]:465", "0.0.0.0:443", "[::]:443"]`)
	s.dropIn(t, "smtpwall.socket", "submissions", "[Socket]", "ListenStream=0.0.0.0:443", "ListenStream=[::]:443")
	s.restart(t)
	s.certified(t, "wide.example.net")
	s.well(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, address := range []netip.Addr{s.net.Host.Addr4(), s.net.Host.Addr6()} {
		conn, err := s.net.Remote.Dial(ctx, netip.AddrPortFrom(address, 443))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := tls.Client(conn, &tls.Config{ServerName: "wide.example.net", RootCAs: s.roots}).HandshakeContext(ctx); err != nil {
			t.Errorf("at %s: %v", address, err)
		}
	}
	s.run(t, "rm", "/etc/systemd/system/smtpwall.socket.d/submissions.conf")
	s.run(t, "systemctl", "daemon-reload")
	s.configure(t, `source = "local"`)
	s.restart(t)
}

package systemd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
)

const (
	zone     = "example.net"
	hostName = "machine." + zone

	certificateFolder = "/var/lib/smtpwall/certs"
)

// issuing is a machine with a CA, and a name server that the CA and the machine
// ask, on the other host.
type issuing struct {
	*machine
	*outside
	ca    *pebble.CA
	roots *x509.CertPool // of the CA
	names *nameServer
}

// testCertificates goes through the ways to a certificate, as an administrator
// would who tries each: what the service's sandbox forbids, it forbids here.
func testCertificates(t *testing.T, m *machine, o *outside) {
	names := newNameServer(t, m)
	s := &issuing{machine: m, outside: o, names: names, ca: pebble.Start(t, pebble.Options{
		Network: m.net.Remote, Address: netip.MustParseAddr(remote4), Resolver: net.JoinHostPort(remote4, "53"),
	})}
	s.roots = s.ca.Roots(0)
	m.write(t, "/etc/smtpwall/acme-ca.pem", 0o644, s.ca.PEM())
	m.write(t, "/etc/resolv.conf", 0o644, []byte("nameserver "+remote4+"\n"))
	defer s.restore(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *issuing)
	}{
		{"Trust", testTrust},
		{"NoPort", testNoPort},
		{"HTTP", testHTTP},
		{"PortTaken", testPortTaken},
		{"TLSALPN", testTLSALPN},
		{"TLSALPNOnSubmissions", testTLSALPNOnSubmissions},
		{"Hook", testHook},
		{"HookHangs", testHookHangs},
		{"WebRoot", testWebRoot},
		{"HandedOver", testHandedOver},
		{"Files", testFiles},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.test(t, s) }) {
			return // each begins where the one before ended
		}
	}
}

// restore leaves the machine as it was, for the tests that follow.
func (s *issuing) restore(t *testing.T) {
	s.write(t, configFile, 0o640, []byte(enforce))
	s.write(t, "/etc/resolv.conf", 0o644, nil)
	s.run(t, "rm", "-rf", "/etc/letsencrypt", "/etc/smtpwall/tls", "/etc/smtpwall/acme-ca.pem", "/etc/smtpwall/acme-dns.header", "/usr/local/sbin/smtpwall-tls", hookPath)
	s.sh(t, "systemctl disable --now "+httpPort+" "+tlsPort+"; rm -rf /etc/systemd/system/smtpwall*.d; systemctl daemon-reload")
	s.restart(t)
}

// configure writes the configuration with these lines for [certificates], and
// others that follow.
func (s *issuing) configure(t *testing.T, lines ...string) {
	t.Helper()
	s.write(t, configFile, 0o640, []byte(enforce+"[certificates]\n"+strings.Join(lines, "\n")+"\n"))
}

// ask is the beginning of [certificates] to ask the CA.
func (s *issuing) ask() string {
	return fmt.Sprintf("source = \"acme\"\ndirectory = %q\nca = \"/etc/smtpwall/acme-ca.pem\"", s.ca.Directory())
}

// dropIn writes a drop-in of a unit, which counts from its next start.
func (s *issuing) dropIn(t *testing.T, unit, name string, lines ...string) {
	t.Helper()
	s.write(t, "/etc/systemd/system/"+unit+".d/"+name+".conf", 0o644, []byte(strings.Join(lines, "\n")+"\n"))
	s.run(t, "systemctl", "daemon-reload")
}

// restart restarts the sockets for mail and the service.
func (s *issuing) restart(t *testing.T) {
	t.Helper()
	s.quickly(t, "systemctl", "restart", "smtpwall.socket", proxy)
}

// quickly runs what must wait for no CA, no program and no time limit.
func (s *issuing) quickly(t *testing.T, args ...string) {
	t.Helper()
	begin := time.Now()
	s.run(t, args...)
	if took := time.Since(begin); took > 15*time.Second { // Close takes 5 s, and the machine may be busy
		t.Errorf("%s took %s", strings.Join(args, " "), took)
	}
}

// reload puts the configuration in force without a new process.
func (s *issuing) reload(t *testing.T) {
	t.Helper()
	before, mark := s.pids(t), s.mark(t)
	s.run(t, "systemctl", "reload", proxy)
	eventually(t, "the configuration is in force", func() bool {
		said := s.journal(t, mark, proxy)
		if strings.Contains(said, "reload refused") {
			t.Fatalf("the reload was refused:\n%s", said)
		}
		return strings.Contains(said, `"msg":"reloaded"`)
	})
	if after := s.pids(t); after != before {
		t.Errorf("the reload changed the processes from %s to %s", before, after)
	}
}

// refused reloads a configuration that the proxy refuses for a reason, and goes
// on.
func (s *issuing) refused(t *testing.T, reason string) {
	t.Helper()
	before, mark := s.pids(t), s.mark(t)
	s.try("systemctl", "reload", proxy) // what the file alone tells is its exit status
	eventually(t, "the reload is refused: "+reason, func() bool { return strings.Contains(s.journal(t, mark, proxy), reason) })
	if after := s.pids(t); after != before {
		t.Errorf("the reload changed the processes from %s to %s", before, after)
	}
	if said := s.journal(t, mark, proxy); strings.Contains(said, `"msg":"reloaded"`) {
		t.Errorf("the reload was not refused:\n%s", said)
	}
}

// localRoots is what the machine's programs trust after `smtpwall trust install`.
func (s *issuing) localRoots(t *testing.T) *x509.CertPool {
	t.Helper()
	return poolOf(t, s.run(t, "cat", certificateFolder+"/local-ca/root.pem"))
}

func poolOf(t *testing.T, text string) *x509.CertPool {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(text)) {
		t.Fatalf("no certificate in %q", text)
	}
	return roots
}

// shown is what the submissions listener answers for a name with, if roots have
// signed it.
func (s *issuing) shown(name string, roots *x509.CertPool) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := s.net.Host.Dial(ctx, netip.MustParseAddrPort("127.0.0.1:465"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: roots})
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return client.ConnectionState().PeerCertificates[0], nil
}

// certified waits until clients that ask for a name are shown the CA's
// certificate.
func (s *issuing) certified(t *testing.T, name string) (shown *x509.Certificate) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if shown, err = s.shown(name, s.roots); err == nil {
			return shown
		}
		if time.Now().After(deadline) {
			conditions, _ := s.conditions(t)
			t.Fatalf("no certificate of the CA for %s: %v; the conditions are %v", name, err, conditions)
		}
	}
}

// standsIn fails unless clients that ask for a name are shown the local CA's
// certificate.
func (s *issuing) standsIn(t *testing.T, name string) {
	t.Helper()
	if _, err := s.shown(name, s.localRoots(t)); err != nil {
		t.Errorf("the local CA does not stand in for %s: %v", name, err)
	}
}

// conditions are those of `smtpwall status`, with its exit status.
func (s *issuing) conditions(t *testing.T) (conditions map[string]string, status int) {
	t.Helper()
	out, err := s.try("smtpwall", "status", "--json")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	}
	var answer struct{ Proxy *admin.Status }
	if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.Proxy == nil {
		t.Fatalf("smtpwall status --json: %v in %s", err, out)
	}
	return answer.Proxy.Conditions, status
}

// complains waits for the condition of a certificate that has all of words, and
// returns it.
func (s *issuing) complains(t *testing.T, name string, words ...string) string {
	t.Helper()
	var last map[string]string
	status := 0
	missing := func(text string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last, status = s.conditions(t); status == 3 && !missing(last["certificate "+name]) {
			return last["certificate "+name]
		}
	}
	t.Errorf("status %d with the conditions %v; want one of %s with %q", status, slices.Sorted(maps.Values(last)), name, words)
	return ""
}

// well fails unless nothing is wrong any more.
func (s *issuing) well(t *testing.T) {
	t.Helper()
	if conditions, status := s.conditions(t); status != 0 || len(conditions) > 0 {
		t.Errorf("status %d with the conditions %v", status, conditions)
	}
}

// testTrust makes the machine's programs believe what the local CA signs.
func testTrust(t *testing.T, s *issuing) {
	clients := [][]string{
		{"curl", "--silent", "--show-error", "--max-time", "30", "smtps://localhost:465", "--request", "NOOP"},
		{"timeout", "30", "openssl", "s_client", "-brief", "-verify_return_error", "-verify_hostname", "localhost", "-connect", "localhost:465"},
	}
	for _, client := range clients {
		if out, err := s.try(client...); err == nil || !strings.Contains(out, "certificate") {
			t.Errorf("before, %s: %v\n%s", client, err, out)
		}
	}
	s.run(t, "smtpwall", "trust", "install")
	for _, client := range clients {
		s.run(t, append([]string{"runuser", "-u", "nobody", "--"}, client...)...)
	}
	s.run(t, "smtpwall", "trust", "status")
}

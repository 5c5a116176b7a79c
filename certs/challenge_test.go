package certs

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

var (
	httpChallenge = acme.Challenge{Type: "http-01", Token: "token", KeyAuthorization: "token.thumbprint", Identifier: acme.Identifier{Type: "dns", Value: acmeHost}}
	alpnChallenge = acme.Challenge{Type: "tls-alpn-01", Token: "token", KeyAuthorization: "token.thumbprint", Identifier: acme.Identifier{Type: "dns", Value: acmeHost}}
)

// answering opens a Manager with a listener for each challenge, and shows one of each.
func answering(t testing.TB) (m *Manager, http, tls net.Addr) {
	t.Helper()
	h, _ := listener(t)
	a, _ := listener(t)
	m = open(t, Options{HTTPListeners: []net.Listener{h}, TLSALPNListeners: []net.Listener{a}})
	for _, c := range []acme.Challenge{httpChallenge, alpnChallenge} {
		if err := m.challenges.Present(c); err != nil {
			t.Fatal(err)
		}
	}
	return m, h.Addr(), a.Addr()
}

func TestHTTPListener(t *testing.T) {
	t.Parallel()
	m, address, _ := answering(t)
	tests := []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/.well-known/acme-challenge/token", "token.thumbprint", 200},
		{"HEAD", "/.well-known/acme-challenge/token", "", 200},
		{"POST", "/.well-known/acme-challenge/token", "", 404},
		{"GET", "/.well-known/acme-challenge/other", "", 404},
		{"GET", "/.well-known/acme-challenge/", "", 404},
		{"GET", "/.well-known/acme-challenge/token/", "", 404},
		{"GET", "/token", "", 404},
		{"GET", "/", "", 404},
	}
	for _, test := range tests {
		request, err := http.NewRequest(test.method, "http://"+address.String()+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		if err != nil || reply.StatusCode != test.want || test.body != "" && string(body) != test.body || strings.Contains(string(body), "smtpwall") {
			t.Errorf("%s %s: %d %q: %v", test.method, test.path, reply.StatusCode, body, err)
		}
		reply.Body.Close()
	}
	if err := m.challenges.CleanUp(httpChallenge); err != nil {
		t.Fatal(err)
	}
	if reply, err := http.Get("http://" + address.String() + "/.well-known/acme-challenge/token"); err != nil || reply.StatusCode != 404 {
		t.Errorf("answered afterwards: %v: %v", reply, err)
	}
}

// TestHTTPListenerBounds: strangers who say nothing, or too much, are let go.
func TestHTTPListenerBounds(t *testing.T) {
	t.Parallel()
	_, address, tlsAddress := answering(t)
	began := time.Now()
	var silent []net.Conn
	for range 2 * maxChallengeConnections {
		for _, a := range []net.Addr{address, tlsAddress} {
			conn, err := net.Dial("tcp", a.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			silent = append(silent, conn)
		}
	}
	client := http.Client{Timeout: time.Minute}
	reply, err := client.Get("http://" + address.String() + "/.well-known/acme-challenge/token")
	if err != nil || reply.StatusCode != 200 {
		t.Fatalf("behind the silent: %v: %v", reply, err)
	}
	if _, err := tls.Dial("tcp", tlsAddress.String(), validating(acmeHost)); err != nil {
		t.Errorf("behind the silent: %v", err)
	}
	for _, conn := range silent[:10] {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("kept open: %v", err)
		}
	}
	t.Logf("%d silent connections for %s", len(silent), time.Since(began))

	long, err := http.NewRequest("GET", "http://"+address.String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	long.Header.Set("X", strings.Repeat("x", 4*maxChallengeHeader))
	if reply, err := client.Do(long); err == nil && reply.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a long header: %d", reply.StatusCode)
	}
}

// validating is a CA's hello (RFC 8737).
func validating(name string) *tls.Config {
	return &tls.Config{ServerName: name, NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true}
}

// TestTLSALPN: a CA gets the challenge's certificate, on the listener for it and on those for mail, and nobody else does.
func TestTLSALPN(t *testing.T) {
	t.Parallel()
	m, _, address := answering(t)
	if err := m.Reload(Options{Directory: directoryOf(m), ClientCertificates: true, MinVersion: tls.VersionTLS13}); err != nil {
		t.Fatal(err)
	}
	asked := false
	withCertificate := validating(acmeHost)
	withCertificate.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &tls.Certificate{}, nil
	}
	twelve := validating(strings.ToUpper(acmeHost))
	twelve.MaxVersion = tls.VersionTLS12
	for name, client := range map[string]*tls.Config{"1.3": withCertificate, "1.2, in capitals": twelve} {
		for _, ask := range []func() (tls.ConnectionState, error){
			func() (tls.ConnectionState, error) { return dial(m.TLSConfig(), client, direct) },
			func() (tls.ConnectionState, error) { return dialTCP(address, client) },
		} {
			state, err := ask()
			if err != nil || state.NegotiatedProtocol != "acme-tls/1" || len(state.PeerCertificates) != 1 {
				t.Errorf("%s: protocol %q, %d certificates: %v", name, state.NegotiatedProtocol, len(state.PeerCertificates), err)
				continue
			}
			marked := false
			for _, extension := range state.PeerCertificates[0].Extensions {
				marked = marked || extension.Critical && extension.Id.String() == "1.3.6.1.5.5.7.1.31"
			}
			if !marked {
				t.Errorf("%s: not the challenge's certificate", name)
			}
		}
	}
	if asked {
		t.Error("a CA was asked for a certificate")
	}
	for _, ask := range []func(*tls.Config) (tls.ConnectionState, error){
		func(c *tls.Config) (tls.ConnectionState, error) { return dial(m.TLSConfig(), c, direct) },
		func(c *tls.Config) (tls.ConnectionState, error) { return dialTCP(address, c) },
	} {
		if _, err := ask(validating("other.example.test")); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("a name without a challenge: %v", err)
		}
	}
	both := validating(acmeHost)
	both.NextProtos = []string{"acme-tls/1", "smtp"}
	if state, err := dial(m.TLSConfig(), both, direct); err != nil || state.NegotiatedProtocol != "" {
		t.Errorf("a client that offers more: %q: %v", state.NegotiatedProtocol, err)
	}
	for _, client := range []*tls.Config{both, {ServerName: acmeHost, InsecureSkipVerify: true}} {
		if _, err := dialTCP(address, client); err == nil {
			t.Errorf("the listener for challenges served %v", client.NextProtos)
		}
	}
}

func dialTCP(address net.Addr, client *tls.Config) (tls.ConnectionState, error) {
	conn, err := tls.Dial("tcp", address.String(), client)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

func directoryOf(m *Manager) string {
	return strings.TrimSuffix(m.current.Load().authority.directory, "/"+authorityDirectory)
}

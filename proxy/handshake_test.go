package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// TestHandshakeErrors is what an administrator reads about clients with whom no
// handshake comes about. The clients are real, since the words that crypto/tls
// has for them are no promise of it.
func TestHandshakeErrors(t *testing.T) {
	const trust = "smtpwall trust install"
	for _, c := range []struct {
		name string
		meet func(t *testing.T, address string)
		want []string
	}{
		{"only TLS 1.1 and 1.0", dialTLS(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}),
			[]string{"the client offers only TLS 1.1 and TLS 1.0, which `min_version` does not take", "(tls: client offered only unsupported versions: [302 301])"}},
		{"only suites for RSA keys", dialTLS(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}),
			[]string{"the client offers only cipher suites that are broken or not for our key"}},
		{"no common key exchange", opensslDial("-groups", "ffdhe2048"), []string{"the client offers no key exchange that we have"}},
		{"no common key exchange in TLS 1.2", opensslDial("-tls1_2", "-groups", "X448"), []string{"the client offers"}},
		{"no common signature", opensslDial("-sigalgs", "rsa_pss_rsae_sha256"), []string{"the client takes no signature that our key can make"}},
		{"Go does not trust us", dialTLS(&tls.Config{ServerName: "host.test"}), []string{`the client refuses our certificate for "host.test": it does not trust the CA`, trust, "remote error: tls: bad certificate"}},
		{"OpenSSL does not trust us", opensslDial("-verify_return_error", "-servername", "host.test"),
			[]string{`the client does not trust our certificate for "host.test"`, trust, "remote error: tls: unknown certificate authority"}},
		{"OpenSSL names no host", opensslDial("-verify_return_error", "-noservername"), []string{"does not trust our certificate, and named no host (SNI) to get another"}},
		{"GnuTLS does not trust us", msmtpDial, []string{"the client closed the connection without a word", trust}},
		{"clear text", sayRaw("EHLO client.test\r\n"), []string{"what the client sent is not TLS", "first record does not look like"}},
		{"nothing", sayRaw(""), []string{"the client closed the connection without a word", "EOF"}},
		{"half a hello", sayRaw("\x16\x03\x01\x02\x00\x01\x00"), []string{"the client closed the connection without a word"}},
		{"too slow", stayRaw, []string{"the client did not finish in time"}},
		{"another protocol", dialTLS(&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}), []string{"the client wants another protocol than SMTP (ALPN)"}},
		{"alert 45", sayRaw("\x15\x03\x01\x00\x02\x02\x2d"), []string{"for expired: compare its clock with ours", "remote error: tls: expired certificate"}},
		{"alert 44", sayRaw("\x15\x03\x01\x00\x02\x02\x2c"), []string{"for revoked", "revoked certificate"}},
		{"alert 43", sayRaw("\x15\x03\x01\x00\x02\x02\x2b"), []string{"cannot use our certificate", "unsupported certificate"}},
		{"alert 46", sayRaw("\x15\x03\x01\x00\x02\x02\x2e"), []string{"refuses our certificate", trust, "unknown certificate"}},
		{"alert 70", sayRaw("\x15\x03\x01\x00\x02\x02\x46"), []string{"none of our TLS versions", "protocol version not supported"}},
		{"alert 71", sayRaw("\x15\x03\x01\x00\x02\x02\x47"), []string{"takes nothing that we offered", "insufficient security level"}},
		{"alert 40", sayRaw("\x15\x03\x01\x00\x02\x02\x28"), []string{"takes nothing that we offered", "handshake failure"}},
		{"a hello without end", sayRaw("\x16\x03\x01\x40\x00\x01\x00\xff\xfc" + strings.Repeat("\x00", 0x3ffc) + strings.Repeat("\x16\x03\x01\x40\x00"+strings.Repeat("\x00", 0x4000), 4)),
			[]string{"the client's part of the handshake is longer than 64 KiB"}},
		{"an alert without more to say", sayRaw("\x15\x03\x01\x00\x02\x02\x6d"), []string{"TLS handshake failed: remote error: tls: missing extension"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newStand(t, map[string]string{"listener": "submissions"})
			next := *b.settings
			next.TLS = next.TLS.Clone()
			next.TLS.NextProtos = []string{acmeProtocol}
			if c.name == "too slow" {
				next.Limits.HandshakeTimeout = 50 * time.Millisecond
			}
			b.server.Apply(&next)
			c.meet(t, b.address)
			wait(t, "the session is over", func() bool { return b.server.Sessions() == 0 })
			events := b.finish(t)
			checkEvents(t, events, audit.KindSession, "", "TLS handshake failed: ")
			for _, want := range c.want {
				if !strings.Contains(events[0].Error, want) {
					t.Errorf("%q lacks %q", events[0].Error, want)
				}
			}
			if named := strings.Contains(events[0].Error, `"host.test"`); named != (events[0].TLSName == "host.test") {
				t.Errorf("%q asked for %q", events[0].Error, events[0].TLSName)
			}
		})
	}
}

func TestUnknownHandshakeErrors(t *testing.T) {
	for text, want := range map[string]string{
		"something new": "something new",
		"tls: client offered only unsupported versions: [a0a]": "the client offers only 0x0A0A, which",
		"tls: client offered only unsupported versions: []":    "the client offers only TLS versions that nobody knows, which",
	} {
		if got := explainHandshake(errors.New(text), ""); !strings.HasPrefix(got, want) || !strings.Contains(got, text) {
			t.Errorf("%s: %s", text, got)
		}
	}
}

// TestShutdownInHandshake: it is not the client's fault.
func TestShutdownInHandshake(t *testing.T) {
	b := newStand(t, map[string]string{"listener": "submissions"})
	looking, enough, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() { // ends when the test says so
		defer close(gone)
		conn, err := tls.Dial("tcp", b.address, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error {
			close(looking)
			<-enough
			return errors.New("enough")
		}})
		if err == nil {
			_ = conn.Close()
		}
	}()
	<-looking
	checkEvents(t, b.finish(t), audit.KindSession, "", "TLS handshake cut off: ")
	close(enough)
	<-gone
}

// A handshake that answers an ACME server ends there, and is no event.
func TestChallengeEndsSilently(t *testing.T) {
	for _, role := range []Role{Submission, Submissions} {
		b := newStand(t, map[string]string{"peer": "unknown", "listener": string(role)})
		next := *b.settings
		next.TLS = &tls.Config{Certificates: next.TLS.Certificates, NextProtos: []string{acmeProtocol}}
		b.server.Apply(&next)
		raw, err := net.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if role == Submission {
			p := newPlayer(t, raw)
			p.expectCode("220")
			p.command("EHLO acme.test")
			p.command("STARTTLS")
		}
		config := clientTLS()
		config.NextProtos = []string{acmeProtocol}
		conn := tls.Client(raw, config)
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if said, err := io.ReadAll(conn); len(said) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %q, %v", role, said, err)
		}
		checkEvents(t, b.finish(t), "", "", "")
	}
}

// Package certs learns from the connection whose names it signs.
func TestHandshakeConn(t *testing.T) {
	b := newStand(t, map[string]string{"peer": "redirected", "listener": "submissions"})
	var destination netip.AddrPort
	var key string
	next := *b.settings
	next.TLS = next.TLS.Clone()
	next.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if conn, ok := hello.Conn.(interface{ OriginalDestination() netip.AddrPort }); ok {
			destination = conn.OriginalDestination()
		}
		if conn, ok := hello.Conn.(interface{ PeerKey() string }); ok {
			key = conn.PeerKey()
		}
		return nil, nil
	}
	b.server.Apply(&next)
	p, _ := b.beginTLS(t, clientTLS())
	p.command("QUIT")
	if destination.String() != "198.51.100.7:587" || key != "uid:33" {
		t.Errorf("destination %v, key %q", destination, key)
	}
}

// TestWatchedConn holds the end of what came, however it came.
func TestWatchedConn(t *testing.T) {
	const said = "whatever\x14\x03\x03\x00\x01\x01\x15\x03\x03\x00\x02\x02\x30"
	local := &net.OpError{Op: "local error", Err: tls.AlertError(20)}
	for size := 1; size <= len(said); size++ {
		client, server := net.Pipe()
		go func() { // ends with what is said
			_, _ = io.WriteString(client, said)
			_ = client.Close()
		}()
		watched := &watchedConn{Conn: server, watching: true}
		if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{watched}, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if got := string(watched.last[:]); got != said[len(said)-alertRecord:] {
			t.Errorf("in pieces of %d: %x", size, got)
		}
		if err := watched.reason(local); !strings.HasPrefix(explainHandshake(err, ""), "the client does not trust our certificate") {
			t.Error(err)
		}
		if err := watched.reason(io.EOF); err != io.EOF {
			t.Errorf("%v in place of the end", err)
		}
	}
}

// dialTLS is a client that gets no session.
func dialTLS(config *tls.Config) func(*testing.T, string) {
	return func(t *testing.T, address string) {
		conn, err := tls.Dial("tcp", address, config)
		if err == nil {
			_ = conn.Close()
			t.Error("a handshake came about")
		}
	}
}

func opensslDial(arguments ...string) func(*testing.T, string) {
	return func(t *testing.T, address string) {
		command := exec.Command("openssl", append([]string{"s_client", "-connect", address}, arguments...)...)
		if output, err := command.CombinedOutput(); err == nil {
			t.Errorf("a handshake came about: %s", output)
		}
	}
}

// msmtpDial is msmtp of Debian, which has GnuTLS.
func msmtpDial(t *testing.T, address string) {
	host, port, _ := net.SplitHostPort(address)
	command := exec.Command("msmtp", "--file=/dev/null", "--host="+host, "--port="+port, "--tls=on", "--tls-starttls=off",
		"--from=a@example.com", "b@example.net")
	if output, err := command.CombinedOutput(); err == nil {
		t.Errorf("a handshake came about: %s", output)
	}
}

// sayRaw says something, closes its side and listens to the end.
func sayRaw(text string) func(*testing.T, string) {
	return func(t *testing.T, address string) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	}
}

// stayRaw says nothing and waits for the end.
func stayRaw(t *testing.T, address string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the session goes on")
	}
}

// TestLongServerName is what the log has of a name that no host can have.
func TestLongServerName(t *testing.T) {
	b := newStand(t, map[string]string{"listener": "submissions"})
	name := strings.Repeat("a", 10_000)
	// It does not trust us, so that there is something to tell.
	if conn, err := tls.Dial("tcp", b.address, &tls.Config{ServerName: name}); err == nil {
		_ = conn.Close()
		t.Fatal("it trusts us")
	}
	events := b.finish(t)
	if len(events) != 1 || len(events[0].TLSName) != maxServerName {
		t.Errorf("%d events: %.300v", len(events), events)
	}
}

package acme_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/smtp"
	"os"
	"strings"
	"testing"
	"time"
)

// The listeners.
var (
	submission  = netip.MustParseAddrPort("127.0.0.1:587")
	submissions = netip.MustParseAddrPort("127.0.0.1:465")
	alternate   = netip.MustParseAddrPort("127.0.0.1:2525")
)

// client is a program of the web site's user on the host.
type client struct {
	b    *bed
	at   netip.AddrPort
	tls  *tls.Config
	time time.Duration // for all that one connection does; 0 is patience
}

// dial connects and leaves the connection in TLS, by STARTTLS or at once.
func (c client) dial(ctx context.Context) (*smtp.Client, tls.ConnectionState, error) {
	none := tls.ConnectionState{}
	limit := c.time
	if limit == 0 {
		limit = patience
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := c.b.Host.DialAs(ctx, siteUID, c.at)
	if err != nil {
		return nil, none, err
	}
	_ = conn.SetDeadline(time.Now().Add(limit))
	s, err := c.begin(conn)
	if err != nil {
		_ = conn.Close()
		return nil, none, err
	}
	state, _ := s.TLSConnectionState()
	return s, state, nil
}

func (c client) begin(conn net.Conn) (*smtp.Client, error) {
	if c.at.Port() == submissions.Port() {
		conn = tls.Client(conn, c.tls)
	}
	s, err := smtp.NewClient(conn, c.tls.ServerName)
	if err != nil {
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if err := s.Hello("client.example.net"); err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	if c.at.Port() == submissions.Port() {
		return s, nil
	}
	if err := s.StartTLS(c.tls); err != nil {
		return nil, fmt.Errorf("STARTTLS: %w", err)
	}
	return s, nil
}

// trusting is how a client verifies a name against roots.
func trusting(roots *x509.CertPool, name string) *tls.Config {
	return &tls.Config{RootCAs: roots, ServerName: name}
}

// handshake shows what a listener answers with for a name, if that verifies.
func (b *bed) handshake(at netip.AddrPort, roots *x509.CertPool, name string) (*x509.Certificate, error) {
	s, state, err := client{b: b, at: at, tls: trusting(roots, name)}.dial(b.t.Context())
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return state.PeerCertificates[0], s.Quit()
}

// awaitCertificate waits until the submissions listener shows a certificate for a
// name that verifies against roots, which all listeners then do, and returns it.
func (b *bed) awaitCertificate(t testing.TB, roots *x509.CertPool, name string) *x509.Certificate {
	t.Helper()
	return b.awaitCertificateFor(t, patience, roots, name)
}

func (b *bed) awaitCertificateFor(t testing.TB, limit time.Duration, roots *x509.CertPool, name string) (shown *x509.Certificate) {
	t.Helper()
	awaitFor(t, limit, "a certificate of "+name, func() bool {
		var err error
		shown, err = b.handshake(submissions, roots, name)
		var unknown x509.UnknownAuthorityError
		var expired x509.CertificateInvalidError
		if err != nil && !errors.As(err, &unknown) && !errors.As(err, &expired) {
			t.Fatalf("meanwhile: %v", err)
		}
		return err == nil
	})
	b.checkShown(t, roots, name, shown)
	return shown
}

// checkShown: all listeners show the same certificate.
func (b *bed) checkShown(t testing.TB, roots *x509.CertPool, name string, want *x509.Certificate) {
	t.Helper()
	for _, at := range []netip.AddrPort{submission, submissions, alternate} {
		got, err := b.handshake(at, roots, name)
		if err != nil {
			t.Errorf("at %s: %v", at, err)
		} else if !got.Equal(want) {
			t.Errorf("at %s there is certificate %x, want %x", at, got.SerialNumber, want.SerialNumber)
		}
	}
}

// localRoots is the local CA of the host, which its programs trust.
func (b *bed) localRoots(t testing.TB) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(b.path("state", "certs", "local-ca", "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

const (
	sender    = "orders@example.net"
	recipient = "customer@example.org"
)

// post sends a message on a connection and returns the word by which it is known.
func post(s *smtp.Client) (marker string, err error) {
	marker = rand.Text()
	if err := errors.Join(s.Mail(sender), s.Rcpt(recipient)); err != nil {
		return "", err
	}
	w, err := s.Data()
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(w, "From: <"+sender+">\r\nTo: <"+recipient+">\r\nSubject: an order\r\n\r\n"+marker+"\r\n")
	return marker, errors.Join(err, w.Close())
}

// checkMail sends a message to each listener and finds it at the relay.
func (b *bed) checkMail(t testing.TB, roots *x509.CertPool) {
	t.Helper()
	for _, at := range []netip.AddrPort{submission, submissions} {
		s, _, err := client{b: b, at: at, tls: trusting(roots, hostName)}.dial(t.Context())
		if err != nil {
			t.Fatalf("at %s: %v", at, err)
		}
		marker, err := post(s)
		if err == nil {
			err = s.Quit()
		}
		if err != nil {
			t.Fatalf("at %s: %v", at, err)
		}
		b.checkArrived(t, marker)
	}
}

// checkArrived: the relay has one message with the word.
func (b *bed) checkArrived(t testing.TB, marker string) {
	t.Helper()
	found := 0
	for _, message := range b.relay.Messages() {
		found += strings.Count(string(message.Bytes), marker)
	}
	if found != 1 {
		t.Errorf("the relay has the message %d times, want once", found)
	}
}

package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"os"
	"strings"
	"time"
)

// submit sends a message the way that every application knows.
func (d *Demo) submit(ctx context.Context) error {
	conn, err := d.dial(ctx, netip.MustParseAddrPort("127.0.0.1:587"))
	if err != nil {
		return err
	}
	client, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	roots, err := d.roots("host")
	if err != nil {
		return err
	}
	if err := client.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: roots}); err != nil {
		return err
	}
	return d.send(client, "orders@shop.example")
}

// redirected sends a message to a server that the firewall does not let it reach.
func (d *Demo) redirected(ctx context.Context) error {
	conn, err := d.dial(ctx, netip.AddrPortFrom(foreignAddress, 465))
	if err != nil {
		return err
	}
	roots, err := d.roots("host")
	if err != nil {
		return err
	}
	secured := tls.Client(conn, &tls.Config{ServerName: foreignName, RootCAs: roots})
	if err := secured.HandshakeContext(ctx); err != nil {
		return err
	}
	leaf := secured.ConnectionState().PeerCertificates[0]
	d.say("   the certificate that it saw: %s, by %s", strings.Join(leaf.DNSNames, ", "), leaf.Issuer.CommonName)
	client, err := smtp.NewClient(secured, foreignName)
	if err != nil {
		return err
	}
	if err := client.Auth(smtp.PlainAuth("", "site", "stolen or not", foreignName)); err != nil {
		return err
	}
	return d.send(client, "newsletter@shop.example")
}

func (d *Demo) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	conn, err := d.lab.Host.DialAs(ctx, siteUID, to)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(startTime))
}

// send ends the session too.
func (d *Demo) send(client *smtp.Client, from string) error {
	defer func() { _ = client.Close() }()
	if err := errors.Join(client.Mail(from), client.Rcpt("customer@example.net")); err != nil {
		return err
	}
	data, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(data, "From: %s\r\nTo: customer@example.net\r\nSubject: hello\r\n\r\nhello\r\n", from); err != nil {
		return err
	}
	if err := data.Close(); err != nil {
		return err
	}
	d.say("   accepted from %s", from)
	return client.Quit()
}

// roots is the local CA of one of the two smtpwalls.
func (d *Demo) roots(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(d.path(name, "certs", "local-ca", "root.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("the local CA is no PEM")
	}
	return roots, nil
}

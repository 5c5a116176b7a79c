package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// explainHandshake says why a handshake failed in words that tell an
// administrator where to look, with the error behind them. name is what the
// client asked for, empty if it named no host.
func explainHandshake(err error, name string) string {
	words := wordsOfAlert(err, name)
	if words == "" {
		words = wordsOfConnection(err)
	}
	if words == "" {
		words = wordsOfHello(err.Error())
	}
	if words == "" {
		return err.Error()
	}
	return words + " (" + err.Error() + ")"
}

// Alerts that clients send about us (RFC 8446 section 6.2).
const (
	alertHandshakeFailure       tls.AlertError = 40
	alertBadCertificate         tls.AlertError = 42
	alertUnsupportedCertificate tls.AlertError = 43
	alertCertificateRevoked     tls.AlertError = 44
	alertCertificateExpired     tls.AlertError = 45
	alertCertificateUnknown     tls.AlertError = 46
	alertUnknownCA              tls.AlertError = 48
	alertProtocolVersion        tls.AlertError = 70
	alertInsufficientSecurity   tls.AlertError = 71
)

const installTrust = "`smtpwall trust install`"

// wordsOfAlert says what the client meant by the alert that it sent, if it did.
func wordsOfAlert(err error, name string) string {
	var sent *net.OpError
	if !errors.As(err, &sent) || sent.Op != remoteError {
		return ""
	}
	certificate := "our certificate for " + strconv.Quote(name)
	if name == "" {
		certificate = "our certificate, and named no host (SNI) to get another"
	}
	// The type of the alert is crypto/tls's own, but its words are those of its
	// AlertError.
	switch sent.Err.Error() {
	case alertUnknownCA.Error():
		return "the client does not trust " + certificate + ": " + installTrust + " adds the local CA to what this host trusts"
	case alertBadCertificate.Error(), alertCertificateUnknown.Error():
		return "the client refuses " + certificate + ": it does not trust the CA (" + installTrust + "), or knows us by another name"
	case alertCertificateExpired.Error():
		return "the client holds " + certificate + " for expired: compare its clock with ours, and see `smtpwall cert status`"
	case alertCertificateRevoked.Error():
		return "the client holds " + certificate + " for revoked: see `smtpwall cert status`"
	case alertUnsupportedCertificate.Error():
		return "the client cannot use " + certificate + ": it may not know the type of its key"
	case alertProtocolVersion.Error():
		return "the client takes none of our TLS versions: update its TLS library, or look at the versions that it is set to"
	case alertHandshakeFailure.Error(), alertInsufficientSecurity.Error():
		return "the client takes nothing that we offered: look at the TLS versions and cipher suites that it is set to"
	}
	return ""
}

// alertRecord is the length of an alert that is not encrypted (RFC 8446 sections
// 5.1 and 6): type 21, version, length 2, level and description.
const alertRecord = 7

// watchedConn keeps the end of what came in during a handshake. OpenSSL, when it
// refuses our certificate in TLS 1.3, sends its alert in clear; crypto/tls expects
// it encrypted, and calls it a record with a bad MAC. What the client meant would
// be lost. It also bounds what comes in: of a message with certificates, asked for
// or not, crypto/tls keeps 256 KiB while it waits for the rest.
type watchedConn struct {
	net.Conn
	watching bool // until the handshake is over; read and written by its goroutine alone
	count    int  // of octets
	last     [alertRecord]byte
}

// maxHandshake is room for any hello with a ticket, or with the certificates that
// package certs takes.
const maxHandshake = 64 << 10

var errLongHandshake = errors.New("the client's part of the handshake is longer than 64 KiB")

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.watching {
		return n, err
	}
	if c.count += n; c.count > maxHandshake {
		return 0, errLongHandshake
	}
	if n > 0 {
		keep := copy(c.last[:], c.last[min(n, alertRecord):])
		copy(c.last[keep:], p[max(0, n-alertRecord):n])
	}
	return n, err
}

// reason is why the handshake failed: the alert in clear, if there was one, else
// err.
func (c *watchedConn) reason(err error) error {
	var local *net.OpError
	isAlert := c.last[0] == 21 && c.last[1] == 3 && c.last[3] == 0 && c.last[4] == 2
	if !isAlert || !errors.As(err, &local) || local.Op != "local error" {
		return err
	}
	return &net.OpError{Op: remoteError, Err: tls.AlertError(c.last[6])}
}

// remoteError is how crypto/tls marks an alert that the other side sent.
const remoteError = "remote error"

// wordsOfConnection says what became of the connection itself.
func wordsOfConnection(err error) string {
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &header):
		return "what the client sent is not TLS: a listener of `submissions` wants it from the first octet, the others after STARTTLS"
	case errors.Is(err, context.Canceled):
		return "the session was cut off"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "the client did not finish in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the client closed the connection without a word: it only tried the port, or does not trust our certificate (" + installTrust + ")"
	}
	return ""
}

// wordsOfHello says what is wrong with what the client offered or showed.
// crypto/tls has no types for these errors; TestHandshakeErrors holds its words.
func wordsOfHello(text string) string {
	if _, offered, found := strings.Cut(text, "client offered only unsupported versions: "); found {
		return "the client offers only " + versionNames(offered) + ", which `min_version` does not take: update its TLS library, or its settings"
	}
	for _, known := range []struct{ part, words string }{
		{"no cipher suite supported by both", "the client offers only cipher suites that are broken or not for our key: update its TLS library, or its settings"},
		{"no key exchanges supported by both", "the client offers no key exchange that we have: update its TLS library, or its settings"},
		{"no supported elliptic curves", "the client offers no key exchange that we have: update its TLS library, or its settings"},
		{"signature algorithms", "the client takes no signature that our key can make: update its TLS library, or its settings"},
		{"requested unsupported application protocols", "the client wants another protocol than SMTP (ALPN): it may have the wrong port"},
		{"by the client certificate", "the client does not have the key of the certificate that it showed: look at the two files that it is set to"},
		{"client certificate", "the client showed a certificate that we cannot read: it needs an RSA, ECDSA or Ed25519 key of a common size"},
	} {
		if strings.Contains(text, known.part) {
			return known.words
		}
	}
	return ""
}

// versionNames turns "[302 301]" into "TLS 1.1 and TLS 1.0".
func versionNames(offered string) string {
	var names []string
	for _, number := range strings.Fields(strings.Trim(offered, "[]")) {
		if version, err := strconv.ParseUint(number, 16, 16); err == nil {
			names = append(names, tls.VersionName(uint16(version)))
		}
	}
	if len(names) == 0 {
		return "TLS versions that nobody knows"
	}
	return strings.Join(names, " and ")
}

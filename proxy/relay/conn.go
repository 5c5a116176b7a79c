package relay

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// readBuffer bounds a line of a reply and what a connection holds while idle.
const readBuffer = 4096

// conn is one connection to the relay, ready for a transaction.
type conn struct {
	net.Conn
	raw          net.Conn // below TLS
	reader       *smtp.Reader
	capabilities Capabilities
	uses         int    // times it was lent
	holder       string // to whom it is lent
	stopCut      func() bool
	kept         bool      // it was idle before it was lent
	idleSince    time.Time // when it was given back
	needsReset   bool      // RSET goes before the next MAIL
	raises       uint32    // of the pace, when it was lent
}

// Capabilities are what the relay offered in its last EHLO reply.
type Capabilities struct {
	Pipelining, Chunking bool
	smtp.Capabilities
	mechanisms []string
	startTLS   bool
}

// cover says that what the others allow may be sent under these too.
func (c Capabilities) cover(others Capabilities) bool {
	return (c.EightBitMIME || !others.EightBitMIME) && (c.UTF8 || !others.UTF8)
}

// lendTo ties the connection to a context: what waits for the relay must not
// outlive the session that it waits for.
func (c *conn) lendTo(ctx context.Context, holder string) {
	c.holder = holder
	c.uses++
	c.stopCut = context.AfterFunc(ctx, func() { _ = c.raw.Close() })
}

// takeBack unties it; false if it was cut off.
func (c *conn) takeBack() bool { return c.stopCut() }

// greet is everything between connect and the first MAIL.
func (p *Pool) greet(ctx context.Context, c *conn, mode TLSMode) *Error {
	if mode == Implicit {
		if err := p.handshake(ctx, c); err != nil {
			return p.fail(StepTLS, err)
		}
	}
	c.reader = smtp.NewReader(c.Conn, make([]byte, readBuffer))
	if err := expect(c.reader, 220); err != nil {
		return p.fail(StepGreeting, err)
	}
	if err := p.hello(c); err != nil {
		return p.fail(StepHello, err)
	}
	if mode == STARTTLS {
		if err := p.startTLS(ctx, c); err != nil {
			return p.fail(StepTLS, err)
		}
		// What was learnt in clear is forgotten (RFC 3207 section 4.2).
		if err := p.hello(c); err != nil {
			return p.fail(StepHello, err)
		}
	}
	if p.options.Username != "" {
		if err := p.login(c); err != nil {
			return p.fail(StepAuth, err)
		}
	}
	return nil
}

func (p *Pool) startTLS(ctx context.Context, c *conn) error {
	if !c.capabilities.startTLS {
		return errNoSTARTTLS // never on in clear
	}
	if err := c.command("STARTTLS\r\n", 220); err != nil {
		return err
	}
	if len(c.reader.Unread()) > 0 {
		return errEarly
	}
	if err := p.handshake(ctx, c); err != nil {
		return err
	}
	c.reader.Reset(c.Conn)
	return nil
}

func (p *Pool) handshake(ctx context.Context, c *conn) error {
	client := tls.Client(c.Conn, p.tlsConfig)
	if err := client.HandshakeContext(ctx); err != nil {
		return err
	}
	c.Conn = client
	return nil
}

// newTLSConfig verifies the relay's name and chain, and its pins on top.
func newTLSConfig(o Options) *tls.Config {
	return &tls.Config{
		ServerName:         o.Host,
		RootCAs:            o.Roots,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(16),
		// A relay gets whole messages: full records from the start.
		DynamicRecordSizingDisabled: true,
		// VerifyConnection runs on resumed sessions too.
		VerifyConnection: func(state tls.ConnectionState) error { return checkPins(state.VerifiedChains, o.Pins) },
	}
}

func checkPins(chains [][]*x509.Certificate, pins [][]byte) error {
	if len(pins) == 0 {
		return nil
	}
	for _, chain := range chains {
		for _, certificate := range chain {
			sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
			if slices.ContainsFunc(pins, func(pin []byte) bool { return string(pin) == string(sum[:]) }) {
				return nil
			}
		}
	}
	return errPin
}

// hello sends EHLO and keeps what the relay offers.
func (p *Pool) hello(c *conn) error {
	if _, err := io.WriteString(c, "EHLO "+p.options.LocalName+"\r\n"); err != nil {
		return err
	}
	reply, err := smtp.ReadReply(c.reader)
	if err != nil {
		return closedIfEOF(err)
	}
	if reply.Code != 250 {
		return &refusal{reply}
	}
	c.capabilities = parseCapabilities(reply.Lines[1:])
	return nil
}

func parseCapabilities(lines []string) Capabilities {
	var caps Capabilities
	for _, line := range lines {
		words := strings.Fields(strings.ToUpper(line))
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "PIPELINING":
			caps.Pipelining = true
		case "CHUNKING":
			caps.Chunking = true
		case "8BITMIME":
			caps.EightBitMIME = true
		case "SMTPUTF8":
			caps.UTF8 = true
		case "DSN":
			caps.DSN = true
		case "STARTTLS":
			caps.startTLS = true
		case "AUTH":
			caps.mechanisms = append(caps.mechanisms, words[1:]...)
		case "SIZE":
			caps.MaxSize = parseSize(words[1:])
		}
	}
	return caps
}

// parseSize reads SIZE's argument, which may be absent or 0 for "no fixed
// limit" (RFC 1870 section 4).
func parseSize(words []string) int64 {
	if len(words) == 0 {
		return 0
	}
	size, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil || size < 0 {
		return 0
	}
	return size
}

// command sends one line and wants one code.
func (c *conn) command(line string, code int) error {
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	return expect(c.reader, code)
}

func expect(r *smtp.Reader, code int) error {
	reply, err := smtp.ReadReply(r)
	if err != nil {
		return closedIfEOF(err)
	}
	if reply.Code != code {
		return &refusal{reply}
	}
	return nil
}

func closedIfEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errClosed
	}
	return err
}

// quit ends the connection in the way of the protocol, without waiting for the
// relay's farewell.
func (c *conn) quit() {
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, "QUIT\r\n")
	_ = c.Close()
}

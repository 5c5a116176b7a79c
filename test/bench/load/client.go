package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"time"
)

// Security is how a client protects its connection.
type Security uint8

// The three manners of a client.
const (
	Plain    Security = iota
	STARTTLS          // RFC 3207
	Implicit          // RFC 8314
)

func (s Security) String() string { return [...]string{"plain", "STARTTLS", "implicit TLS"}[s] }

// Target is where and how to submit.
type Target struct {
	Address    string
	Security   Security
	RootCAs    *x509.CertPool
	ServerName string
	// Username and Password for AUTH PLAIN; no Username, no AUTH.
	Username, Password string
}

// sessionTime bounds one session, so that a lost reply fails the run rather
// than hangs it.
const sessionTime = 2 * time.Minute

// client is one SMTP session.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	out  []byte // reused for each write

	ended time.Time // just before the last message's last octets were sent
}

// dial connects and goes through greeting, TLS and AUTH.
func dial(ctx context.Context, target Target) (*client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", target.Address)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(sessionTime))
	c := &client{conn: conn, r: bufio.NewReaderSize(conn, 4<<10)}
	if err := c.open(ctx, target); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) open(ctx context.Context, target Target) error {
	if target.Security == Implicit {
		if err := c.secure(ctx, target); err != nil {
			return err
		}
	}
	if err := c.expect('2'); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if err := c.command("EHLO bench.test", '2'); err != nil {
		return err
	}
	if target.Security == STARTTLS {
		if err := c.command("STARTTLS", '2'); err != nil {
			return err
		}
		if err := c.secure(ctx, target); err != nil {
			return err
		}
		if err := c.command("EHLO bench.test", '2'); err != nil {
			return err
		}
	}
	if target.Username == "" {
		return nil
	}
	response := base64.StdEncoding.EncodeToString([]byte("\x00" + target.Username + "\x00" + target.Password))
	return c.command("AUTH PLAIN "+response, '2')
}

// secure does a whole handshake of TLS 1.3: no session is resumed. Key exchange
// is X25519 with every peer alike, whatever more the newest libraries could
// agree on.
func (c *client) secure(ctx context.Context, target Target) error {
	conn := tls.Client(c.conn, &tls.Config{
		RootCAs: target.RootCAs, ServerName: target.ServerName,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}, MinVersion: tls.VersionTLS13,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.conn = conn
	c.r.Reset(conn)
	return nil
}

func (c *client) command(line string, class byte) error {
	c.out = append(append(c.out[:0], line...), "\r\n"...)
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	if err := c.expect(class); err != nil {
		verb, _, _ := strings.Cut(line, " ") // never the argument of AUTH
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// expect reads one reply and compares the first digit of its code.
func (c *client) expect(class byte) error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || line[0] != class {
			return fmt.Errorf("reply %q", line)
		}
		if line[3] != '-' {
			return nil
		}
	}
}

// deliver runs one transaction.
func (c *client) deliver(reversePath string, m *message, pipelining bool) error {
	if pipelining {
		c.out = fmt.Appendf(c.out[:0], "MAIL FROM:<%s>\r\nRCPT TO:<rcpt@relay.test>\r\nDATA\r\n", reversePath)
		if _, err := c.conn.Write(c.out); err != nil {
			return err
		}
		for _, class := range []byte("223") {
			if err := c.expect(class); err != nil {
				return err
			}
		}
	} else {
		if err := c.command("MAIL FROM:<"+reversePath+">", '2'); err != nil {
			return err
		}
		if err := c.command("RCPT TO:<rcpt@relay.test>", '2'); err != nil {
			return err
		}
		if err := c.command("DATA", '3'); err != nil {
			return err
		}
	}
	if err := c.content(m); err != nil {
		return fmt.Errorf("sending content: %w", err)
	}
	if err := c.expect('2'); err != nil {
		return fmt.Errorf("end of data: %w", err)
	}
	return nil
}

// content sends small messages in one write and large ones without a copy.
func (c *client) content(m *message) error {
	if len(m.body) <= 64<<10 {
		c.ended = time.Now()
		c.out = append(append(append(c.out[:0], m.head...), m.body...), ".\r\n"...)
		_, err := c.conn.Write(c.out)
		return err
	}
	for _, piece := range [][]byte{m.head, m.body, []byte(".\r\n")} {
		c.ended = time.Now()
		if _, err := c.conn.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) quit() {
	c.command("QUIT", '2') // the messages have their replies: what QUIT gets is all one
	c.conn.Close()
}

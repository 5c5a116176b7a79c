package testkit

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// client speaks raw SMTP to a relay and fails the test on the unexpected.
type client struct {
	t    *testing.T
	raw  net.Conn
	conn net.Conn
	r    *bufio.Reader
}

func start(t *testing.T, opts RelayOptions) *Relay {
	t.Helper()
	relay, err := StartRelay(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := relay.Close(); err != nil {
			t.Errorf("closing the relay: %v", err)
		}
	})
	return relay
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, raw: conn, conn: conn, r: bufio.NewReader(conn)}
}

func (c *client) secure(relay *Relay, name string) {
	c.t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(relay.CA()) {
		c.t.Fatal("no certificate in CA()")
	}
	conn := tls.Client(c.raw, &tls.Config{RootCAs: roots, ServerName: name})
	if err := conn.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatalf("sending %q: %v", text, err)
	}
}

// reply reads one reply; lines are joined by "|".
func (c *client) reply() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("reading a reply after %q: %v", lines, err)
		}
		line = strings.TrimRight(line, "\r\n")
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "|")
		}
	}
}

// expect sends a line and compares the beginning of the reply.
func (c *client) expect(line, want string) string {
	c.t.Helper()
	if line != "" {
		c.send(line + "\r\n")
	}
	got := c.reply()
	if !strings.HasPrefix(got, want) {
		c.t.Fatalf("%q was answered %q, want %q", line, got, want)
	}
	return got
}

func TestRelayRecordsEnvelope(t *testing.T) {
	relay := start(t, RelayOptions{})
	c := dial(t, relay.Addr())
	c.expect("", "220 relay.test")
	c.expect("MAIL FROM:<a@x.test>", "503")
	c.expect("EHLO me.test", "250-relay.test")
	c.expect("DATA", "503")
	c.expect("MAIL FROM:<\"a>b\"@x.test> SIZE=20 BODY=8BITMIME RET=HDRS", "250")
	c.expect("DATA", "554")
	c.expect("RCPT TO:<one@y.test> NOTIFY=NEVER", "250")
	c.expect("RCPT TO:<two@y.test>", "250")
	c.expect("DATA", "354")
	c.expect("\r\n.", "250 2.0.0 Ok: queued as R1")
	got := fmt.Sprintf("%q", relay.Messages()[0].Recipients)
	if want := `[{"one@y.test" ["NOTIFY=NEVER"]} {"two@y.test" []}]`; got != want {
		t.Errorf("recipients %s, want %s", got, want)
	}
	message := relay.Messages()[0]
	got = fmt.Sprintf("%d %s %q %q", message.Connection, message.Hello, message.ReversePath, message.MailParams)
	if want := `1 me.test "\"a>b\"@x.test" ["SIZE=20" "BODY=8BITMIME" "RET=HDRS"]`; got != want {
		t.Errorf("envelope %s, want %s", got, want)
	}
}

func TestRelayChunksAndDotsGiveOneDigest(t *testing.T) {
	relay := start(t, RelayOptions{KeepBytes: true})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	c.expect("EHLO me.test", "250")
	c.expect("MAIL FROM:<a@x.test>", "250")
	c.expect("RCPT TO:<b@y.test>", "250")
	c.expect("DATA", "354")
	c.expect("Subject: x\r\n\r\n..dot\r\n.", "250")
	c.expect("MAIL FROM:<>", "250")
	c.expect("RCPT TO:<b@y.test>", "250")
	c.send("BDAT 14\r\nSubject: x\r\n\r\n")
	c.expect("", "250")
	c.send("BDAT 6 LAST\r\n.dot\r\n")
	c.expect("", "250")
	c.expect("QUIT", "221")

	got := relay.Messages()
	if len(got) != 2 {
		t.Fatalf("%d messages recorded, want 2", len(got))
	}
	if string(got[0].Bytes) != "Subject: x\r\n\r\n.dot\r\n" || string(got[1].Bytes) != string(got[0].Bytes) {
		t.Errorf("contents %q and %q", got[0].Bytes, got[1].Bytes)
	}
	if got[0].Digest != got[1].Digest || got[0].Size != 20 || got[1].Size != 20 {
		t.Errorf("digests %x and %x, sizes %d and %d", got[0].Digest, got[1].Digest, got[0].Size, got[1].Size)
	}
	if got[0].ReversePath != "a@x.test" || got[1].ReversePath != "" || got[0].Hello != "me.test" {
		t.Errorf("envelope: %+v", got[0])
	}
}

func TestRelayTLSAndCounters(t *testing.T) {
	relay := start(t, RelayOptions{Name: "mx.test", RequireTLS: true, Username: "u", Password: "p", RequireAuth: true})
	plain := dial(t, relay.Addr())
	plain.expect("", "220")
	if got := plain.expect("EHLO me.test", "250"); strings.Contains(got, "AUTH") || !strings.Contains(got, "STARTTLS") {
		t.Errorf("EHLO in clear: %q", got)
	}
	plain.expect("MAIL FROM:<a@x.test>", "530")
	plain.expect("STARTTLS", "220")
	plain.secure(relay, "mx.test")
	plain.expect("MAIL FROM:<a@x.test>", "503")
	if got := plain.expect("EHLO me.test", "250"); !strings.Contains(got, "AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN") || strings.Contains(got, "STARTTLS") {
		t.Errorf("EHLO under TLS: %q", got)
	}
	plain.expect("MAIL FROM:<a@x.test>", "530")

	implicit := dial(t, relay.ImplicitAddr())
	implicit.secure(relay, "localhost")
	implicit.expect("", "220")
	want := RelayCounters{Connections: 2, Open: 2, Handshakes: 2, Flights: 8}
	if got := relay.Counters(); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
}

func TestRelayWithoutExtensions(t *testing.T) {
	relay := start(t, RelayOptions{
		Without:  []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "STARTTLS", "AUTH"},
		Username: "u", AuthWithoutTLS: true,
	})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	if got := c.expect("EHLO me.test", "250"); got != "250 relay.test" {
		t.Errorf("EHLO: %q", got)
	}
	c.expect("STARTTLS", "502")
	c.expect("AUTH PLAIN AHUA", "502")
	for _, param := range []string{"SIZE=1", "BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "AUTH=<>", "X=Y"} {
		c.expect("MAIL FROM:<a@x.test> "+param, "555")
	}
	if got := c.expect("MAIL FROM:<a@x.test>", "250"); got != "250 Ok" {
		t.Errorf("an enhanced status code that was not offered: %q", got)
	}
	c.expect("RCPT TO:<b@y.test> NOTIFY=NEVER", "555")
	c.send("RCPT TO:<b@y.test>\r\nDATA\r\n")
	c.expect("", "250")
	c.expect("", "503 pipelining was not offered")
}

func TestRelayAnswersAFlightInOneWrite(t *testing.T) {
	const delay = 30 * time.Millisecond
	relay := start(t, RelayOptions{Delay: delay})
	begin := time.Now()
	c := dial(t, relay.Addr())
	c.expect("", "220")
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("greeting after %v, want two round trips of %v", took, delay)
	}
	c.expect("EHLO me.test", "250")
	before := relay.Counters().Flights
	begin = time.Now()
	c.send("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n")
	c.expect("", "250")
	c.expect("", "250")
	c.expect("", "354")
	if took := time.Since(begin); took < delay {
		t.Errorf("three replies after %v, want no less than %v", took, delay)
	}
	if flights := relay.Counters().Flights - before; flights != 1 {
		t.Errorf("%d flights of replies, want 1", flights)
	}
}

func TestRelayDigestFromSkipsTraceFields(t *testing.T) {
	relay := start(t, RelayOptions{DigestFrom: "Message-ID:"})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	c.expect("EHLO me.test", "250")
	for _, trace := range []string{"", "Received: from a\r\n\tby b\r\n", "X: Message-ID:\r\n"} {
		c.expect("MAIL FROM:<a@x.test>", "250")
		c.expect("RCPT TO:<b@y.test>", "250")
		c.expect("DATA", "354")
		c.expect(trace+"Message-ID: <1@x>\r\n\r\nbody\r\n.", "250")
	}
	got := relay.TakeMessages()
	if got[0].Digest != got[1].Digest || got[0].Digest != got[2].Digest {
		t.Errorf("digests differ: %x %x %x", got[0].Digest, got[1].Digest, got[2].Digest)
	}
	if left := relay.Messages(); len(left) != 0 {
		t.Errorf("%d messages left after TakeMessages", len(left))
	}
}

func TestRelayWaitMessages(t *testing.T) {
	relay := start(t, RelayOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := relay.WaitMessages(ctx, 1); err == nil {
		t.Error("no error from a cancelled wait")
	}
	arrived := make(chan error, 1)
	go func() {
		messages, err := relay.WaitMessages(t.Context(), 1)
		if err == nil && len(messages) != 1 {
			err = fmt.Errorf("%d messages", len(messages))
		}
		arrived <- err
	}()
	relay.record(RelayMessage{})
	if err := <-arrived; err != nil {
		t.Error(err)
	}
}

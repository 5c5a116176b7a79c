package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/peer"
)

// toRcpt leads to an open transaction, toData to an open message.
const (
	toMail = "EHLO client.test\r\nMAIL FROM:<a@example.com>\r\n"
	toRcpt = toMail + "RCPT TO:<b@example.net>\r\n"
	toData = toRcpt + "DATA\r\n"
	whole  = toData + "From: a@example.com\r\n\r\nbody\r\n.\r\n"
)

// finish waits for all sessions to end and gives the events.
func (b *stand) finish(t *testing.T) []audit.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := b.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	return b.events.all()
}

// However a session ends, each transaction has one event, and a session without
// any has one if something was wrong with it.
func TestOneEventOnEveryExit(t *testing.T) {
	for _, test := range []struct {
		name    string
		options map[string]string
		fault   testkit.Fault
		at      testkit.RelayStep
		send    string
		kind    audit.Kind
		custody string
		error   string // a part of the event's
	}{
		{name: "nothing said"},
		{name: "quit", send: "EHLO client.test\r\nQUIT\r\n"},
		{name: "left after EHLO", send: "EHLO client.test\r\n"},
		{name: "left after MAIL", send: toMail, kind: audit.KindTransaction, custody: "client", error: "closed the connection"},
		{name: "left after RCPT", send: toRcpt, kind: audit.KindTransaction, custody: "client", error: "closed the connection"},
		{name: "left after DATA", send: toData, kind: audit.KindTransaction, custody: "client", error: "closed the connection"},
		{name: "left in the header", send: toData + "From: a@exa", kind: audit.KindTransaction, custody: "client", error: "closed the connection"},
		{name: "left in the body", send: toData + "From: a@example.com\r\n\r\nbo", kind: audit.KindTransaction, custody: "client", error: "closed the connection"},
		{name: "left before the last dot's CRLF", send: strings.TrimSuffix(whole, "\r\n"), kind: audit.KindTransaction, custody: "client", error: "closed the connection"},
		{name: "left in a chunk", send: toRcpt + "BDAT 100\r\nFrom: a", kind: audit.KindTransaction, custody: "client", error: "closed the connection"},
		{name: "left between chunks", send: toRcpt + "BDAT 4\r\na: b", kind: audit.KindTransaction, custody: "client", error: "closed the connection"},
		{name: "left in a command", send: toRcpt + "DAT", kind: audit.KindTransaction, custody: "client", error: "connection lost"},
		{name: "delivered", send: whole, kind: audit.KindTransaction, custody: "relay"},
		{name: "delivered, quit", send: whole + "QUIT\r\n", kind: audit.KindTransaction, custody: "relay"},
		{name: "RSET", send: toRcpt + "RSET\r\nQUIT\r\n", kind: audit.KindTransaction, custody: "client", error: "RSET"},
		{name: "EHLO again", send: toRcpt + "EHLO client.test\r\nQUIT\r\n", kind: audit.KindTransaction, custody: "client", error: "EHLO"},
		{name: "QUIT in a transaction", send: toRcpt + "QUIT\r\n", kind: audit.KindTransaction, custody: "client", error: "QUIT"},
		{name: "sender refused", options: map[string]string{"policy": "deny"}, send: toMail + "QUIT\r\n", kind: audit.KindTransaction, custody: "client"},
		{name: "recipient refused", options: map[string]string{"policy": "sites"}, send: toMail + "RCPT TO:<x@other.test>\r\nQUIT\r\n", kind: audit.KindTransaction, custody: "client", error: "QUIT"},
		{name: "bare LF", send: toRcpt + "DATA\nx", kind: audit.KindTransaction, custody: "client", error: "bare LF"},
		{name: "bare LF in data", send: toData + "a\nb\r\n", kind: audit.KindTransaction, custody: "client", error: "bare LF"},
		{name: "bare CR before a transaction", send: "EHLO a\rb\r\n", kind: audit.KindSession, error: "bare CR"},
		{name: "not SMTP", send: "GET / HTTP/1.1\r\n", kind: audit.KindSession, error: "not SMTP"},
		{name: "unusable BDAT", send: toRcpt + "BDAT 9999999999999\r\n", kind: audit.KindTransaction, custody: "client", error: "unusable BDAT"},
		{name: "too many errors", options: map[string]string{"max_errors": "2"}, send: "A\r\nB\r\nC\r\n", kind: audit.KindSession, error: "too many errors"},
		{name: "too many errors in a transaction", options: map[string]string{"max_errors": "2"}, send: toRcpt + "A\r\nB\r\nDATA\r\n", kind: audit.KindTransaction, custody: "client", error: "too many errors"},
		{name: "timeout", options: map[string]string{"idle_ms": "30"}, kind: audit.KindSession, error: "timeout"},
		{name: "timeout in a transaction", options: map[string]string{"idle_ms": "300"}, send: toRcpt, kind: audit.KindTransaction, custody: "client", error: "timeout"},
		{name: "timeout in data", options: map[string]string{"data_ms": "100"}, send: toData + "a: b\r\n", kind: audit.KindTransaction, custody: "client", error: "did not come in time"},
		{name: "data behind STARTTLS", send: "EHLO client.test\r\nSTARTTLS\r\nEHLO\r\n", kind: audit.KindSession, error: "data after STARTTLS"},
		{name: "relay refuses the recipient", at: testkit.StepRcpt, fault: testkit.Fault{Text: "550 5.1.1 no"}, send: toRcpt + "QUIT\r\n", kind: audit.KindTransaction, custody: "client", error: "QUIT"},
		{name: "relay refuses the message", at: testkit.StepEnd, fault: testkit.Fault{Text: "554 5.7.1 no"}, send: whole, kind: audit.KindTransaction, custody: "client"},
		{name: "relay lost in the envelope", at: testkit.StepRcpt, fault: testkit.Fault{Act: testkit.Hangup}, send: whole, kind: audit.KindTransaction, custody: "spool", error: "relay closed"},
		{name: "relay lost after the data", at: testkit.StepEnd, fault: testkit.Fault{Act: testkit.Hangup}, send: whole, kind: audit.KindTransaction, custody: "spool", error: "relay closed"},
		{name: "relay down", options: map[string]string{"relay": "down"}, send: whole, kind: audit.KindTransaction, custody: "spool", error: "connect"},
		{name: "relay down, quit", options: map[string]string{"relay": "down"}, send: toRcpt + "QUIT\r\n", kind: audit.KindTransaction, custody: "client", error: "QUIT"},
		{name: "queued", options: map[string]string{"mode": "queue"}, send: whole, kind: audit.KindTransaction, custody: "spool"},
		{name: "held", options: map[string]string{"relay": "none"}, send: whole, kind: audit.KindTransaction, custody: "spool"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newStand(t, test.options)
			if test.at != "" {
				b.relay.On(test.at, test.fault)
			}
			conn := b.dial(t).(*net.TCPConn)
			p := newPlayer(t, conn)
			p.expectCode("220")
			if _, err := conn.Write([]byte(test.send)); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(test.name, "timeout") {
				_ = conn.CloseWrite()
			}
			for { // to the end of what the session says
				if _, err := p.reader.ReadString('\n'); err != nil {
					break
				}
			}
			checkEvents(t, b.finish(t), test.kind, test.custody, test.error)
		})
	}
}

func checkEvents(t *testing.T, events []audit.Event, kind audit.Kind, custody, text string) {
	t.Helper()
	if kind == "" {
		if len(events) != 0 {
			t.Fatalf("events of nothing: %+v", events)
		}
		return
	}
	if len(events) != 1 {
		t.Fatalf("%d events: %+v", len(events), events)
	}
	event := events[0]
	if event.Kind != kind || event.Custody != custody || !strings.Contains(event.Error, text) || text == "" && event.Error != "" {
		t.Fatalf("event %q with custody %q and error %q; want %q, %q, %q", event.Kind, event.Custody, event.Error, kind, custody, text)
	}
	if kind == audit.KindTransaction && (event.Txn == "" || event.Decision == "" || event.ReversePath == "") {
		t.Fatalf("event %+v", event)
	}
}

// Who guesses at a password is told of, whatever he does besides.
func TestGuessingIsNotHidden(t *testing.T) {
	b := newStand(t, map[string]string{"peer": "unknown", "accounts": "yes", "auth": "clear"})
	p := b.begin(t)
	if reply := p.command("AUTH PLAIN AHdlYnNob3AAd3Jvbmc="); reply[:3] != "535" {
		t.Fatal(reply)
	}
	if reply := p.command("MAIL FROM:<a@example.com>"); reply[:3] != "530" {
		t.Fatal(reply)
	}
	p.command("QUIT")
	events := b.finish(t)
	if len(events) != 2 || events[0].Kind != audit.KindTransaction || events[1].Kind != audit.KindSession || events[1].Error != "authentication failed" {
		t.Fatalf("%+v", events)
	}
}

// panicking is an identifier that has a bug.
type panicking struct{ somebody }

func (panicking) TCP(*net.TCPConn) peer.Peer { panic("a bug") }

func TestPanicEndsOneSession(t *testing.T) {
	b := newStand(t, nil)
	b.peer.be(panicking{})
	p := newPlayer(t, b.dial(t))
	p.expectCode("421")
	p.play("EOF")
	b.peer.be(somebody{testPeer("")})
	p = newPlayer(t, b.dial(t))
	p.expectCode("220")
	events := b.finish(t)
	if len(events) != 1 || events[0].Error != "internal error" {
		t.Fatalf("%+v", events)
	}
	if b.server.Sessions() != 0 || len(b.server.peers) != 0 {
		t.Fatal("a session that panicked is still counted")
	}
}

// brokenDelivery panics at one of its methods.
type brokenDelivery struct {
	delivery
	abortToo bool
}

func (d brokenDelivery) write([]byte, bool) { panic("a bug") }

func (d brokenDelivery) abort() {
	d.delivery.abort()
	if d.abortToo {
		panic("another bug")
	}
}

func TestPanicInATransaction(t *testing.T) {
	for _, abortToo := range []bool{false, true} {
		b := newStand(t, nil)
		conn := b.dial(t)
		session := b.session(t)
		p := newPlayer(t, conn)
		p.expectCode("220")
		p.play("C: EHLO client.test")
		p.flush()
		p.answer()
		p.command("MAIL FROM:<a@example.com>")
		p.command("RCPT TO:<b@example.net>")
		session.transaction.delivery = brokenDelivery{session.transaction.delivery, abortToo}
		p.command("DATA")
		p.command("a: b\r\n\r\n.")
		events := b.finish(t)
		checkEvents(t, events, audit.KindTransaction, "client", "internal error")
		if b.server.Sessions() != 0 || len(b.server.peers) != 0 {
			t.Fatal("a session that panicked is still counted")
		}
	}
}

// session is the one that is open.
func (b *stand) session(t *testing.T) *session {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b.server.mu.Lock()
		for s := range b.server.sessions {
			b.server.mu.Unlock()
			return s
		}
		b.server.mu.Unlock()
	}
	t.Fatal("no session")
	return nil
}

// A failed handshake closes, and says nothing that could be read in clear.
func TestFailedHandshake(t *testing.T) {
	for _, role := range []Role{Submission, Submissions} {
		for name, hello := range map[string]string{
			"clear text":   "EHLO client.test\r\n",
			"half a hello": "\x16\x03\x01\x02\x00\x01\x00",
			"nothing":      "",
		} {
			b := newStand(t, map[string]string{"listener": string(role)})
			raw, err := net.Dial("tcp", b.address)
			if err != nil {
				t.Fatal(err)
			}
			p := newPlayer(t, raw)
			if role == Submission {
				p.expectCode("220")
				p.command("EHLO client.test")
				if reply := p.command("STARTTLS"); reply[:3] != "220" {
					t.Fatal(reply)
				}
			}
			_, _ = raw.Write([]byte(hello))
			_ = raw.(*net.TCPConn).CloseWrite()
			said := make([]byte, 4096)
			n, _ := p.reader.Read(said)
			if n > 0 && said[0] != 21 { // a TLS alert
				t.Errorf("%s, %s: %q was said in clear", role, name, said[:n])
			}
			_ = raw.Close()
			checkEvents(t, b.finish(t), audit.KindSession, "", "TLS handshake failed")
		}
	}
}

// Where TLS is due from the first octet, nothing else is ever said.
func TestTurnedAwayWhereTLSIsDue(t *testing.T) {
	for _, limit := range []string{"max_sessions", "max_per_peer"} {
		b := newStand(t, map[string]string{"listener": "submissions", limit: "1"})
		first := b.dial(t).(*tls.Conn)
		if err := first.Handshake(); err != nil {
			t.Fatal(err)
		}
		raw, err := net.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		said := make([]byte, 100)
		if n, err := raw.Read(said); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %q, %v", limit, said[:n], err)
		}
	}
}

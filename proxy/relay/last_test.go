package relay

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// DATA that goes with the recipients saves a flight, and never makes a message
// of nothing.
func TestDataWithTheRecipients(t *testing.T) {
	const message = "a: b\r\n\r\n.dot\r\n"
	for _, test := range []struct {
		name     string
		fault    testkit.RelayStep
		text     string // the relay's reply there
		contains string
		final    int  // the reply to the message; 0: no recipient was accepted
		kept     bool // the connection serves the next message
	}{
		{name: "accepted", final: 250, kept: true},
		{name: "one of two", fault: testkit.StepRcpt, text: "550 5.1.1 no", contains: "b@", final: 250, kept: true},
		{name: "none, and the relay says so", fault: testkit.StepRcpt, text: "550 5.1.1 no", kept: true},
		{name: "data refused", fault: testkit.StepData, text: "451 4.3.0 later", final: 451, kept: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := startRelay(t, testkit.RelayOptions{Without: []string{"CHUNKING"}})
			if test.fault != "" {
				r.On(test.fault, testkit.Fault{Text: test.text, Contains: test.contains, Times: 2})
			}
			pool := newPool(t, r, nil)
			before := r.Counters().Flights
			tx, err := pool.Begin(t.Context(), "uid:33", "from@example.com", smtp.MailParams{})
			if err != nil {
				t.Fatal(err)
			}
			connected := r.Counters().Flights
			replies, err := tx.LastRecipients(t.Context(), []smtp.Recipient{{Address: "a@x.test"}, {Address: "b@x.test"}})
			if err != nil || len(replies) != 2 {
				t.Fatalf("%v, %v", replies, err)
			}
			if n := r.Counters().Flights - connected; n != 1 || connected == before {
				t.Errorf("the envelope took %d flights, want 1", n)
			}
			if test.final == 0 {
				tx.Abort()
			} else {
				tx.StartData()
				tx.Write([]byte(message))
				if reply, err := tx.Finish(); err != nil || reply.Code != test.final {
					t.Fatalf("%v, %v", reply, err)
				}
			}
			r.ClearFaults()
			if reply, _, err := send(t.Context(), pool, message, "next@x.test"); err != nil || reply.Code != 250 {
				t.Fatalf("the next message: %v, %v", reply, err)
			}
			checkMessages(t, r, message, test.final == 250)
			if kept := r.Counters().Connections == 1; kept != test.kept {
				t.Errorf("%d connections", r.Counters().Connections)
			}
		})
	}
}

// checkMessages wants the next message, and the first where the relay took it.
func checkMessages(t *testing.T, r *testkit.Relay, message string, first bool) {
	t.Helper()
	recorded := r.Messages()
	want := 1
	if first {
		want = 2
	}
	if len(recorded) != want {
		t.Fatalf("the relay has %d messages, want %d", len(recorded), want)
	}
	for _, m := range recorded {
		if string(m.Bytes) != message {
			t.Errorf("recorded %q", m.Bytes)
		}
	}
}

// A relay that wants the data although it took no recipient gets none: the
// connection is closed, and no recipient is sent as a line of a message.
func TestDataThatNobodyWants(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	afterData := make(chan string, 1)
	go func() { afterData <- eagerRelay(listener) }()
	pool := New(Options{
		Name: "eager", Host: "relay.test", LocalName: "host.test", Connections: 2,
		Endpoints: at(listener.Addr().String(), None),
	})
	defer pool.Retire()
	tx, err := pool.Begin(t.Context(), "uid:33", "from@example.com", smtp.MailParams{})
	if err != nil {
		t.Fatal(err)
	}
	if replies, err := tx.LastRecipients(t.Context(), []smtp.Recipient{{Address: "a@x.test"}}); err != nil || replies[0].Code != 550 {
		t.Fatalf("%v, %v", replies, err)
	}
	if replies, err := tx.Recipients(t.Context(), []smtp.Recipient{{Address: "b@x.test"}}); err == nil {
		t.Fatalf("a recipient in the data: %v", replies)
	}
	tx.Abort()
	if got := <-afterData; got != "" {
		t.Fatalf("the relay got %q behind its 354", got)
	}
}

// A relay that refuses in the middle of the data and closes has refused: that is
// the message's reply, and the connection is not used again.
func TestRefusalInTheMiddle(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	done := make(chan error, 1)
	go func() { done <- impatientRelay(listener) }()
	pool := New(Options{
		Name: "impatient", Host: "relay.test", LocalName: "host.test", Connections: 2,
		Endpoints: at(listener.Addr().String(), None),
	})
	defer pool.Retire()
	reply, _, err := send(t.Context(), pool, strings.Repeat("x: y\r\n", 10_000_000), "a@x.test")
	if err != nil || reply.String() != "552 5.3.4 too big" {
		t.Fatalf("%v, %v", reply, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if status := pool.Status(time.Now()); status.Open != 0 || status.Breaker != BreakerClosed {
		t.Fatalf("%+v", status)
	}
}

// impatientRelay takes one connection and refuses the data before its end.
func impatientRelay(listener net.Listener) error {
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // with data unread, so that it is a reset
	_, _ = io.WriteString(conn, "220 relay.test\r\n")
	lines := bufio.NewReader(conn)
	for reply := "250 ok\r\n"; reply[0] != '3'; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "DATA\r\n" {
			reply = "354 go on\r\n"
		}
		_, _ = io.WriteString(conn, reply)
	}
	if _, err := io.CopyN(io.Discard, lines, 100_000); err != nil {
		return err
	}
	_, err = io.WriteString(conn, "552 5.3.4 too big\r\n")
	return err
}

// eagerRelay takes one connection, refuses recipients and wants data all the
// same. It gives what it was sent then.
func eagerRelay(listener net.Listener) string {
	conn, err := listener.Accept()
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, "220 relay.test\r\n")
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		reply := "250 ok\r\n"
		switch line[:4] {
		case "EHLO":
			reply = "250-relay.test\r\n250 PIPELINING\r\n"
		case "RCPT":
			reply = "550 5.1.1 no\r\n"
		case "DATA":
			_, _ = io.WriteString(conn, "354 go on\r\n")
			rest, _ := io.ReadAll(lines)
			return string(rest)
		}
		_, _ = io.WriteString(conn, reply)
	}
}

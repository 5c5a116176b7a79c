package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// slowLimits are those of the sessions that these tests bore.
var slowLimits = Limits{
	MaxMessage: 1 << 20, MaxRecipients: 10, MaxSessions: 10, MaxSessionsPerPeer: 10, MaxErrors: 20,
	IdleTimeout: 5 * time.Minute, DataTimeout: 10 * time.Minute, HandshakeTimeout: 30 * time.Second,
}

// newSlowServer makes a server without a relay, for sessions on pipes, within a
// synctest bubble.
func newSlowServer(t *testing.T) (*Server, *eventLog) {
	t.Helper()
	kept, err := spool.Open(t.TempDir(), spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	anybody, err := policy.New(policy.Deny, []policy.Rule{{Name: "any", Match: policy.Match{Listener: []string{"submission"}}, Decision: policy.Allow}})
	if err != nil {
		t.Fatal(err)
	}
	events := &eventLog{}
	return New(Options{
		Identifier: somebody{}, Events: events, Throttle: auth.NewThrottle(), Logger: zap.NewNop(),
		Runner:   NewRunner(RunnerOptions{Spool: kept, Events: events, Logger: zap.NewNop()}),
		Settings: &Settings{HostName: "host.test", Policy: anybody, Spool: kept, Limits: slowLimits},
	}), events
}

// connect begins a session on a pipe and reads its banner.
func connect(t *testing.T, server *Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	client, served := net.Pipe()
	server.start(served, Submission)
	reader := bufio.NewReader(client)
	if line, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 ") {
		t.Fatalf("%q, %v", line, err)
	}
	return client, reader
}

// However a client drags its feet, a session ends when its time is over, with a
// reply that says so if the client cares to read it.
func TestSlowClients(t *testing.T) {
	const opened = "HELO client.test\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
	for _, test := range []struct {
		name   string
		first  string        // sent at once
		drip   string        // sent again and again
		pause  time.Duration // before each
		within time.Duration // the session must have ended
		last   string        // how its last reply begins
	}{
		{"a command by the octet", "", "x", 10 * time.Second, slowLimits.IdleTimeout, "421 4.4.2"},
		{"a line without end", "", strings.Repeat("x", 4096), 100 * time.Millisecond, 1700 * time.Millisecond, "500 5.5.2"},
		{"data by the octet", opened + "DATA\r\n", "x", 10 * time.Second, slowLimits.DataTimeout, "421 4.4.2"},
		{"header without end", opened + "DATA\r\n", "a: b\r\n", time.Second, slowLimits.DataTimeout, "421 4.4.2"},
		{"NOOP in a transaction", opened, "NOOP\r\n", 4 * time.Minute, slowLimits.DataTimeout, "421 4.4.2"},
		{"recipients", opened, "RCPT TO:<c@example.net>\r\n", 4 * time.Minute, slowLimits.DataTimeout, "421 4.4.2"},
		{"chunks by the octet", opened, "BDAT 1\r\nx", 4 * time.Minute, 4*time.Minute + slowLimits.DataTimeout, "421 4.4.2"},
		{"empty chunks", opened, "BDAT 0\r\n", 4 * time.Minute, 4*time.Minute + slowLimits.DataTimeout, "421 4.4.2"},
		{"a chunk by the octet", opened + "BDAT 1000\r\n", "x", 10 * time.Second, slowLimits.DataTimeout, "421 4.4.2"},
		{"unwanted chunk by the octet", "BDAT 1000\r\n", "x", 10 * time.Second, slowLimits.DataTimeout, "421 4.4.2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, events := newSlowServer(t)
				client, reader := connect(t, server)
				began := time.Now()
				var dripping sync.WaitGroup
				defer dripping.Wait()
				dripping.Go(func() {
					_, err := io.WriteString(client, test.first)
					for err == nil {
						time.Sleep(test.pause)
						_, err = io.WriteString(client, test.drip)
					}
				})
				last := ""
				for {
					line, err := reader.ReadString('\n')
					if err != nil {
						break
					}
					last = line
				}
				took := time.Since(began)
				if took > test.within+time.Minute/4 || took < test.within/2 || !strings.HasPrefix(last, test.last) {
					t.Errorf("ended after %v with %q, want %v with %q", took, last, test.within, test.last)
				}
				_ = client.Close()
				synctest.Wait()
				if n := len(events.all()); n != 1 || server.Sessions() != 0 {
					t.Errorf("%d events, %d sessions", n, server.Sessions())
				}
			})
		})
	}
}

// A client that pipelines and never reads is given up when the write has not
// ended in time, and costs bounded memory until then.
func TestClientThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, _ := newSlowServer(t)
		client, _ := connect(t, server)
		var session *session
		for s := range server.sessions {
			session = s
		}
		began := time.Now()
		var err error
		for err == nil {
			_, err = io.WriteString(client, strings.Repeat("HELP\r\n", 1000))
		}
		synctest.Wait()
		if took := time.Since(began); took > slowLimits.IdleTimeout+farewellTime || !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("given up after %v: %v", took, err)
		}
		if cap(session.out) > 4*maxReplies {
			t.Fatalf("%d octets of replies were gathered", cap(session.out))
		}
	})
}

// An idle session ends in time; one that is used does not.
func TestIdleTimeoutBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, _ := newSlowServer(t)
		client, reader := connect(t, server)
		for range 100 {
			time.Sleep(4 * time.Minute)
			go func() { _, _ = io.WriteString(client, "NOOP\r\n") }()
			if line, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(line, "250 ") {
				t.Fatalf("%q, %v", line, err)
			}
		}
		began := time.Now()
		if line, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(line, "421 4.4.2") {
			t.Fatalf("%q, %v", line, err)
		}
		if took := time.Since(began); took < slowLimits.IdleTimeout*15/16 || took > slowLimits.IdleTimeout {
			t.Fatalf("an idle session ended after %v", took)
		}
	})
}

// A client whose relay took long has as much time to read the reply as any.
func TestReplyAfterALongWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, _ := newSlowServer(t)
		client, reader := connect(t, server)
		var session *session
		for s := range server.sessions {
			session = s
		}
		go func() {
			_, _ = io.WriteString(client, "HELO client.test\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n")
		}()
		for range 3 {
			if _, err := reader.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		session.transaction.delivery = &thoughtfulDelivery{delivery: session.transaction.delivery}
		go func() { _, _ = io.WriteString(client, "DATA\r\na: b\r\n\r\n.\r\n") }()
		for _, want := range []string{"354 ", "250 "} {
			if line, err := reader.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
				t.Fatalf("%q, %v", line, err)
			}
		}
		_ = client.Close()
	})
}

// thoughtfulDelivery takes longer for its reply than a client has for anything.
type thoughtfulDelivery struct{ delivery }

func (d *thoughtfulDelivery) finish() result {
	time.Sleep(30 * time.Minute)
	return d.delivery.finish()
}

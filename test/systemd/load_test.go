package systemd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// marker begins each message of the load; the relay's digest covers what comes
// from there on.
const marker = "X-Load: "

// load is what clients in the machine's network sent, and what they were told.
type load struct {
	m    *machine
	name string // begins the markers of its messages

	mu      sync.Mutex
	taken   map[string]receipt // by marker: 250 to the end of data
	refused map[string]string  // by marker: the reply to the end of data
	cut     int                // sessions that were told 421 before they had sent a message
	broken  []error            // what may never happen
}

// receipt is what a client remembers of a message that it need not keep.
type receipt struct {
	digest string
	txn    string // by the reply
}

func newLoad(t *testing.T, m *machine) *load {
	return &load{m: m, name: strings.ReplaceAll(t.Name(), "/", "."), taken: map[string]receipt{}, refused: map[string]string{}}
}

// run lets clients send one message after the other until ctx ends, and returns
// a function that waits for them.
func (l *load) run(ctx context.Context, clients int) (wait func()) {
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.send(fmt.Sprintf("%s.%d.%d", l.name, i, n), n)
			}
		})
	}
	return running.Wait
}

// send is one session, over the alternate port, that sends one message. n
// chooses its size: some fit into the proxy's buffers, others do not.
func (l *load) send(name string, n int) {
	s, err := l.dial()
	if err != nil {
		l.breaks(fmt.Errorf("connecting: %w", err))
		return
	}
	defer s.Close()
	l.submit(s, name, n)
}

// submit sends a message on a connection that nothing was read from yet.
func (l *load) submit(s *session, name string, n int) {
	message := compose(name, []int{500, 20_000, 100_000, 300_000}[n%4])
	if err := s.prepare(); err != nil {
		l.gaveUp(s, err)
		return
	}
	reply, err := s.finish(message)
	if err != nil {
		l.breaks(fmt.Errorf("message %s has no answer: %w", name, err))
		return
	}
	l.note(name, message, reply)
}

// note keeps the reply to the end of data.
func (l *load) note(name string, message []byte, reply string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	txn := bracket.FindStringSubmatch(reply)
	switch {
	case !strings.HasPrefix(reply, "250 "):
		l.refused[name] = reply
	case txn == nil:
		l.broken = append(l.broken, fmt.Errorf("no transaction in %q", reply))
	default:
		digest := sha256.Sum256(message)
		l.taken[name] = receipt{string(digest[:]), txn[1]}
	}
}

var bracket = regexp.MustCompile(`\[smtpwall ([0-9A-Z]{26})\]$`)

// gaveUp judges a session that ended before its message: it must have been told
// something, and nothing but 421.
func (l *load) gaveUp(s *session, err error) {
	var reply *textproto.Error
	switch {
	case errors.As(err, &reply) && reply.Code == 421, s.greeted && !errors.As(err, &reply):
		l.mu.Lock()
		l.cut++
		l.mu.Unlock()
	default:
		l.breaks(fmt.Errorf("before the message: %w", err))
	}
}

func (l *load) breaks(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = append(l.broken, err)
}

// progress waits until n more messages have got their 250.
func (l *load) progress(t *testing.T, n int) {
	t.Helper()
	from := l.count()
	eventually(t, fmt.Sprintf("%d more messages are taken", n), func() bool { return l.count() >= from+n })
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taken)
}

// arrived waits until each message that got its 250 has reached the relay, and
// compares. A message may be there twice only where the audit says so.
func (l *load) arrived(t *testing.T, relay *testkit.Relay) {
	t.Helper()
	for _, err := range l.broken[:min(len(l.broken), 5)] {
		t.Errorf("of %d errors: %v", len(l.broken), err)
	}
	for name, reply := range l.refused {
		t.Errorf("message %s was refused: %s", name, reply)
	}
	defer func() {
		if t.Failed() {
			left, _ := l.m.try("sh", "-c", "smtpwall queue retry --all; smtpwall queue list; smtpwall hold list; smtpwall status")
			t.Logf("the spool:\n%s", left)
		}
	}()
	eventually(t, "every message that got its 250 has arrived", func() bool {
		tally := relay.Tally()
		for name := range l.taken {
			if tally[name] == 0 {
				// What failed before is due in a minute; or at once.
				l.m.try("smtpwall", "queue", "retry", "--all")
				return false
			}
		}
		return true
	})
	seen := map[string]int{}
	for _, message := range relay.TakeMessages() {
		receipt, ok := l.taken[message.Marker]
		if !strings.HasPrefix(message.Marker, l.name) {
			continue // of an earlier test that failed
		}
		if seen[message.Marker]++; !ok {
			t.Errorf("message %q arrived without a 250", message.Marker)
		} else if message.Digest != receipt.digest {
			t.Errorf("message %s is not what was sent", message.Marker)
		}
	}
	for name, n := range seen {
		if n > 1 && !l.m.duplicated(l.taken[name].txn) {
			t.Errorf("message %s arrived %d times, and the audit does not say so", name, n)
		}
	}
	t.Logf("%d messages taken, %d sessions told 421 before theirs", len(l.taken), l.cut)
}

// duplicated reports whether an event of the transaction says that a duplicate
// is possible.
func (m *machine) duplicated(txn string) bool {
	_, err := m.try("sh", "-c", "grep -hF "+txn+" /var/log/smtpwall/transactions.jsonl* | grep -qF '\"possible_duplicate\":true'")
	return err == nil
}

// compose makes a message of about so many bytes, no two lines alike.
func compose(name string, size int) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s%s\r\nFrom: <site@example.net>\r\nTo: <you@example.com>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"+
		"Message-ID: <%s@example.net>\r\nSubject: load\r\n\r\n", marker, name, name)
	for line := 0; text.Len() < size; line++ {
		fmt.Fprintf(&text, "%s line %d %s\r\n", name, line, strings.Repeat("x", line%60))
	}
	return text.Bytes()
}

// session is a client's connection.
type session struct {
	net.Conn
	text    *textproto.Reader
	greeted bool
}

// patience is what a client has for the whole of a session: a restart is over by
// then.
const patience = time.Minute

func (l *load) dial() (*session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := l.m.net.Host.DialAs(ctx, nobody, netip.MustParseAddrPort("127.0.0.1:2525"))
	if err != nil {
		return nil, err
	}
	s := &session{Conn: conn, text: textproto.NewReader(bufio.NewReader(conn))}
	return s, conn.SetDeadline(time.Now().Add(patience))
}

// nobody sends the load.
const nobody = 65534

// prepare brings a session to the point where the message is due.
func (s *session) prepare() error {
	if _, _, err := s.text.ReadResponse(220); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	s.greeted = true
	for _, command := range []struct {
		line string
		code int
	}{
		{"EHLO client.example.net", 250}, {"MAIL FROM:<site@example.net>", 250}, {"RCPT TO:<you@example.com>", 250}, {"DATA", 354},
	} {
		if _, err := fmt.Fprintf(s, "%s\r\n", command.line); err != nil {
			return fmt.Errorf("%s: %w", command.line, err)
		}
		if _, _, err := s.text.ReadResponse(command.code); err != nil {
			return fmt.Errorf("%s: %w", command.line, err)
		}
	}
	return nil
}

// finish sends the rest of a message and its end, and returns the reply.
func (s *session) finish(rest []byte) (string, error) {
	if _, err := s.Write(append(rest, ".\r\n"...)); err != nil {
		return "", err
	}
	code, text, err := s.text.ReadResponse(0)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(s, "QUIT\r\n")
	return fmt.Sprintf("%d %s", code, text), nil
}

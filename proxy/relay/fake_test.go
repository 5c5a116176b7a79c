package relay

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeRelay is a relay in memory, for tests in which time passes (synctest): a
// TCP connection would not let the clock run. It speaks in clear.
type fakeRelay struct {
	mu     sync.Mutex
	dials  []string            // addresses, in order
	ways   map[string]error    // by address: why it cannot be connected to; errHang swallows
	reply  func(string) string // to a command; "" for the usual one, "raw:…" as it is
	room   int                 // connections that are served; 0 is any number
	step   string              // at which the others are turned away
	open   int
	most   int // of open
	mails  []time.Time
	served int // messages taken
}

var errHang = os.ErrDeadlineExceeded

func (f *fakeRelay) set(reply func(command string) string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reply = reply
}

// fail makes an address fail; nil makes it work again.
func (f *fakeRelay) fail(address string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ways == nil {
		f.ways = map[string]error{}
	}
	f.ways[address] = err
}

// took gives what was dialled since the last call.
func (f *fakeRelay) took() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	dials := strings.Join(f.dials, " ")
	f.dials = nil
	return dials
}

func (f *fakeRelay) dial(ctx context.Context, endpoint Endpoint, timeout time.Duration) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	address := endpoint.Address.String()
	f.dials = append(f.dials, address)
	if err := f.ways[address]; err == errHang {
		f.mu.Unlock()
		defer f.mu.Lock()
		select {
		case <-time.After(timeout):
			return nil, errHang
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	} else if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	f.open++
	f.most = max(f.most, f.open)
	go f.serve(theirs, f.room > 0 && f.open > f.room) // ends when the pool closes the connection
	return ours, nil
}

func (f *fakeRelay) serve(conn net.Conn, tooMany bool) {
	defer func() {
		_ = conn.Close()
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}()
	lines := bufio.NewReader(conn)
	inData := false
	for command := "CONNECT"; ; {
		if !inData {
			reply := f.answer(command)
			if tooMany && strings.HasPrefix(command, f.step) {
				reply = "421 4.7.0 too many connections"
			}
			if rest, raw := strings.CutPrefix(reply, "raw:"); raw {
				reply = rest
			} else {
				reply += "\r\n"
			}
			if _, err := f.say(conn, reply); err != nil || strings.HasPrefix(reply, "421") {
				return
			}
			inData = strings.HasPrefix(reply, "354")
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if command = strings.TrimRight(line, "\r\n"); inData && command == "." {
			inData = false
		}
	}
}

// say writes a reply, an octet a second if it begins with "drip:".
func (f *fakeRelay) say(conn net.Conn, reply string) (n int, err error) {
	text, drip := strings.CutPrefix(reply, "drip:")
	if !drip {
		return io.WriteString(conn, reply)
	}
	for i := 0; i < len(text) && err == nil; i++ {
		time.Sleep(time.Second)
		_, err = io.WriteString(conn, text[i:i+1])
	}
	return len(text), err
}

func (f *fakeRelay) answer(command string) string {
	f.mu.Lock()
	reply := f.reply
	if strings.HasPrefix(command, "MAIL") {
		f.mails = append(f.mails, time.Now())
	}
	f.mu.Unlock()
	if reply != nil {
		if text := reply(command); text != "" {
			return text
		}
	}
	switch command[:min(4, len(command))] {
	case "CONN":
		return "220 fake.test"
	case "EHLO":
		return "250-fake.test\r\n250 PIPELINING"
	case "DATA":
		return "354 go on"
	case ".":
		f.mu.Lock()
		defer f.mu.Unlock()
		f.served++
		return "250 2.0.0 queued"
	}
	return "250 2.0.0 ok"
}

func (f *fakeRelay) pool(t testing.TB, change func(*Options)) *Pool {
	t.Helper()
	options := Options{
		Name: "main", Host: "relay.test", LocalName: "host.test", Connections: 4,
		Endpoints: func(context.Context) ([]Endpoint, error) { return inClear("192.0.2.1:25"), nil },
	}
	if change != nil {
		change(&options)
	}
	pool := New(options)
	pool.dialer = f.dial
	t.Cleanup(pool.Retire)
	return pool
}

func inClear(addresses ...string) []Endpoint {
	var endpoints []Endpoint
	for _, address := range addresses {
		endpoints = append(endpoints, Endpoint{netip.MustParseAddrPort(address), None})
	}
	return endpoints
}

// replying answers one verb with a text, and the others as usual.
func replying(verb, text string) func(string) string {
	return func(command string) string {
		if strings.HasPrefix(command, verb) {
			return text
		}
		return ""
	}
}

var refusedTCP = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

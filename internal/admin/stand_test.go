package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// shelf is a proxy with messages, which does what is asked and remembers it.
type shelf struct {
	status  Status
	items   []spool.Item
	content map[string]io.ReadCloser
	failure error                       // of everything but Act, after it was done
	acted   func(context.Context) error // what Act does between two messages

	limits []LimitState
	off    map[string]limit.Suspension // by key

	mu     sync.Mutex
	asked  []spool.Filter
	orders []Op
	by     []uint32
}

func (s *shelf) Status(context.Context) (Status, error) { return s.status, s.failure }

func (s *shelf) Items(ctx context.Context, f spool.Filter, yield func(spool.Item) error) error {
	s.note(ctx, f)
	for _, item := range s.items {
		if !f.Match(item, time.Now()) {
			continue
		}
		if err := yield(item); err != nil {
			return err
		}
	}
	return s.failure
}

func (s *shelf) Message(_ context.Context, id string) (spool.Item, io.ReadCloser, error) {
	for _, item := range s.items {
		if item.ID == id {
			return item, s.content[id], nil
		}
	}
	return spool.Item{}, nil, errors.Join(errors.New("reading message "+id), spool.ErrUnknown)
}

func (s *shelf) Act(ctx context.Context, op Op, f spool.Filter, done func(Outcome)) error {
	s.note(ctx, f)
	s.mu.Lock()
	s.orders = append(s.orders, op)
	s.mu.Unlock()
	for i, item := range s.items {
		if s.acted != nil {
			if err := s.acted(ctx); err != nil {
				return err
			}
		}
		outcome := Outcome{ID: item.ID, Done: i + 1, Total: len(s.items)}
		if !f.Match(item, time.Now()) {
			outcome.Error = "no such message"
		}
		done(outcome)
	}
	return s.failure
}

func (s *shelf) Limits(_ context.Context, identity, rule string) (found []LimitState, err error) {
	for _, state := range s.limits {
		if state.Key == identity && rule == "sites" {
			found = append(found, state)
		}
	}
	return found, s.failure
}

func (s *shelf) Suspensions(context.Context) ([]limit.Suspension, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.off)), s.failure
}

func (s *shelf) Suspend(_ context.Context, suspension limit.Suspension) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off == nil {
		s.off = map[string]limit.Suspension{}
	}
	s.off[suspension.Key] = suspension
	return s.failure
}

func (s *shelf) Resume(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.off[key]; !ok {
		return fmt.Errorf("resuming %s: %w", key, ErrNotSuspended)
	}
	delete(s.off, key)
	return s.failure
}

func (s *shelf) note(ctx context.Context, f spool.Filter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, f)
	if uid, ok := PeerUID(ctx); ok {
		s.by = append(s.by, uid)
	}
}

// heard is what was asked and ordered so far, and by whom.
func (s *shelf) heard() ([]spool.Filter, []Op, []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked), slices.Clone(s.orders), slices.Clone(s.by)
}

// message is one deferred message.
func message(id string) spool.Item {
	return spool.Item{
		Entry: spool.Entry{ID: id, Time: time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond), Reason: "relay away <x>", Size: 42},
		State: spool.Deferred, Stored: 4096,
		Progress: spool.Progress{Attempts: 2, Relay: "main", Reason: "451 4.3.0 later"},
	}
}

// socketPath is a short one: a Unix address has room for 108 octets.
func socketPath(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "admin")
	if err == nil {
		err = os.Chmod(directory, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	return filepath.Join(directory, "s")
}

// open serves a shelf on a socket of its own.
func open(t *testing.T, s *shelf) (path string) {
	t.Helper()
	path = socketPath(t)
	ln, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, ln)
	return path
}

func serve(t *testing.T, s *shelf, ln net.Listener) *Server {
	t.Helper()
	return serveOptions(t, Options{Reader: s, Limits: s, Actor: s}, ln)
}

func serveOptions(t *testing.T, o Options, ln net.Listener) *Server {
	t.Helper()
	server := NewServer(o)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }() // waited for in the clean-up
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(server.Shutdown(ctx), <-ended); err != nil {
			t.Errorf("ending the server: %v", err)
		}
	})
	return server
}

func text(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

// pipeListener is a network without the kernel, for tests in a bubble of time.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

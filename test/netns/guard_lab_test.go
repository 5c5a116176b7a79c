package netns_test

import (
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

// Where the clients of the guard tests go: addresses of the remote.
var (
	guardMX4 = netip.MustParseAddr("203.0.113.25")
	guardMX6 = netip.MustParseAddr("2001:db8:25::1")
)

const guardUID = 2345 // an ordinary user, of no name

func guardMX(v6 bool, port uint16) netip.AddrPort {
	if v6 {
		return netip.AddrPortFrom(guardMX6, port)
	}
	return netip.AddrPortFrom(guardMX4, port)
}

// eventLog is an audit log that a test can wait for.
type eventLog struct {
	mu     sync.Mutex
	events []audit.Event
	more   chan struct{} // closed and made anew with each event
}

func newEventLog() *eventLog { return &eventLog{more: make(chan struct{})} }

func (l *eventLog) Write(e *audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, *e)
	close(l.more)
	l.more = make(chan struct{})
	return nil
}

func (l *eventLog) all() ([]audit.Event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events), l.more
}

// await returns the first event that match takes, past or to come.
func (l *eventLog) await(t *testing.T, within time.Duration, what string, match func(audit.Event) bool) audit.Event {
	t.Helper()
	return l.awaitAll(t, within, what, 1, match)[0]
}

// awaitAll returns the events that match takes once there are so many.
func (l *eventLog) awaitAll(t *testing.T, within time.Duration, what string, n int, match func(audit.Event) bool) []audit.Event {
	t.Helper()
	timeout := time.After(within)
	for {
		events, more := l.all()
		matching := slices.DeleteFunc(slices.Clone(events), func(e audit.Event) bool { return !match(e) })
		if len(matching) >= n {
			return matching
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("no event of %s within %s; there are %d: %+v", what, within, len(events), events[:min(len(events), 5)])
		}
	}
}

// sum is the count of all events that match takes.
func (l *eventLog) sum(match func(audit.Event) bool) (count uint64, events int) {
	all, _ := l.all()
	for _, e := range all {
		if match(e) {
			count += e.Count
			events++
		}
	}
	return count, events
}

// guardBed is a lab whose host has a running guard.
type guardBed struct {
	*firewall
	guard  *guard.Guard
	events *eventLog
	client *guard.Client
	socket string
	end    func() error // ends Run and returns what it says
}

func newGuardBed(t *testing.T, change func(*guard.Options)) *guardBed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test changes firewall rules in network namespaces of its own and needs root")
	}
	l, err := lab.New(lab.Options{Container: true, RemoteAddrs: []netip.Addr{guardMX4, guardMX6, fwRelay4, fwRelay6}})
	if err != nil {
		t.Fatal(err)
	}
	b := &guardBed{firewall: &firewall{Lab: l, t: t}, events: newEventLog()}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	o := guard.Options{
		Rules:  rules.Options{Mode: rules.Enforce, ProxyUID: fwProxy},
		Inside: l.Host.Do,
		Lock:   true,
		Socket: filepath.Join(t.TempDir(), "guard.sock"),
		Audit:  b.events,
	}
	if change != nil {
		change(&o)
	}
	b.start(o)
	return b
}

// start runs a guard until end is called, or else until the test ends.
func (b *guardBed) start(o guard.Options) {
	b.t.Helper()
	ready := make(chan struct{})
	o.Ready = func() { close(ready) }
	g, err := guard.New(o)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }() // ends by cancel, in end
	b.end = sync.OnceValue(func() error { cancel(); return <-ended })
	b.t.Cleanup(func() {
		if err := b.end(); err != nil {
			b.t.Errorf("the guard ended with: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		b.t.Fatalf("the guard did not start: %v", err)
	}
	b.guard, b.client, b.socket = g, guard.NewClient(o.Socket, nil), o.Socket
	b.t.Cleanup(func() { b.client.Close() })
}

// dial tries to connect and reports whether it was reset.
func (b *guardBed) dial(from *lab.Namespace, uid uint32, to netip.AddrPort) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Second)
	defer cancel()
	conn, err := from.DialAs(ctx, uid, to)
	if err == nil {
		conn.Close()
		b.t.Fatalf("uid %d reached %s", uid, to)
	}
	if !strings.Contains(err.Error(), "connection refused") {
		b.t.Fatalf("uid %d to %s: %v, want a reset", uid, to, err)
	}
}

// isAttempt matches attempts at one destination.
func isAttempt(to netip.AddrPort) func(audit.Event) bool {
	return func(e audit.Event) bool { return e.Kind == audit.KindAttempt && e.Destination == to }
}

// guardCGroup makes a cgroup that looks like that of a unit or of a container,
// for the time of the test.
func guardCGroup(t *testing.T, name string) *os.File {
	t.Helper()
	f := openCGroup(t, name)
	t.Cleanup(func() { closeCGroup(t, f) })
	return f
}

func openCGroup(t *testing.T, name string) *os.File {
	t.Helper()
	dir := filepath.Join(cgroup2(t), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func closeCGroup(t *testing.T, f *os.File) {
	t.Helper()
	f.Close()
	removeCGroup(t, f.Name())
}

// startIn starts a command in a cgroup and returns its standard input, with which
// it must end: with the test, before the cgroup.
func startIn(t *testing.T, cgroup *os.File, cmd *exec.Cmd) io.Writer {
	t.Helper()
	if cgroup != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // which the command waits for
		cmd.Wait()
	})
	return stdin
}

func dup(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	copied := os.NewFile(uintptr(fd), f.Name())
	t.Cleanup(func() { copied.Close() })
	return copied
}

package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/rules"
)

const proxyUID = 990

// socketBed is a guard that answers on a socket, without a kernel behind it but
// for a fake.
type socketBed struct {
	t     *testing.T
	path  string
	uid   atomic.Uint32 // whom the clients pass for
	guard *Guard
	stop  func()
	*fakeKernel
}

func newSocketBed(t *testing.T) *socketBed {
	t.Helper()
	b := &socketBed{t: t, path: filepath.Join(t.TempDir(), "guard.sock"), fakeKernel: newFakeKernel()}
	g := b.newGuard(t, Options{OnReload: func(context.Context) error { return errors.New("the configuration is wrong") }})
	g.firewall, b.guard = b.fakeKernel, g
	ln, err := listen(b.path, os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	s := &socketServer{
		guard:  g,
		find:   fakeProcesses{},
		caller: func(*net.UnixConn) (caller, error) { return caller{b.uid.Load(), "tester"}, nil },
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, ln) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("a client keeps the server from ending")
		}
	})
	t.Cleanup(b.stop)
	return b
}

func (b *socketBed) dial() net.Conn {
	b.t.Helper()
	conn, err := net.Dial("unix", b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a line and returns the answer.
func ask(t *testing.T, conn net.Conn, line string) response {
	t.Helper()
	fmt.Fprintln(conn, line) // fails where the answer came before the question
	var a response
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		t.Fatalf("answer to %s: %v", line, err)
	}
	return a
}

func TestSocketPermissions(t *testing.T) {
	b := newSocketBed(t)
	tests := []struct {
		uid  uint32
		op   string
		want string // in the error
	}{
		{0, opRelays, ""}, {0, opProcess, ""}, {0, opStatus, ""}, {0, opRelease, ""},
		{0, opReload, "the configuration is wrong"}, {0, "format", "unknown operation"},
		{proxyUID, opRelays, ""}, {proxyUID, opProcess, ""},
		{proxyUID, opStatus, "not permitted"}, {proxyUID, opRelease, "not permitted"}, {proxyUID, opReload, "not permitted"},
		{proxyUID, "format", "not permitted"},
		{1000, opRelays, "not permitted"}, {1000, opStatus, "not permitted"},
		{0, opWatch, ""}, {proxyUID, opWatch, ""}, {1000, opWatch, "not permitted"},
		{0, opLookups, ""}, {proxyUID, opLookups, ""}, {1000, opLookups, "not permitted"},
		{0, opSuspended, ""}, {proxyUID, opSuspended, ""}, {1000, opSuspended, "not permitted"},
		{0, opEnforce, ""}, {proxyUID, opEnforce, "not permitted"}, {1000, opEnforce, "not permitted"},
		{0, opConfirm, "no trial"}, {proxyUID, opConfirm, "not permitted"},
		{0, opObserve, ""}, {proxyUID, opObserve, "not permitted"}, {1000, opObserve, "not permitted"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s as %d", tt.op, tt.uid), func(t *testing.T) {
			b.uid.Store(tt.uid)
			removed := b.removed
			conn := b.dial()
			defer conn.Close()
			a := ask(t, conn, `{"op":"`+tt.op+`","inode":7}`)
			if !strings.Contains(a.Error, tt.want) || (tt.want == "") != (a.Error == "") {
				t.Errorf("error %q, want %q", a.Error, tt.want)
			}
			if did := b.removed > removed; did != (tt.op == opRelease && tt.want == "") {
				t.Errorf("rules removed: %v", did)
			}
		})
	}
	info, err := os.Stat(b.path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
}

func TestSocketHostileClients(t *testing.T) {
	b := newSocketBed(t)
	b.uid.Store(proxyUID)
	for name, line := range map[string]string{
		"no JSON":        "hello\n",
		"a long line":    `{"op":"` + strings.Repeat("x", 2*maxRequest) + "\"}\n",
		"no end of line": strings.Repeat("y", maxRequest),
		"wrong type":     `{"op":7}` + "\n",
		"negative":       `{"op":"process","uid":-1}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := b.dial()
			fmt.Fprint(conn, line) // may fail: the server hangs up in the middle
			if got, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
				t.Errorf("answered %q", got)
			}
		})
	}
}

func TestSocketStuckClientsCostOthersNothing(t *testing.T) {
	b := newSocketBed(t)
	b.uid.Store(proxyUID)
	var stuck []net.Conn
	for range maxClients - rootClients { // each fills its place: some silent, some that never read
		conn := b.dial()
		ask(t, conn, `{"op":"relays"}`)
		if len(stuck)%2 == 0 {
			conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			for err := error(nil); err == nil; {
				_, err = fmt.Fprintln(conn, `{"op":"relays"}`)
			}
		}
		stuck = append(stuck, conn)
	}
	if a := ask(t, b.dial(), ""); a.Error != errBusy.Error() {
		t.Errorf("one client too many is told %q", a.Error)
	}
	b.uid.Store(0)
	if a := ask(t, b.dial(), `{"op":"status"}`); a.Error != "" || a.Status == nil {
		t.Errorf("root is told %+v", a)
	}
	stuck[1].Close()
	b.uid.Store(proxyUID)
	for deadline := time.Now().Add(5 * time.Second); ; {
		if a := ask(t, b.dial(), `{"op":"relays"}`); a.Error == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a place that was left is not free")
		}
	}
}

func TestClient(t *testing.T) {
	b := newSocketBed(t)
	c := NewClient(b.path, nil)
	defer c.Close()
	if pid, exe, ok := c.Find(7, "/a.service", 33); !ok || pid != 42 || exe != "/7//a.service/33" {
		t.Errorf("got %d, %q, %v", pid, exe, ok)
	}
	if _, _, ok := c.Find(8, "", 33); ok {
		t.Error("found what is not there")
	}
	if relays, err := c.Relays(t.Context()); err != nil || len(relays) != 1 || relays[0].Name != "main" {
		t.Errorf("got %+v, %v", relays, err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Mode != rules.Enforce.String() {
		t.Errorf("got %+v, %v", s, err)
	}
	if err := c.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "the configuration is wrong") {
		t.Errorf("got %v", err)
	}
	c.conn.Close() // as a guard does that is started anew
	if err := c.Release(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestClientWithoutAGuard(t *testing.T) {
	c := NewClient(filepath.Join(t.TempDir(), "none.sock"), nil)
	if _, err := c.Status(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, _, ok := c.Find(7, "", 0); ok {
		t.Error("found a process without asking")
	}
}

func TestClientOfASilentGuard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "silent.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := NewClient(path, nil)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Relays(ctx); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "guard.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	ln, err := listen(path, os.Getgid())
	if err != nil {
		t.Fatalf("a socket that a dead guard left: %v", err)
	}
	defer ln.Close()
	if _, err := listen(path, os.Getgid()); err == nil {
		t.Error("took the socket of a guard that lives")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(file, os.Getgid()); err == nil {
		t.Error("listens in place of a file")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is now %q, %v", b, err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(`{"op":"process","inode":7,"cgroup":"/a.service","uid":33}`)
	f.Add(`{"op":"relays"}`)
	f.Add(`{"op":"suspended","suspended":["uid:33","unit:a.service","container:x","account:y"]}`)
	s := &socketServer{
		guard: newFakeKernel().newGuard(f, Options{}),
		find:  fakeProcesses{},
	}
	f.Fuzz(func(t *testing.T, line string) {
		var q request
		if json.Unmarshal([]byte(line), &q) != nil {
			return
		}
		a, err := s.answer(t.Context(), q, caller{uid: proxyUID})
		if err == nil && q.Op != opRelays && q.Op != opProcess && q.Op != opSuspended {
			t.Errorf("the proxy's %q gives %+v", q.Op, a)
		}
	})
}

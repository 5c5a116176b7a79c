package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pathVariable makes the test's program a client of the socket that it names.
const pathVariable = "SMTPWALL_ADMIN_TEST_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(pathVariable); path != "" {
		if err := NewClient(path).Alive(context.Background()); err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("alive")
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// needRoot: what the kernel says of other users can only be seen by being them.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests need root")
	}
}

// program is the test's own, where any user can run it.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(socketPath(t)), "client")
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	strangerID = 64911
	groupID    = 64912
)

// many are more groups than are asked for at first.
func many(last uint32) []uint32 {
	var groups []uint32
	for gid := range uint32(200) {
		groups = append(groups, 10_000+gid)
	}
	return append(groups, last)
}

func TestAccess(t *testing.T) {
	needRoot(t)
	client := program(t)
	for _, test := range []struct {
		name string
		mode os.FileMode
		who  syscall.Credential
		want string
	}{
		{"root", 0o600, syscall.Credential{}, "alive"},
		{"the mode keeps a stranger out", mode, syscall.Credential{Uid: strangerID, Gid: strangerID}, ErrDenied.Error()},
		{"and without it the kernel's word does", 0o666, syscall.Credential{Uid: strangerID, Gid: strangerID}, ErrDenied.Error()},
		{"other groups do not help", 0o666, syscall.Credential{Uid: strangerID, Gid: strangerID, Groups: many(strangerID)}, ErrDenied.Error()},
		{"nor does root's", 0o666, syscall.Credential{Uid: strangerID, Gid: 0}, ErrDenied.Error()},
		{"the group as the first", mode, syscall.Credential{Uid: strangerID, Gid: groupID}, "alive"},
		{"the group as one of many", mode, syscall.Credential{Uid: strangerID, Gid: strangerID, Groups: many(groupID)}, "alive"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := socketPath(t)
			ln, err := Listen(path, groupID)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			serve(t, &shelf{}, ln)
			cmd := exec.CommandContext(t.Context(), client)
			cmd.Env = append(os.Environ(), pathVariable+"="+path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &test.who}
			said, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(said), test.want) {
				t.Errorf("%v, %q; want %q", err, said, test.want)
			}
		})
	}
}

func TestPermits(t *testing.T) {
	group := access{uid: 990, group: 990, byGID: true}
	nobody := access{uid: 990}
	for _, test := range []struct {
		name string
		a    access
		c    credentials
		want bool
	}{
		{"root", nobody, credentials{uid: 0}, true},
		{"our own user", nobody, credentials{uid: 990, groups: []uint32{1}}, true},
		{"a member", group, credentials{uid: 33, groups: []uint32{1, 990}}, true},
		{"a stranger", group, credentials{uid: 33, groups: []uint32{33}}, false},
		{"one of no group", group, credentials{uid: 33}, false},
		{"no group may, not even number 0", nobody, credentials{uid: 33, groups: []uint32{0}}, false},
	} {
		if got := test.a.permits(test.c); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// as makes every connection that of a user.
func as(g *gate, uid uint32, groups ...uint32) {
	g.credentials = func(*net.UnixConn) (credentials, error) { return credentials{uid, groups}, nil }
}

// openGate gives a gate, and a function that connects and says whether it was
// let in.
func openGate(t *testing.T) (*gate, func() (net.Conn, bool)) {
	t.Helper()
	path := socketPath(t)
	ln, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	g := newGate(ln, nil)
	return g, func() (net.Conn, bool) {
		t.Helper()
		client, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		inner, err := g.admit(conn)
		if err != nil {
			_ = conn.Close()
			return nil, false
		}
		return inner, true
	}
}

// The group's members cannot keep root out, and a connection that ends makes
// room, once.
func TestConnectionsAreBounded(t *testing.T) {
	g, connect := openGate(t)
	g.access = access{uid: 990, group: 990, byGID: true}
	as(g, 33, 990)
	var conns []net.Conn
	for i := range maxConnections - rootConnections {
		conn, ok := connect()
		if !ok {
			t.Fatalf("connection %d of a member was turned away", i)
		}
		conns = append(conns, conn)
	}
	if _, ok := connect(); ok {
		t.Error("a member got a place of root's")
	}
	as(g, 0)
	for i := range rootConnections {
		if _, ok := connect(); !ok {
			t.Fatalf("connection %d of root was turned away", i)
		}
	}
	if _, ok := connect(); ok {
		t.Error("there is no bound")
	}
	_ = conns[0].Close()
	_ = conns[0].Close()
	if _, ok := connect(); !ok {
		t.Error("a connection that ended makes no room")
	}
	if _, ok := connect(); ok {
		t.Error("a connection that was closed twice makes room twice")
	}
}

// What cannot be told is no right.
func TestUnknownPeer(t *testing.T) {
	g, connect := openGate(t)
	g.credentials = func(*net.UnixConn) (credentials, error) { return credentials{}, errors.New("no such option") }
	if _, ok := connect(); ok {
		t.Error("a peer that the kernel does not tell of was let in")
	}
}

// A stranger gets nothing: not a byte, whatever it sends.
func TestStrangersGetNothing(t *testing.T) {
	path := socketPath(t)
	ln, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(ln, nil)
	as(g, strangerID)
	g.access = access{uid: 990}
	accepted := make(chan error, 1)
	go func() { // ends when the listener is closed
		_, err := g.Accept()
		accepted <- err
	}()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("GET /v1/status HTTP/1.1\r\nHost: smtpwall\r\n\r\n"))
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var got bytes.Buffer
	_, err = io.Copy(&got, conn)
	if got.Len() > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stranger got %q, %v", got.String(), err)
	}
	_ = ln.Close()
	if err := <-accepted; err == nil {
		t.Error("a stranger was accepted")
	}
}

// A member that finds all places taken is told so, and not that it has no right.
func TestBusy(t *testing.T) {
	path := socketPath(t)
	ln, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(ln, nil)
	g.all = maxConnections
	done := make(chan struct{})
	go func() { defer close(done); _, _ = g.Accept() }() // ends when the listener is closed
	if err := NewClient(path).Alive(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want %v", err, ErrBusy)
	}
	_ = ln.Close()
	<-done
}

package peer

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketInode is the inode that /proc shows for conn.
func socketInode(t *testing.T, conn *net.TCPConn) uint64 {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestFindProcess(t *testing.T) {
	server, _ := loopback(t, "tcp", "127.0.0.1:0")
	inode := socketInode(t, server)
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	cgroups, err := OpenCGroups(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cgroups.Close()
	own := ownCGroup(t)
	uid := uint32(os.Getuid())
	tests := []struct {
		name   string
		cgroup string
		uid    uint32
	}{
		{"by cgroup", own, 4242},
		{"by uid", "", uid},
		{"cgroup gone, by uid", "/no/such.service", uid},
		{"among all", "", 4242},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pid, exe, ok := NewProcesses(cgroups, 10*time.Second).Find(inode, tt.cgroup, tt.uid)
			if !ok || pid != os.Getpid() || exe != self {
				t.Errorf("got %d, %q, %v, want %d, %q", pid, exe, ok, os.Getpid(), self)
			}
		})
	}
	p := NewProcesses(nil, 10*time.Second)
	server.Close()
	if pid, _, ok := p.Find(inode, own, uid); ok {
		t.Errorf("process %d has a closed socket", pid)
	}
	if _, _, ok := p.Find(0, own, uid); ok {
		t.Error("found the holder of no socket")
	}
	if _, _, ok := NewProcesses(nil, time.Nanosecond).Find(inode, "", uid); ok {
		t.Error("found without time")
	}
}

func ownCGroup(t *testing.T) string {
	t.Helper()
	proc, err := openProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.close()
	path, err := proc.cgroup()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// unixPair is an accepted Unix connection and its client.
func unixPair(t *testing.T) (path string, ln *net.UnixListener) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "socket")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return path, ln
}

func TestIdentifyUnix(t *testing.T) {
	id := newIdentifier(t, Options{})
	path, ln := unixPair(t)
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p := id.Unix(server)
	self, _ := os.Readlink("/proc/self/exe")
	if !p.Proven || p.UID != uint32(os.Getuid()) || p.PID != os.Getpid() || p.Exe != self || p.CGroup != ownCGroup(t) {
		t.Errorf("got %+v", p)
	}
	if p.Remote.IsValid() || p.Local.IsValid() || p.OriginalDst.IsValid() {
		t.Errorf("a Unix socket has addresses: %+v", p)
	}
}

// TestUnixClient is the client of TestIdentifyUnixGone: it connects, says its
// pid and exits.
func TestUnixClient(t *testing.T) {
	path := os.Getenv("PEER_UNIX_CLIENT")
	if path == "" {
		return
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, strconv.Itoa(os.Getpid())+"\n")
	os.Exit(0)
}

func TestIdentifyUnixGone(t *testing.T) {
	id := newIdentifier(t, Options{})
	path, ln := unixPair(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestUnixClient$")
	cmd.Env = append(os.Environ(), "PEER_UNIX_CLIENT="+path)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	server, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	// The uid was noted when it connected, but who holds the socket now is not
	// known, nor from which unit it came.
	if p := id.Unix(server); p.Proven || p.UID != NoUID || p.CGroup != "" || p.Exe != "" {
		t.Errorf("got %+v", p)
	}
}

// TestPIDFDCGroup compares the two ways to the cgroup of a process, on a kernel
// that has both.
func TestPIDFDCGroup(t *testing.T) {
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	id := pidfdCGroup(pidfd)
	if id == 0 {
		t.Log("this kernel does not tell by pidfd")
		return
	}
	cgroups, err := OpenCGroups(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cgroups.Close()
	if path, ok := cgroups.Path(id); path != ownCGroup(t) || !ok {
		t.Errorf("cgroup %q, want %q", path, ownCGroup(t))
	}
	if got := pidfdCGroup(-1); got != 0 {
		t.Errorf("cgroup %d of no process", got)
	}
}

func TestReadProcessOfAnother(t *testing.T) {
	// A pid that belongs to somebody else by now, on a kernel without pidfds
	// of peers.
	p := unixPeer{uid: uint32(os.Getuid()) + 1, pid: int32(os.Getpid())}
	if err := p.readProcess(-1); err == nil {
		t.Error("took another user's process for the peer")
	}
	p = unixPeer{uid: uint32(os.Getuid()), pid: int32(os.Getpid())}
	if err := p.readProcess(-1); err != nil || p.cgroup == "" {
		t.Errorf("own process: %+v, %v", p, err)
	}
	p = unixPeer{pid: 1 << 30}
	if err := p.readProcess(-1); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("no process: %v", err)
	}
}

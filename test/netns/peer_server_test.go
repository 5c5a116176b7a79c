package netns_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/proxy/peer"
)

// TestPeerServer is the proxy of the tests below: with no capability and a user
// of its own it accepts on descriptor 3 and prints whom it has identified.
func TestPeerServer(t *testing.T) {
	if os.Getenv("PEER_SERVER") == "" {
		return
	}
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.New(peer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	for {
		conn, err := ln.Accept()
		if err != nil {
			os.Exit(0)
		}
		if err := out.Encode(id.TCP(conn.(*net.TCPConn))); err != nil {
			os.Exit(0)
		}
		fmt.Fprint(conn, "220 peer\r\n")
		conn.Close()
	}
}

// serveUnprivileged starts TestPeerServer and returns what it prints.
func (p *peerLab) serveUnprivileged(t *testing.T, ln *net.TCPListener) *json.Decoder {
	t.Helper()
	file, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// The program's own directory is closed to other users; its descriptor is not.
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestPeerServer$")
	cmd.Env = append(os.Environ(), "PEER_SERVER=1")
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64999, Gid: 64999}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Host.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return json.NewDecoder(bufio.NewReader(out))
}

func TestPeerUnprivileged(t *testing.T) {
	p := newPeerLab(t, peerRules)
	answers := p.serveUnprivileged(t, p.listen(t, "tcp", "[::]:10587"))
	for _, dst := range []netip.AddrPort{netip.AddrPortFrom(peerFar4, 587), netip.AddrPortFrom(peerFar6, 587)} {
		for _, uid := range []uint32{0, 33} {
			p.dial(t, uid, netip.AddrPort{}, dst)
			var got peer.Peer
			if err := answers.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if !got.Proven || got.UID != uid || got.OriginalDst != dst || got.CGroup == "" || got.User == "" {
				t.Errorf("uid %d to %v: got %+v", uid, dst, got)
			}
		}
	}
}

// makeCGroup makes a cgroup that goes with the test, below a slice of its own.
func makeCGroup(t *testing.T, path string) (dir string) {
	t.Helper()
	root := cgroup2(t)
	dir = filepath.Join(root, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for ; dir != root; dir = filepath.Dir(dir) {
			unix.Rmdir(dir)
		}
	})
	return dir
}

// cgroup2 is where the hierarchy is mounted, alone or beside version 1.
func cgroup2(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Fatal("no cgroup2 hierarchy")
	return ""
}

// client starts a process in the cgroup that connects to dst and reads a line.
func (p *peerLab) client(t *testing.T, dir string, dst netip.AddrPort) *exec.Cmd {
	t.Helper()
	cgroup, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer cgroup.Close()
	script := fmt.Sprintf("exec 3<>/dev/tcp/%s/%d; read -r line <&3", dst.Addr(), dst.Port())
	cmd := p.Host.Command(t.Context(), "bash", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestPeerCGroup finds the unit of a client, by a privileged and by an
// unprivileged identifier, also after the unit was started again and so has a
// new cgroup of the old name.
func TestPeerCGroup(t *testing.T) {
	p := newPeerLab(t, peerRules)
	ln := p.listen(t, "tcp4", "127.0.0.1:10587")
	plain := p.listen(t, "tcp4", "127.0.0.1:10588")
	answers := p.serveUnprivileged(t, plain)
	unit := fmt.Sprintf("peer-%d@1.service", os.Getpid())
	path := fmt.Sprintf("/smtpwalltest%d.slice/%s", os.Getpid(), unit)
	for range 3 {
		dir := makeCGroup(t, path)
		cmd := p.client(t, dir, netip.AddrPortFrom(peerFar4, 587))
		server := accept(t, ln)
		got := p.id.TCP(server)
		if got.CGroup != path || got.Unit != unit || got.UID != 0 {
			t.Errorf("privileged: got %+v", got)
		}
		fmt.Fprint(server, "220 peer\r\n")
		cmd.Wait()

		cmd = p.client(t, dir, netip.MustParseAddrPort("127.0.0.1:10588"))
		if err := answers.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.CGroup != path || got.Unit != unit {
			t.Errorf("unprivileged: got %+v", got)
		}
		cmd.Wait()
		if err := unix.Rmdir(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPeerProcess finds the process behind a client while it lives.
func TestPeerProcess(t *testing.T) {
	p := newPeerLab(t, peerRules)
	ln := p.listen(t, "tcp4", "127.0.0.1:10587")
	cgroups, err := peer.OpenCGroups(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cgroups.Close()
	var id *peer.Identifier
	opts := peer.Options{Processes: peer.NewProcesses(cgroups, 10*time.Second)}
	if err := p.Host.Do(func() (err error) { id, err = peer.New(opts); return err }); err != nil {
		t.Fatal(err)
	}
	defer id.Close()
	dir := makeCGroup(t, fmt.Sprintf("/smtpwalltest%d.slice/peer-process.service", os.Getpid()))
	cmd := p.client(t, dir, netip.AddrPortFrom(peerFar4, 587))
	server := accept(t, ln)
	got := id.TCP(server)
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if got.PID != cmd.Process.Pid || got.Exe != exe || !strings.HasSuffix(exe, "/bash") {
		t.Errorf("got pid %d, %q, want %d, %q", got.PID, got.Exe, cmd.Process.Pid, exe)
	}
	fmt.Fprint(server, "220 peer\r\n")
	cmd.Wait()
}

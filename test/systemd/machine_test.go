package systemd_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
)

// machine is a container that systemd runs as its process 1. Its disk lives in
// memory, its network is the host of a lab. Whatever the test leaves behind,
// killed outright included, ends with the two pipes that hold it.
type machine struct {
	t    *testing.T
	disk *held // owns the mount namespace with the root file system
	net  *lab.Lab
	init int    // process 1 as seen from here
	boot *held  // runs the container
	dir  string // in that namespace, where the disk is mounted
}

// held is a shell script that cleans up and ends when its standard input does.
type held struct {
	cmd   *exec.Cmd
	stdin io.Closer
	pid   int         // what the script said it holds
	said  chan string // the rest of what it said, once it has ended
}

// mountDisk gives the machine a copy in memory of the root file system $1, at $2.
const mountDisk = `set -e
mount -t tmpfs -o size=2G tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
umount -R -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
echo $$
exec cat >/dev/null`

// runContainer boots the disk $1 in the network namespace $2 and in a control
// group of its own, $3. Some filters of the container manager are opened so that
// those of the units are what counts.
const runContainer = `set -e
exec 2>&1
group=/sys/fs/cgroup/$3
mkdir -p "$group"
echo $$ >"$group/cgroup.procs"
systemd-nspawn --quiet --register=no --keep-unit --directory="$1/root" --machine=machine \
    --network-namespace-path="$2" --capability=all --resolv-conf=off --timezone=off --link-journal=no \
    --system-call-filter='bpf @keyring perf_event_open' --boot --console=pipe </dev/null &
echo $!
cat >/dev/null
echo $$ >/sys/fs/cgroup/cgroup.procs
echo 1 >"$group/cgroup.kill"
while grep -q 'populated 1' "$group/cgroup.events"; do sleep 0.02; done
find "$group" -depth -type d -exec rmdir {} +`

// newMachine boots a machine with a fresh disk.
func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("booting a container needs root")
	}
	m := &machine{t: t, dir: t.TempDir()}
	t.Cleanup(m.close)
	m.disk = m.hold("unshare", "--mount", "--propagation", "private", "sh", "-c", mountDisk, "sh", rootFS(t), m.dir)
	m.connect()
	m.powerOn()
	return m
}

// hold starts a script and reads the process id that it prints first.
func (m *machine) hold(name string, args ...string) *held {
	m.t.Helper()
	h := &held{cmd: exec.Command(name, args...), said: make(chan string, 1)}
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	h.stdin = stdin
	out, in, err := os.Pipe()
	if err != nil {
		m.t.Fatal(err)
	}
	h.cmd.Stdout, h.cmd.Stderr = in, in
	err = h.cmd.Start()
	in.Close()
	if err != nil {
		m.t.Fatalf("starting %s: %v", name, err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil {
		m.t.Fatalf("%s ended and said nothing: %v", name, h.release())
	}
	if h.pid, err = strconv.Atoi(strings.TrimSpace(first)); err != nil {
		rest, _ := io.ReadAll(lines)
		m.t.Fatalf("%s said %s%s", name, first, rest)
	}
	go func() { // ends with the script, which closes its end
		rest, _ := io.ReadAll(lines)
		out.Close()
		h.said <- string(rest)
	}()
	return h
}

// release lets go and waits for the script to clean up.
func (h *held) release() error {
	if h == nil {
		return nil
	}
	h.stdin.Close()
	return h.cmd.Wait()
}

// connect gives the machine a new network: rules of an earlier boot are gone, as
// on a real machine.
func (m *machine) connect() {
	m.t.Helper()
	var err error
	if m.net, err = lab.New(lab.Options{}); err != nil {
		m.t.Fatal(err)
	}
}

// powerOn boots the disk in the network that is connected.
func (m *machine) powerOn() {
	m.t.Helper()
	m.boot = m.hold("nsenter", "--target", strconv.Itoa(m.disk.pid), "--mount",
		"sh", "-c", runContainer, "sh", m.dir, m.net.Host.Path(), fmt.Sprintf("smtpwall-test-%d", os.Getpid()))
	eventually(m.t, "process 1 starts", m.findInit)
	eventually(m.t, "the boot ends", func() bool {
		state, _ := m.try("systemctl", "is-system-running")
		return state == "running" || state == "degraded"
	})
}

// findInit finds the container manager's child, once it has become systemd.
func (m *machine) findInit() bool {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.boot.pid, m.boot.pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(children))
	if len(fields) == 0 {
		return false
	}
	m.init, _ = strconv.Atoi(fields[0])
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", m.init))
	return err == nil && strings.TrimSpace(string(name)) == "systemd"
}

// powerOff shuts down in order and waits until the container is gone.
func (m *machine) powerOff() {
	m.t.Helper()
	m.try("systemctl", "poweroff", "--no-block")
	gone := filepath.Join("/proc", strconv.Itoa(m.init))
	eventually(m.t, "the machine shuts down", func() bool {
		_, err := os.Stat(gone)
		return errors.Is(err, os.ErrNotExist)
	})
	m.unplug()
}

// unplug ends the container, in whatever state it is.
func (m *machine) unplug() {
	if m.boot != nil {
		if err := m.boot.release(); err != nil {
			m.t.Errorf("ending the container: %v", err)
		}
		if said := <-m.boot.said; m.t.Failed() {
			m.t.Logf("console:\n%s", said)
		}
		m.boot = nil
	}
	if m.net != nil {
		m.net.Close()
		m.net = nil
	}
}

func (m *machine) close() {
	m.unplug()
	m.disk.release()
}

// eventually waits for something that another process does, in half a minute at most.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

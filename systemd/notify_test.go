package systemd_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/systemd"
)

// manager is the receiving end of NOTIFY_SOCKET.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, address string) manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", address)
	return manager{t, conn}
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "notify") }

// receive returns the next datagram and the descriptors that came with it.
func (m manager) receive() (string, []int) {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		m.t.Fatal(err)
	}
	data, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := m.conn.ReadMsgUnix(data, oob)
	if err != nil {
		m.t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		m.t.Fatal(err)
	}
	var fds []int
	for i := range messages {
		rights, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			m.t.Fatal(err)
		}
		fds = append(fds, rights...)
	}
	return string(data[:n]), fds
}

func TestNotify(t *testing.T) {
	tests := []struct {
		name string
		send func() error
		want string
	}{
		{"several at once", func() error { return systemd.Notify("READY=1", "MAINPID=7") }, "READY=1\nMAINPID=7"},
		{"ready", func() error { return systemd.Ready("serving 7 sockets") }, "READY=1\nSTATUS=serving 7 sockets"},
		{"stopping", systemd.Stopping, "STOPPING=1"},
		{"status", func() error { return systemd.Status("mode observe") }, "STATUS=mode observe"},
		{"status of two lines", func() error { return systemd.Status("a\r\nREADY=1") }, "STATUS=a READY=1"},
		{"keep alive", systemd.KeepAlive, "WATCHDOG=1"},
		{"remove", func() error { return systemd.RemoveFD("table-lock") }, "FDSTOREREMOVE=1\nFDNAME=table-lock"},
	}
	for _, address := range []string{socketPath(t), fmt.Sprintf("@smtpwall-test-%d", os.Getpid())} {
		m := newManager(t, address)
		for _, test := range tests {
			if err := test.send(); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if got, fds := m.receive(); got != test.want || len(fds) != 0 {
				t.Errorf("%s: sent %q with %d descriptors, want %q", test.name, got, len(fds), test.want)
			}
		}
	}
}

func TestReloadingTellsTheTime(t *testing.T) {
	m := newManager(t, socketPath(t))
	var before unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
		t.Fatal(err)
	}
	if err := systemd.Reloading(); err != nil {
		t.Fatal(err)
	}
	got, _ := m.receive()
	match := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=(\d+)$`).FindStringSubmatch(got)
	if match == nil {
		t.Fatalf("sent %q", got)
	}
	usec, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if low := before.Nano() / 1000; usec < low || usec > low+60e6 {
		t.Errorf("the time is %d µs, want just after %d", usec, low)
	}
}

func TestNotifyRefuses(t *testing.T) {
	newManager(t, socketPath(t))
	if err := systemd.Notify("STATUS=a\nREADY=1"); err == nil || !strings.Contains(err.Error(), "holds a newline") {
		t.Errorf("error %v, want a refusal", err)
	}
	t.Setenv("NOTIFY_SOCKET", "vsock:2:1")
	if err := systemd.Stopping(); err == nil || !strings.Contains(err.Error(), "is not a unix socket") {
		t.Errorf("error %v, want a refusal", err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := systemd.Stopping(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want that the socket is not there", err)
	}
}

func TestWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if systemd.Managed() {
		t.Error("managed without a socket")
	}
	for name, err := range map[string]error{
		"ready": systemd.Ready("x"), "reloading": systemd.Reloading(), "store": systemd.StoreFD("x", tempFile(t, "")),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWatchdog(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	tests := []struct {
		usec, pid string
		want      time.Duration
		ok        bool
	}{
		{"30000000", self, 15 * time.Second, true},
		{"30000000", "", 15 * time.Second, true},
		{"30000000", "1", 0, false},
		{"", self, 0, false},
		{"0", self, 0, false},
		{"-5", self, 0, false},
		{"9223372036854775807", self, 0, false},
		{"soon", self, 0, false},
	}
	for _, test := range tests {
		t.Setenv("WATCHDOG_USEC", test.usec)
		t.Setenv("WATCHDOG_PID", test.pid)
		if got, ok := systemd.Watchdog(); got != test.want || ok != test.ok {
			t.Errorf("usec %q, pid %q: %v, %v; want %v, %v", test.usec, test.pid, got, ok, test.want, test.ok)
		}
	}
}

func TestStoreFD(t *testing.T) {
	m := newManager(t, socketPath(t))
	if !systemd.Managed() {
		t.Error("not managed with a socket")
	}
	f := tempFile(t, "kept across a restart")
	if err := systemd.StoreFD("table-lock", f); err != nil {
		t.Fatal(err)
	}
	got, fds := m.receive()
	if want := "FDSTORE=1\nFDNAME=table-lock\nFDPOLL=0"; got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
	if len(fds) != 1 {
		t.Fatalf("%d descriptors came, want 1", len(fds))
	}
	f.Close() // the manager's copy lives on
	stored := os.NewFile(uintptr(fds[0]), "stored")
	defer stored.Close()
	if content, err := io.ReadAll(stored); string(content) != "kept across a restart" {
		t.Errorf("the stored file reads %q, %v", content, err)
	}
}

func TestStoreFDRefuses(t *testing.T) {
	newManager(t, socketPath(t))
	for _, name := range []string{"", "a:b", "a b", "a\nb", "ä", strings.Repeat("x", 256)} {
		if err := systemd.StoreFD(name, tempFile(t, "")); err == nil {
			t.Errorf("name %q was taken", name)
		}
		if err := systemd.RemoveFD(name); err == nil {
			t.Errorf("name %q was taken to remove", name)
		}
	}
	f := tempFile(t, "")
	f.Close()
	if err := systemd.StoreFD("x", f); err == nil {
		t.Error("a closed file was taken")
	}
}

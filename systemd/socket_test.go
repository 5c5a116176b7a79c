package systemd_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/systemd"
)

func closesOnExec(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var flags int
	if err := raw.Control(func(fd uintptr) { flags, _ = unix.FcntlInt(fd, unix.F_GETFD, 0) }); err != nil {
		return false
	}
	return flags&unix.FD_CLOEXEC != 0
}

// fromManager starts the reporting child as systemd does: descriptors from 3,
// and LISTEN_PID with the id that the process really has.
func fromManager(t *testing.T, count, names string, files ...*os.File) report {
	t.Helper()
	cmd := child(t, "report")
	cmd.ExtraFiles = files
	cmd.Env = append(cmd.Env, "LISTEN_FDS="+count, "LISTEN_FDNAMES="+names)
	cmd.Args = []string{"sh", "-c", `LISTEN_PID=$$ exec "$0"`, cmd.Path}
	cmd.Path = "/bin/sh"
	return runReport(t, cmd)
}

func TestPassedByManager(t *testing.T) {
	l4 := listen(t, "tcp4", "127.0.0.1:0")
	l6 := listen(t, "tcp6", "[::1]:0")
	unixPath := filepath.Join(t.TempDir(), "submit.sock")
	lu := listen(t, "unix", unixPath)
	var files []*os.File
	for _, l := range []net.Listener{l4, l6, lu} {
		s, err := systemd.FromListener("any", l)
		if err != nil {
			t.Fatal(err)
		}
		defer s.File.Close()
		files = append(files, s.File)
	}
	files = append(files, tempFile(t, "lock"))

	got := fromManager(t, "4", "submission:submission:local:table-lock", files...)
	want := report{Env: map[string]string{}, Sockets: []reported{
		{Name: "submission", Addr: l4.Addr().String(), CloExec: true},
		{Name: "submission", Addr: l6.Addr().String(), CloExec: true},
		{Name: "local", Addr: unixPath, CloExec: true},
		{Name: "table-lock", Content: "lock", CloExec: true},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := os.Stat(unixPath); err != nil {
		t.Errorf("the child's listener removed a path that is not its own: %v", err)
	}
}

func TestPassedEnvironment(t *testing.T) {
	tests := []struct {
		name, count, names string
		want               []string
		wantErr            string
	}{
		{name: "names are optional", count: "1", want: []string{"unknown"}},
		{name: "none", count: "0"},
		{name: "no count", count: ""},
		{name: "not a number", count: "x", wantErr: `LISTEN_FDS="x" is not a number`},
		{name: "negative", count: "-1", wantErr: `LISTEN_FDS="-1" is not a number`},
		{name: "absurd", count: "1000000", wantErr: "is not a number from 0 to 1024"},
		{name: "too few names", count: "2", names: "a", wantErr: "1 names for 2 descriptors"},
		{name: "closed descriptor", count: "200", wantErr: "bad file descriptor"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := fromManager(t, test.count, test.names, tempFile(t, "x"))
			var names []string
			for _, s := range got.Sockets {
				names = append(names, s.Name)
			}
			if !reflect.DeepEqual(names, test.want) {
				t.Errorf("sockets %q, want %q", names, test.want)
			}
			if (got.Error == "") != (test.wantErr == "") || !strings.Contains(got.Error, test.wantErr) {
				t.Errorf("error %q, want %q", got.Error, test.wantErr)
			}
			if len(got.Env) != 0 {
				t.Errorf("the environment kept %v", got.Env)
			}
		})
	}
}

// A shell in between, or a stale environment, must not make a process take
// descriptors that are something else in it.
func TestPassedForAnother(t *testing.T) {
	for _, env := range [][]string{
		{"LISTEN_FDS=1", "LISTEN_PID=1"},
		{"LISTEN_FDS=1", "SMTPWALL_LISTEN_PPID=1"},
		{"LISTEN_FDS=1"},
		{"LISTEN_FDS=1", "LISTEN_PID=1", fmt.Sprintf("SMTPWALL_LISTEN_PPID=%d", os.Getpid())},
	} {
		cmd := child(t, "report")
		cmd.Env = append(cmd.Env, env...)
		cmd.ExtraFiles = []*os.File{tempFile(t, "x")}
		got := runReport(t, cmd)
		if len(got.Sockets) != 0 || got.Error != "" || len(got.Env) != 0 {
			t.Errorf("%v: got %+v, want nothing", env, got)
		}
	}
}

func TestPass(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	s, err := systemd.FromListener("submission", l)
	if err != nil {
		t.Fatal(err)
	}
	defer s.File.Close()
	cmd := child(t, "report")
	cmd.Env = append(cmd.Env, "KEPT=yes", "NOTIFY_SOCKET=/nowhere", "WATCHDOG_USEC=1", "WATCHDOG_PID=1",
		"LISTEN_PID=7", "LISTEN_FDS=9", "LISTEN_FDNAMES=old")
	err = systemd.Pass(cmd, []systemd.Socket{s, {Name: "guard", File: tempFile(t, "g")}})
	if err != nil {
		t.Fatal(err)
	}
	got := runReport(t, cmd)
	want := report{Env: map[string]string{"KEPT": "yes"}, Sockets: []reported{
		{Name: "submission", Addr: l.Addr().String(), CloExec: true},
		{Name: "guard", Content: "g", CloExec: true},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The child serves the very socket that the parent bound.
func TestPassServes(t *testing.T) {
	l := listen(t, "tcp", "[::1]:0")
	s, err := systemd.FromListener("submission", l)
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "greet")
	if err := systemd.Pass(cmd, []systemd.Socket{s}); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.File.Close()
	l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "220 submission\r\n" {
		t.Errorf("read %q, %v", line, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
}

func TestPassRefuses(t *testing.T) {
	f := tempFile(t, "")
	tests := []struct {
		name    string
		cmd     *exec.Cmd
		socket  string
		wantErr string
	}{
		{"colon", exec.Command("true"), "a:b", `"a:b" is not a descriptor name`},
		{"empty", exec.Command("true"), "", `"" is not a descriptor name`},
		{"newline", exec.Command("true"), "a\nb", "is not a descriptor name"},
		{"files already", &exec.Cmd{Path: "/bin/true", ExtraFiles: []*os.File{f}}, "a", "has files already"},
	}
	for _, test := range tests {
		err := systemd.Pass(test.cmd, []systemd.Socket{{Name: test.socket, File: f}})
		if err == nil || !strings.Contains(err.Error(), test.wantErr) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.wantErr)
		}
		if test.cmd.Env != nil {
			t.Errorf("%s: the command was changed", test.name)
		}
	}
}

func TestListenerOfNoSocket(t *testing.T) {
	f := tempFile(t, "")
	if _, err := (systemd.Socket{Name: "odd", File: f}).Listener(); err == nil || !strings.Contains(err.Error(), `passed socket "odd"`) {
		t.Errorf("error %v, want one that names the socket", err)
	}
	if _, err := f.Stat(); err == nil {
		t.Error("the file stayed open")
	}
}

// pipeListener stands for a listener that no descriptor is behind.
type pipeListener struct{ net.Listener }

func TestFromListenerWithoutDescriptor(t *testing.T) {
	if _, err := systemd.FromListener("x", pipeListener{}); err == nil || !strings.Contains(err.Error(), "has no descriptor") {
		t.Errorf("error %v, want one that says why", err)
	}
}

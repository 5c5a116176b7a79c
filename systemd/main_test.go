package systemd_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/smtpwall/smtpwall/systemd"
)

// childVariable makes this test binary report what it was passed, and exit.
const childVariable = "SYSTEMD_TEST_CHILD"

// report is what such a child prints.
type report struct {
	Sockets []reported
	Again   int               // what a second Passed returned
	Env     map[string]string // the protocol's variables after Passed
	Error   string
}

type reported struct {
	Name    string
	Addr    string // "" when it is no listener
	Content string // of a regular file
	CloExec bool
}

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		os.Exit(m.Run())
	case "report":
		if err := json.NewEncoder(os.Stdout).Encode(newReport()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "greet": // accept one connection on the first socket
		if err := greet(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func newReport() report {
	r := report{Env: map[string]string{}}
	sockets, err := systemd.Passed()
	if err != nil {
		r.Error = err.Error()
	}
	for _, s := range sockets {
		r.Sockets = append(r.Sockets, describe(s))
	}
	again, err := systemd.Passed()
	if err != nil {
		r.Error += " again: " + err.Error()
	}
	r.Again = len(again)
	for _, name := range []string{"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "SMTPWALL_LISTEN_PPID",
		"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "KEPT"} {
		if v, ok := os.LookupEnv(name); ok {
			r.Env[name] = v
		}
	}
	return r
}

func describe(s systemd.Socket) reported {
	d := reported{Name: s.Name, CloExec: closesOnExec(s.File)}
	if info, err := s.File.Stat(); err == nil && info.Mode().IsRegular() {
		content, _ := io.ReadAll(s.File)
		d.Content = string(content)
		return d
	}
	if l, err := s.Listener(); err == nil {
		d.Addr = l.Addr().String()
		l.Close()
	}
	return d
}

func greet() error {
	sockets, err := systemd.Passed()
	if err != nil {
		return err
	}
	l, err := sockets[0].Listener()
	if err != nil {
		return err
	}
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "220 "+sockets[0].Name+"\r\n")
	return err
}

// child returns this test binary as a command in the given role.
func child(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

func runReport(t *testing.T, cmd *exec.Cmd) report {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("child: %v", err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("child printed %q: %v", out, err)
	}
	return r
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func tempFile(t *testing.T, content string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "stored")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return f
}

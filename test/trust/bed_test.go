package trust_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// The server elsewhere that clients mean, at addresses kept for documentation
// (RFC 5737, RFC 3849). Nobody listens there.
var (
	foreign4 = netip.MustParseAddr("203.0.113.80")
	foreign6 = netip.MustParseAddr("2001:db8:80::1")
)

const (
	foreignName = "smtp.foreign.example"
	proxyUID    = "64998"
	// patience bounds every wait. No test waits for it to pass.
	patience = 30 * time.Second
)

// bed is a host that smtpwall protects. No relay is approved, so that what is
// sent is accepted and held.
type bed struct {
	*lab.Lab
	name string
	dir  string
	log  *transcript
}

const configuration = `mode = "enforce"
[host]
name = "vps1.example"
[listen]
socket = "$DIR/submit.sock"
admin = "$DIR/admin.sock"
[delivery]
spool = "$DIR/state/spool"
[audit]
directory = "$DIR/log"
`

// newBed makes a host, with further lines of configuration.
func newBed(t testing.TB, name, further string) *bed {
	t.Helper()
	b := &bed{name: name, dir: filepath.Join(scratch, name), log: &transcript{}}
	if err := errors.Join(os.Mkdir(b.dir, 0o755), os.Mkdir(b.path("run"), 0o755)); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.Lab, err = lab.New(lab.Options{RemoteAddrs: []netip.Addr{foreign4, foreign6}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	hosts := readFile(t, "/etc/hosts") + foreign4.String() + " " + foreignName + "\n" + foreign6.String() + " " + foreignName + "\n"
	if err := os.WriteFile("/etc/hosts", []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	b.write(t, "host.toml", strings.ReplaceAll(configuration, "$DIR", b.dir)+further)
	b.start(t)
	return b
}

// start runs smtpwall, and sees to its end in good order.
func (b *bed) start(t testing.TB) {
	t.Helper()
	cmd := b.smtpwall(t, "run", "--uid", proxyUID)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("smtpwall ended with %v and said:\n%s", err, b.log)
		}
	})
	for deadline := time.Now().Add(patience); !strings.Contains(b.log.String(), "accepting mail"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("smtpwall does not serve; it says:\n%s", b.log)
		}
	}
}

// smtpwall prepares a command on the host, as root.
func (b *bed) smtpwall(t testing.TB, args ...string) *exec.Cmd {
	cmd := b.Host.Command(context.WithoutCancel(t.Context()), binary, append(args, "--config", b.path("host.toml"))...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "RUNTIME_DIRECTORY=" + b.path("run")}
	return cmd
}

// trust runs `smtpwall trust` and returns its report.
func (b *bed) trust(t testing.TB, args ...string) (report trustReport, status int) {
	t.Helper()
	cmd := b.smtpwall(t, append([]string{"trust", "--json"}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	output, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(output, &report); err != nil {
		t.Fatalf("smtpwall trust %q: %v: %s%s", args, err, output, errs.String())
	}
	return report, cmd.ProcessState.ExitCode()
}

// trustReport is what is looked at of the command's JSON.
type trustReport struct {
	Changed bool
	Stores  []struct {
		Store, Path, Error string
		Current, Older     bool
		Steps              []string
	}
	Advice []struct{ Lines []string }
}

// advised is the line of the advice that begins so.
func (b *bed) advised(t testing.TB, beginning string) string {
	t.Helper()
	report, _ := b.trust(t, "install", "--dry-run")
	for _, advice := range report.Advice {
		for _, line := range advice.Lines {
			if strings.HasPrefix(line, beginning) {
				return line
			}
		}
	}
	t.Fatalf("there is no advice of %s in %+v", beginning, report.Advice)
	return ""
}

// transactions are the events of messages so far.
func (b *bed) transactions(t testing.TB) (events []audit.Event) {
	t.Helper()
	output, err := b.smtpwall(t, "log", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var event audit.Event
		err := decoder.Decode(&event)
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		if event.Kind == audit.KindTransaction {
			events = append(events, event)
		}
	}
}

func (b *bed) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// write puts a file into the bed's directory, for everybody to read.
func (b *bed) write(t testing.TB, name, text string) string {
	t.Helper()
	path := b.path(name)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chown(path, siteUID, siteUID)); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// transcript is what a process says.
type transcript struct {
	mu   sync.Mutex
	text []byte
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	return len(p), nil
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

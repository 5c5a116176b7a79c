package filter_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/filter"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// patience is how long a daemon may take to start, on a busy machine.
const patience = 30 * time.Second

// privateDir is a directory with files; $DIR in them is its path.
func privateDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		text = strings.ReplaceAll(text, "$DIR", dir)
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// daemon is a running program.
type daemon struct {
	t       *testing.T
	command *exec.Cmd
	socket  string
	ended   chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// startDaemon starts a program without a network, and waits for its socket. It
// ends with the test.
func startDaemon(t *testing.T, socket, path string, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, command: exec.Command(path, args...), socket: socket, ended: make(chan struct{})}
	d.command.Stdout, d.command.Stderr = d, d
	d.command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setpgid: true}
	if err := d.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		_ = d.command.Wait()
	}()
	t.Cleanup(d.stop)
	d.awaitSocket()
	return d
}

// Write takes what the program prints.
func (d *daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(p)
}

func (d *daemon) printed() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

func (d *daemon) awaitSocket() {
	d.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); ; {
		if conn, err := net.Dial("unix", d.socket); err == nil {
			conn.Close()
			return
		}
		select {
		case <-d.ended:
			d.t.Fatalf("%s ended:\n%s", d.command.Path, d.printed())
		case <-deadline:
			d.t.Fatalf("%s does not listen:\n%s", d.command.Path, d.printed())
		case <-tick.C:
		}
	}
}

// stop ends the program and what it started.
func (d *daemon) stop() {
	_ = syscall.Kill(-d.command.Process.Pid, syscall.SIGKILL)
	<-d.ended
	if d.t.Failed() {
		d.t.Logf("%s:\n%s", d.command.Path, d.printed())
	}
}

func (d *daemon) filter() *filter.Filter {
	return filter.New(filter.Options{Name: "under-test", Network: "unix", Address: d.socket, TempDir: d.t.TempDir()})
}

// letter is a message from a to b, as a client of this host sends it.
func letter(header, body string) filter.Message {
	return filter.Message{
		ID: "01FILTER", HostName: "host.example.com", Helo: "localhost",
		Envelope: smtp.Envelope{ReversePath: "a@example.com", Recipients: []smtp.Recipient{{Address: "b@example.net"}}},
		Header:   []byte(header + "\r\n"), Body: strings.NewReader(body),
	}
}

const plainHeader = "From: Anna <a@example.com>\r\nTo: b@example.net\r\nSubject: a letter\r\n that is folded\r\n" +
	"Date: Sun, 22 Nov 2026 03:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"

// check asks and gives back the whole message after it.
func check(t *testing.T, f *filter.Filter, header, body string) (verdict filter.Verdict, message string) {
	t.Helper()
	return checkFrom(t, f, netip.Addr{}, header, body)
}

// checkFrom is check for a client at that address.
func checkFrom(t *testing.T, f *filter.Filter, client netip.Addr, header, body string) (verdict filter.Verdict, message string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m := letter(header, body)
	m.Client = client
	verdict, err := f.Check(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	message = header + "\r\n" + body
	if !verdict.Changed {
		return verdict, message
	}
	if verdict.Body != nil {
		defer verdict.Body.Close()
		octets, err := io.ReadAll(verdict.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = string(octets)
	}
	return verdict, string(verdict.Header) + body
}

package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/systemd"
)

// host is a proxy with everything in a directory of the test's.
type host struct {
	dir      string
	listener net.Listener // submission
	proxy    *Proxy
}

const base = `[host]
name = "host.test"
[listen]
submission = ["%[1]s"]
submissions = []
alternate = []
socket = ""
[delivery]
spool = "%[2]s/spool"
[audit]
directory = "%[2]s"
`

// configuration is base and what a test adds to it.
func (h *host) configuration(t *testing.T, more string) *config.Config {
	t.Helper()
	text := fmt.Sprintf(base, h.listener.Addr(), h.dir) + strings.ReplaceAll(more, "DIR", h.dir)
	cfg, problems := config.Parse("test", []byte(text), config.Options{})
	if cfg == nil {
		t.Fatal(problems)
	}
	return cfg
}

func newHost(t *testing.T) *host {
	t.Helper()
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	listener, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return &host{dir: t.TempDir(), listener: listener}
}

// options pass the listener as the service manager does.
func (h *host) options(t *testing.T, cfg *config.Config) ProxyOptions {
	t.Helper()
	passed, err := systemd.FromListener("submission", h.listener)
	if err != nil {
		t.Fatal(err)
	}
	return ProxyOptions{
		Config: cfg, Passed: []systemd.Socket{passed}, Guard: filepath.Join(h.dir, "no-guard.sock"),
		Log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)), LogLevel: zap.NewAtomicLevel(),
	}
}

func (h *host) start(t *testing.T, cfg *config.Config) {
	t.Helper()
	var err error
	if h.proxy, err = StartProxy(t.Context(), h.options(t, cfg)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.proxy.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

// submit sends one message, as this process, and gives the error of the client.
func (h *host) submit() error {
	client, err := smtp.Dial(h.listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if err := client.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
		return err
	}
	if err := client.Mail("a@example.com"); err != nil {
		return err
	}
	if err := client.Rcpt("b@example.net"); err != nil {
		return err
	}
	data, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := data.Write([]byte("From: a@example.com\r\n\r\nhello\r\n")); err != nil {
		return err
	}
	return data.Close()
}

// relay starts a stand-in and gives the configuration that uses it.
func (h *host) relay(t *testing.T) (*testkit.Relay, string) {
	t.Helper()
	relay, err := testkit.StartRelay(testkit.RelayOptions{Username: "u", Password: "p", RequireAuth: true, RequireTLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	for name, text := range map[string][]byte{"ca.pem": relay.CA(), "password": []byte("p\n")} {
		if err := os.WriteFile(filepath.Join(h.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return relay, fmt.Sprintf("[relay.main]\naddress = %q\ntls = \"starttls\"\nusername = \"u\"\npassword = { file = \"DIR/password\" }\nca = \"DIR/ca.pem\"\n", relay.Addr())
}

// The first start on a machine with no account anywhere: mail is held; a relay
// and a reload deliver it, once.
func TestHeldMailLeavesWhenARelayIsConfigured(t *testing.T) {
	h := newHost(t)
	relay, more := h.relay(t)
	h.start(t, h.configuration(t, ""))
	for range 3 {
		if err := h.submit(); err != nil {
			t.Fatal(err)
		}
	}
	if held := HeldFiles(h.proxy.Config()); held != 3 {
		t.Fatalf("%d messages are held, want 3", held)
	}
	if err := h.proxy.Reload(t.Context(), h.configuration(t, more)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := relay.WaitMessages(ctx, 3); err != nil {
		t.Fatal(err)
	}
	for HeldFiles(h.proxy.Config()) > 0 {
		if ctx.Err() != nil {
			t.Fatal("delivered messages stay in the spool")
		}
		time.Sleep(time.Millisecond)
	}
	if err := h.submit(); err != nil {
		t.Fatal(err)
	}
	if n := len(relay.Messages()); n != 4 {
		t.Fatalf("the relay has %d messages, want 4", n)
	}
}

func TestReloadThatCannotBeChangesNothing(t *testing.T) {
	h := newHost(t)
	relay, more := h.relay(t)
	h.start(t, h.configuration(t, more))
	refused := map[string]string{
		"a CA file that is gone":     strings.ReplaceAll(more, "DIR/ca.pem", "DIR/gone.pem"),
		"a CA file without PEM":      strings.ReplaceAll(more, "DIR/ca.pem", "DIR/password"),
		"certificates that are gone": more + "[certificates]\nsource = \"files\"\ncertificate = \"DIR/gone.pem\"\nkey = \"DIR/gone.key\"\n",
	}
	for name, text := range refused {
		if err := h.proxy.Reload(t.Context(), h.configuration(t, text)); err == nil {
			t.Errorf("%s: reloaded", name)
		}
		if err := h.submit(); err != nil {
			t.Errorf("%s: after the refused reload: %v", name, err)
		}
	}
	if n := len(relay.Messages()); n != len(refused) {
		t.Errorf("the relay has %d messages, want %d", n, len(refused))
	}
}

func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	h := newHost(t)
	h.start(t, h.configuration(t, ""))
	for key, change := range map[string]func(*config.Config){
		"[listen]":        func(c *config.Config) { c.Listen.Socket = "/tmp/other.sock" },
		"delivery.spool":  func(c *config.Config) { c.Delivery.Spool = "/nowhere" },
		"audit.directory": func(c *config.Config) { c.Audit.Directory = "/nowhere" },
	} {
		changed := *h.proxy.Config()
		change(&changed)
		if err := h.proxy.Reload(t.Context(), &changed); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// A start that fails leaves nothing behind: the same directory serves again.
func TestFailedStartIsUndone(t *testing.T) {
	h := newHost(t)
	_, more := h.relay(t)
	broken := h.configuration(t, strings.ReplaceAll(more, "DIR/ca.pem", "DIR/gone.pem"))
	if _, err := StartProxy(t.Context(), h.options(t, broken)); err == nil {
		t.Fatal("started without the relay's CA")
	}
	h.start(t, h.configuration(t, more))
	if err := h.submit(); err != nil {
		t.Fatal(err)
	}
}

func TestPassedSocketsMustBeConfigured(t *testing.T) {
	h, other := newHost(t), newHost(t)
	cfg := h.configuration(t, "")
	if _, err := StartProxy(t.Context(), other.options(t, cfg)); err == nil || !strings.Contains(err.Error(), "is not in [listen]") {
		t.Fatalf("a socket of another address was taken: %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "submit.sock")
	first, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path); err == nil {
		t.Fatal("took the socket of a process that lives")
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := listenUnix(path)
	if err != nil {
		t.Fatalf("a socket that a dead process left: %v", err)
	}
	defer func() { _ = second.Close() }()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Fatalf("%v, %v", info, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(file); err == nil {
		t.Fatal("replaced a file that is no socket")
	}
}

func TestCleanupsRunInReverse(t *testing.T) {
	var order []string
	c := cleanups{log: zap.NewNop()}
	for _, name := range []string{"first", "second", "third"} {
		c.add(name, func(context.Context) error {
			order = append(order, name)
			if name == "second" {
				return os.ErrInvalid
			}
			return nil
		})
	}
	err := c.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "stopping second") || strings.Join(order, " ") != "third second first" {
		t.Fatalf("%v, %v", order, err)
	}
}

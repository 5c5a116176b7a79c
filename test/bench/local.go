package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// localConfig enforces on an ordinary host that has no relay yet, and is as
// installed but for its directories.
const localConfig = `mode = "enforce"
[host]
name = "vps1.example.net"
[delivery]
spool = %[1]q
[listen]
socket = ""
admin = %[2]q
[audit]
directory = %[3]q
`

// localListener is where redirected connections to 465 end up.
var localListener = netip.MustParseAddrPort("127.0.0.1:465")

// localProxy is `smtpwall serve` in a network namespace whose own rules
// redirect to it.
type localProxy struct {
	dir     string
	pid     int
	command *exec.Cmd
	output  *os.File
}

// startLocal loads the rules and starts the proxy as an ordinary user. Its
// garbage collector tells the size of its heap.
func (b *bench) startLocal(ctx context.Context, host *lab.Namespace) (*localProxy, error) {
	p := &localProxy{dir: filepath.Join(b.dir, "local")}
	config, err := p.configure()
	if err != nil {
		return nil, err
	}
	if err := host.Sysctl("ipv4/ip_unprivileged_port_start", "25"); err != nil { // nobody hands sockets over here
		return nil, err
	}
	rules := host.Command(ctx, b.env.Smtpwall, "firewall", "apply", "--config", config, "--uid", strconv.Itoa(hostUID))
	if output, err := rules.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("smtpwall firewall apply: %w: %s", err, output)
	}
	if p.output, err = os.Create(filepath.Join(p.dir, "output")); err != nil {
		return nil, err
	}
	p.command = lab.AsUser(host.Command(context.WithoutCancel(ctx), b.env.Smtpwall, "serve", "--config", config), hostUID, hostUID)
	p.command.Stdout, p.command.Stderr, p.command.Dir = p.output, p.output, p.dir
	p.command.Env = append(os.Environ(), "GODEBUG=gctrace=1")
	if err := p.command.Start(); err != nil {
		return nil, errors.Join(err, p.output.Close())
	}
	p.pid = p.command.Process.Pid // nsenter became the program
	if err := p.await(ctx, host); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *localProxy) configure() (string, error) {
	within := func(name string) string { return filepath.Join(p.dir, name) }
	for _, dir := range []string{"", "state", "state/spool", "audit"} {
		if err := os.MkdirAll(within(dir), 0o700); err != nil {
			return "", err
		}
		if err := os.Chown(within(dir), hostUID, hostUID); err != nil {
			return "", err
		}
	}
	config := within("smtpwall.toml")
	text := fmt.Sprintf(localConfig, within("state/spool"), within("admin.sock"), within("audit"))
	return config, errors.Join(os.WriteFile(config, []byte(text), 0o600), os.Chown(config, hostUID, hostUID))
}

// await waits until the proxy listens.
func (p *localProxy) await(ctx context.Context, host *lab.Namespace) error {
	for deadline := time.Now().Add(15 * time.Second); ; {
		conn, err := host.Dial(ctx, localListener)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("smtpwall serve does not listen: %w: %s", err, p.said())
		}
		if err := rest(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (p *localProxy) said() string {
	text, _ := os.ReadFile(p.output.Name())
	return string(text)
}

// stop ends the proxy by SIGTERM.
func (p *localProxy) stop() error {
	err := p.command.Process.Signal(syscall.SIGTERM)
	if waited := p.command.Wait(); waited != nil {
		said := p.said()
		err = errors.Join(err, fmt.Errorf("smtpwall serve: %w: %s", waited, said[max(0, len(said)-2000):]))
	}
	return errors.Join(err, p.output.Close())
}

// footprintNow is what the proxy holds.
type footprintNow struct {
	peer.Memory
	heap string // MiB that its last garbage collection left alive
}

// footprint reads the memory after a moment of rest.
func (p *localProxy) footprint(ctx context.Context) (footprintNow, error) {
	if err := rest(ctx, namesPause); err != nil {
		return footprintNow{}, err
	}
	memory, err := (&peer.Running{Name: subject, PID: p.pid}).Memory()
	return footprintNow{Memory: memory, heap: lastHeap(p.said())}, err
}

// lastHeap finds the heap alive in the last line of GODEBUG=gctrace=1, as in "gc
// 7 @1.2s 1%: … ms cpu, 4->4->2 MB, 5 MB goal, …"; "–" before the first.
func lastHeap(said string) string {
	heap := "–"
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "gc ") {
			continue
		}
		if _, sizes, found := strings.Cut(line, " ms cpu, "); found {
			sizes, _, _ = strings.Cut(sizes, " MB")
			heap = sizes[strings.LastIndex(sizes, ">")+1:]
		}
	}
	return heap
}

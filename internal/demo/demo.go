package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// The cast, by documentation addresses (RFC 5737).
var (
	relayAddress   = netip.MustParseAddr("203.0.113.10") // the approved relay
	mxAddress      = netip.MustParseAddr("203.0.113.25") // somebody's mail exchanger
	foreignAddress = netip.MustParseAddr("203.0.113.80") // somebody else's submission server
)

const (
	foreignName = "smtp.elsewhere.example"
	proxyUID    = 64998 // the proxy's, in the demo
	siteUID     = 33    // a web site's: www-data on Debian
	startTime   = 10 * time.Second
)

// Demo is one showing.
type Demo struct {
	self string // the smtpwall binary
	out  io.Writer
	dir  string
	lab  *lab.Lab
	host *exec.Cmd // smtpwall run
	far  *exec.Cmd // the stand-in relay
}

// Run shows everything and cleans up behind itself. self is the path of the
// smtpwall binary.
func Run(ctx context.Context, self string, out io.Writer) (err error) {
	d := &Demo{self: self, out: out}
	if d.dir, err = os.MkdirTemp("", "smtpwall-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	steps := []struct {
		title string
		run   func(context.Context) error
	}{
		{"A host and an outside, in network namespaces of their own", d.build},
		{"smtpwall runs on the host, in enforce mode; the relay's password is its alone", d.start},
		{"A web site's process dials a mail exchanger on port 25", d.direct},
		{"The same process submits to 127.0.0.1:587, without any password", d.submit},
		{"The same process dials " + foreignName + ":465, with a credential of its own", d.redirected},
		{"What the relay has", d.delivered},
		{"What the audit log says (smtpwall log)", d.events},
	}
	for i, step := range steps {
		d.say("\n%d. %s", i+1, step.title)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("step %d of the demo: %w", i+1, err)
		}
	}
	d.say("\nNothing is left behind. `sudo make run`, or the packaged service, does this for the real host.")
	return nil
}

func (d *Demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// build makes the network and the files.
func (d *Demo) build(context.Context) (err error) {
	if err := os.Chmod(d.dir, 0o755); err != nil {
		return err
	}
	d.lab, err = lab.New(lab.Options{RemoteAddrs: []netip.Addr{relayAddress, mxAddress, foreignAddress}})
	if err != nil {
		return err
	}
	if err := d.writeFiles(); err != nil {
		return err
	}
	d.say("   host %s, outside: relay %s, mail exchanger %s, %s at %s",
		d.lab.Host.Addr4(), relayAddress, mxAddress, foreignName, foreignAddress)
	return nil
}

// start starts the relay outside and smtpwall on the host, and waits for both.
func (d *Demo) start(ctx context.Context) error {
	var err error
	if d.far, err = d.launch(ctx, d.lab.Remote, "relay", "serve"); err != nil {
		return err
	}
	if err := d.await(ctx, d.lab.Remote, netip.AddrPortFrom(relayAddress, 587)); err != nil {
		return d.withLog(err, "relay")
	}
	if err := d.shareAuthority(); err != nil {
		return err
	}
	if d.host, err = d.launch(ctx, d.lab.Host, "host", "run", "--uid", fmt.Sprint(proxyUID)); err != nil {
		return err
	}
	if err := d.await(ctx, d.lab.Host, netip.MustParseAddrPort("127.0.0.1:587")); err != nil {
		return d.withLog(err, "host")
	}
	rules, err := d.lab.Host.Command(ctx, d.self, "firewall", "status", "--config", d.path("host.toml"), "--uid", fmt.Sprint(proxyUID)).Output()
	d.say("   %s", indent(rules))
	return err
}

// launch starts one smtpwall in a namespace. Its log goes to a file.
func (d *Demo) launch(ctx context.Context, where *lab.Namespace, name string, args ...string) (*exec.Cmd, error) {
	log, err := os.Create(d.path(name + ".log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := where.Command(ctx, d.self, append(args, "--config", d.path(name+".toml"))...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+d.path(name, "run"))
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, cmd.Start()
}

// await waits until somebody accepts at the address.
func (d *Demo) await(ctx context.Context, where *lab.Namespace, address netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		conn, err := where.Dial(ctx, address)
		if err == nil {
			defer func() { _ = conn.Close() }()
			greeting := make([]byte, 3)
			_ = conn.SetDeadline(time.Now().Add(startTime))
			_, err = io.ReadFull(conn, greeting)
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody answers at %s: %w", address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// withLog adds what a process said last.
func (d *Demo) withLog(err error, name string) error {
	text, _ := os.ReadFile(d.path(name + ".log"))
	return fmt.Errorf("%w; it said:\n%s", err, text)
}

// direct tries port 25.
func (d *Demo) direct(ctx context.Context) error {
	began := time.Now()
	conn, err := d.lab.Host.DialAs(ctx, siteUID, netip.AddrPortFrom(mxAddress, 25))
	if err == nil {
		_ = conn.Close()
		return errors.New("the connection was not refused")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	d.say("   refused after %s: %v", time.Since(began).Round(10*time.Microsecond), err)
	return nil
}

// delivered counts the messages at the relay.
func (d *Demo) delivered(context.Context) error {
	held, err := filepath.Glob(d.path("relay", "spool", "queue", "*"))
	if err != nil {
		return err
	}
	if len(held) != 2 {
		return d.withLog(fmt.Errorf("the relay has %d messages, want 2", len(held)), "host")
	}
	d.say("   2 messages, both by smtpwall's own login over verified TLS")
	return nil
}

// events prints the audit log, of proxy and guard.
func (d *Demo) events(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	files := []string{d.path("host", "log", "transactions.jsonl"), d.path("host", "log", "attempts.jsonl")}
	wanted := map[audit.Kind]int{audit.KindTransaction: 2, audit.KindAttempt: 1}
	for event, err := range audit.Read(ctx, files, audit.Filter{}, true) {
		if err != nil {
			return err
		}
		if wanted[event.Kind] == 0 {
			continue
		}
		wanted[event.Kind]--
		d.say("   %s", indent([]byte(audit.Text(event))))
		if wanted[audit.KindTransaction]+wanted[audit.KindAttempt] == 0 {
			return nil
		}
	}
	return fmt.Errorf("events are missing: %v", wanted)
}

// close ends the processes and removes every trace.
func (d *Demo) close() error {
	var failures []error
	for _, cmd := range []*exec.Cmd{d.host, d.far} {
		if cmd == nil || cmd.Process == nil {
			continue
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		killer := time.AfterFunc(startTime, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			failures = append(failures, fmt.Errorf("stopping %s: %w", filepath.Base(d.self), err))
		}
		killer.Stop()
	}
	if d.lab != nil {
		failures = append(failures, d.lab.Close())
	}
	failures = append(failures, os.RemoveAll(d.dir))
	return errors.Join(failures...)
}

package peer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const configName = "smtpwall.toml"

// nobody is the user that the proxy runs as: it needs no privilege.
const nobody = 65534

// Limits are raised to what a scenario opens. Log and audit are as installed: a
// line and an event for each transaction.
const smtpwallConfig = `mode = "observe"
[host]
name = %[1]q
[relay.main]
address = %[2]q
tls = "implicit"
username = %[3]q
password = { file = %[4]q }
ca = %[5]q
connections = %[14]d
[delivery]
spool = %[6]q
%[15]s[listen]
submission = [%[7]q]
submissions = [%[8]q]
alternate = [%[9]q]
socket = ""
%[16]s[certificates]
source = "files"
certificate = %[10]q
key = %[11]q
[session]
max_sessions_per_peer = 2000
[audit]
directory = %[12]q
[[account]]
name = %[3]q
%[13]s
%[17]s`

// setup is what differs between the instances of smtpwall.
type setup struct {
	connections int    // to the relay
	queue       bool   // delivery mode queue
	older       bool   // knows no admin socket and no limits
	policy      string // its tables; empty: no limits, and all else as installed
}

// usual lets 200 connections, as many as the direct clients make, to clients that
// are all of one user: the rest is kept for others.
const usual = 220

// startSmtpwall runs `smtpwall serve` as an ordinary user. It is handed no
// sockets and finds no guard.
func startSmtpwall(ctx context.Context, env Environment) (*Running, error) {
	return serve(ctx, env, setup{connections: usual})
}

// startSmtpwallBefore runs the program that the one under test is compared with.
func startSmtpwallBefore(ctx context.Context, env Environment) (*Running, error) {
	env.Smtpwall = env.Before
	return serve(ctx, env, setup{connections: usual, older: true})
}

// startSmtpwallQueue answers as soon as a message is synced, and delivers from
// the spool over as many connections as postfix-queue.
func startSmtpwallQueue(ctx context.Context, env Environment) (*Running, error) {
	running, err := serve(ctx, env, setup{connections: 20, queue: true})
	if err != nil {
		return nil, err
	}
	running.Queues = true
	running.flush = func(ctx context.Context) error {
		command := exec.CommandContext(ctx, env.Smtpwall, "queue", "retry", "--all", "--config", filepath.Join(env.Dir, configName))
		// Of all there are it fails for those that are being delivered already.
		if output, err := command.CombinedOutput(); err != nil && !bytes.Contains(output, []byte("due at once")) {
			return fmt.Errorf("smtpwall queue retry: %w: %s", err, bytes.TrimSpace(output))
		}
		return nil
	}
	return running, nil
}

func serve(ctx context.Context, env Environment, setup setup) (*Running, error) {
	if _, err := os.Stat(env.Smtpwall); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no %s: run make build first, or name the program by -smtpwall", env.Smtpwall)
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	account, err := hashPassword(ctx, env)
	if err != nil {
		return nil, err
	}
	config, err := configureSmtpwall(env, ports, account, setup)
	if err != nil {
		return nil, err
	}
	command := exec.Command(env.Smtpwall, "serve", "--config", config)
	if os.Geteuid() == 0 {
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	process, err := daemon(env, command)
	if err != nil {
		return nil, err
	}
	return &Running{
		STARTTLS: ports[0], Implicit: ports[1], Plain: ports[2], PID: process.pid, stop: process.stop,
	}, nil
}

// configureSmtpwall writes the configuration and everything that it names, and
// gives it to the user that reads it.
func configureSmtpwall(env Environment, ports []string, account string, setup setup) (string, error) {
	within := func(name string) string { return filepath.Join(env.Dir, name) }
	for _, dir := range []string{"state", "state/spool", "audit"} {
		if err := os.MkdirAll(within(dir), 0o700); err != nil {
			return "", err
		}
	}
	key, err := os.ReadFile(env.Key)
	if err != nil {
		return "", err
	}
	var delivery, admin, policy string
	if setup.queue {
		delivery = "mode = \"queue\"\n"
	}
	if !setup.older {
		admin = fmt.Sprintf("admin = %q\n", within("admin.sock"))
		policy = cmp.Or(setup.policy, "[policy]\nlimits = []\n")
	}
	text := fmt.Sprintf(smtpwallConfig, env.Name, env.RelayTLS, env.Username, within("relay-password"), env.RelayCA,
		within("state/spool"), ports[0], ports[1], ports[2], env.Certificate, within("key.pem"), within("audit"), account,
		setup.connections, delivery, admin, policy)
	for name, content := range map[string]string{"relay-password": env.Password, "key.pem": string(key), configName: text} {
		if _, err := write(env, name, content, 0o600); err != nil {
			return "", err
		}
	}
	return within(configName), chownAll(env.Dir)
}

func chownAll(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobody, nobody)
	})
}

// hashPassword lets the program make the account's line, at the cost that it
// chooses itself.
func hashPassword(ctx context.Context, env Environment) (string, error) {
	command := exec.CommandContext(ctx, env.Smtpwall, "account", "hash")
	command.Stdin = strings.NewReader(env.Password + "\n")
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("smtpwall account hash: %w", err)
	}
	line, _, _ := strings.Cut(string(output), "\n")
	if !strings.HasPrefix(line, "password = ") {
		return "", errors.New("smtpwall account hash printed no password line first")
	}
	return line, nil
}

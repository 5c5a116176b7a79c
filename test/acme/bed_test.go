package acme_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
)

// The addresses outside, kept for documentation (RFC 5737).
var (
	relayAddr  = netip.MustParseAddr("203.0.113.10")
	caAddr     = netip.MustParseAddr("203.0.113.20")
	secondAddr = netip.MustParseAddr("203.0.113.21") // another CA, or what stands before the first
	dnsAddr    = netip.MustParseAddr("203.0.113.53")
)

const (
	domain   = "example.net"
	hostName = "vps1." + domain
	proxyUID = 64998
	siteUID  = 33 // www-data on Debian: a web site, and its server
)

// bed is a host with smtpwall, a relay, and a CA outside.
type bed struct {
	t testing.TB
	*lab.Lab
	dir       string
	authority *authority
	relay     *testkit.Relay
	ca        *pebble.CA
	resolver  string   // path of the resolv.conf that smtpwall sees; "" is the machine's
	run       *process // smtpwall run
	allowed   []string // what the program log may say at level error
}

// setup says what differs between beds.
type setup struct {
	ca     pebble.Options
	config string   // further lines, which begin in [certificates]; see configure
	listen string   // further lines of [listen]
	errors []string // what the program log may say at level error
}

// newBed builds the network, the relay and the CA. smtpwall does not run yet.
func newBed(t testing.TB, s setup) *bed {
	t.Helper()
	needRoot(t)
	b := &bed{t: t, authority: newAuthority(t), allowed: s.errors}
	b.makeDirectory()
	b.makeLab()
	b.startRelay()
	b.ca = b.startCA(caAddr, s.ca)
	return b
}

// startBed is newBed with smtpwall running.
func startBed(t testing.TB, s setup) *bed {
	t.Helper()
	b := newBed(t, s)
	b.configure(s)
	b.start()
	return b
}

func (b *bed) makeDirectory() {
	b.t.Helper()
	var err error
	if b.dir, err = os.MkdirTemp(scratch, ""); err == nil {
		err = errors.Join(os.Chmod(b.dir, 0o755), os.Mkdir(b.path("run"), 0o755))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = os.RemoveAll(b.dir) })
}

func (b *bed) makeLab() {
	b.t.Helper()
	var err error
	if b.Lab, err = lab.New(lab.Options{RemoteAddrs: []netip.Addr{relayAddr, caAddr, secondAddr, dnsAddr}}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := b.Close(); err != nil {
			b.t.Error(err)
		}
	})
}

func (b *bed) startRelay() {
	b.t.Helper()
	var err error
	b.relay, err = testkit.NewRelay(testkit.RelayOptions{RequireTLS: true, KeepBytes: true, TLS: b.authority.server(b.t, relayAddr.String())})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = b.relay.Close() })
	listener, err := b.Remote.Listen(netip.AddrPortFrom(relayAddr, 587))
	if err != nil {
		b.t.Fatal(err)
	}
	b.relay.Serve(listener, false)
}

// startCA starts a CA at an address outside, for which every name is the host's.
func (b *bed) startCA(address netip.Addr, opts pebble.Options) *pebble.CA {
	b.t.Helper()
	opts.Network, opts.Address, opts.Hosts = b.Remote, address, b.Host.Addr4()
	return pebble.Start(b.t, opts)
}

// baseConfig is an ordinary configuration, but for its directories.
const baseConfig = `mode = "enforce"
[host]
name = "` + hostName + `"
[listen]
socket = "$DIR/submit.sock"
admin = "$DIR/admin.sock"
$LISTEN
[delivery]
spool = "$DIR/state/spool"
[audit]
directory = "$DIR/log"
[log]
level = "debug"
[relay.main]
address = "203.0.113.10:587"
ca = "$DIR/relay-ca.pem"
[certificates]
`

// acmeConfig begins the configuration of a bed that uses its CA.
const acmeConfig = `source = "acme"
email = "admin@example.net"
directory = "$DIRECTORY"
ca = "$DIR/ca.pem"
`

// configure writes the files that smtpwall starts from. In the configuration
// $DIR is the bed's directory and $DIRECTORY the CA's URL.
func (b *bed) configure(s setup) {
	b.t.Helper()
	b.write("relay-ca.pem", string(b.authority.pem), 0o644, 0)
	b.write("ca.pem", string(b.ca.PEM()), 0o644, 0)
	text := baseConfig + s.config
	text = strings.NewReplacer("$DIRECTORY", b.ca.Directory(), "$DIR", b.dir, "$LISTEN", s.listen).Replace(text)
	b.write("host.toml", text, 0o644, 0)
}

// start runs smtpwall, waits until it serves, and sees to its end in good order.
func (b *bed) start() {
	b.t.Helper()
	run := launch(b.t, b.resolving(b.command("run", "--uid", fmt.Sprint(proxyUID))))
	b.run = run
	b.t.Cleanup(func() {
		select {
		case <-run.ended: // as the test wished
		default:
			if err := run.end(syscall.SIGTERM); err != nil {
				b.t.Errorf("smtpwall ended with %v", err)
			}
		}
		b.checkLog(run)
		b.checkState()
		if b.t.Failed() {
			said := run.said.String()
			b.t.Logf("smtpwall says:\n%s", said[max(0, len(said)-30_000):])
		}
	})
	run.await(b.t, "accepting mail", 1)
}

// resolving lets a command made by command see the host's own resolver.
func (b *bed) resolving(cmd *exec.Cmd) *exec.Cmd {
	if b.resolver == "" {
		return cmd
	}
	before := []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, b.resolver}
	cmd.Args = slices.Insert(cmd.Args, slices.Index(cmd.Args, "--")+1, before...)
	return cmd
}

// stop ends smtpwall in good order.
func (b *bed) stop() {
	b.t.Helper()
	if err := b.run.end(syscall.SIGTERM); err != nil {
		b.t.Fatalf("smtpwall ended with %v:\n%s", err, b.run.said)
	}
}

// checkLog finds what the program log must not say.
func (b *bed) checkLog(run *process) {
	b.t.Helper()
lines:
	for line := range strings.Lines(run.said.String()) {
		if !strings.Contains(line, `"level":"error"`) && !strings.Contains(line, "panic") {
			continue
		}
		for _, known := range b.allowed {
			if strings.Contains(line, known) {
				continue lines
			}
		}
		b.t.Errorf("the program log says: %s", line)
	}
}

// checkState holds what smtpwall keeps of certificates to be its user's alone to
// change, and, but for the local CA's certificate, to read.
func (b *bed) checkState() {
	b.t.Helper()
	keys := 0
	root := b.path("state", "certs")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != proxyUID || info.Mode().Perm()&0o022 != 0 {
			b.t.Errorf("%s has mode %s of uid %d", path, info.Mode(), owner.Uid)
		}
		if entry.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		secret := strings.Contains(string(text), "PRIVATE KEY")
		if secret {
			keys++
		}
		below := strings.HasPrefix(path, filepath.Join(root, "acme")+"/")
		if (secret || below) && info.Mode() != 0o600 {
			b.t.Errorf("%s has mode %s, want -rw-------", path, info.Mode())
		}
		return err
	})
	if err != nil {
		b.t.Error(err)
	}
	if keys == 0 {
		b.t.Error("there is no key in the state directory")
	}
	for _, dir := range []string{root, filepath.Join(root, "acme")} {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm() != 0o700 {
			b.t.Errorf("%s has mode %s, want drwx------", dir, info.Mode())
		}
	}
}

func (b *bed) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// write puts a file into the bed's directory.
func (b *bed) write(name, text string, mode os.FileMode, uid int) string {
	b.t.Helper()
	path := b.path(name)
	err := os.WriteFile(path, []byte(text), mode)
	if err = errors.Join(err, os.Chmod(path, mode), os.Chown(path, uid, uid)); err != nil {
		b.t.Fatal(err)
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

// command prepares a smtpwall command on the host, as root.
func (b *bed) command(verb string, args ...string) *exec.Cmd {
	args = append([]string{verb}, args...)
	cmd := b.Host.Command(context.WithoutCancel(b.t.Context()), binary, append(args, "--config", b.path("host.toml"))...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+b.path("run"))
	return cmd
}

// conditions are those of the running proxy, by `smtpwall status --json`, with
// its exit status.
func (b *bed) conditions(t testing.TB) (conditions map[string]string, status int) {
	t.Helper()
	stdout, stderr, status := output(b.command("status", "--json"))
	var answer struct {
		Proxy *admin.Status `json:"proxy"`
	}
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || answer.Proxy == nil {
		t.Fatalf("smtpwall status --json: %v in %s%s", err, stdout, stderr)
	}
	return answer.Proxy.Conditions, status
}

// certificates are those that `smtpwall cert status --json` tells of.
func (b *bed) certificates(t testing.TB) (all []admin.Certificate, status int) {
	t.Helper()
	stdout, stderr, status := output(b.command("cert", "status", "--json"))
	var answer struct {
		Running      bool
		Certificates []admin.Certificate
	}
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil || !answer.Running {
		t.Fatalf("smtpwall cert status --json: %v in %s%s", err, stdout, stderr)
	}
	return answer.Certificates, status
}

// certificate is the one of these by its source and name.
func (b *bed) certificate(t testing.TB, source, name string) admin.Certificate {
	t.Helper()
	all, _ := b.certificates(t)
	for _, c := range all {
		if c.Source == source && c.Name == name {
			return c
		}
	}
	t.Fatalf("cert status tells of no %s certificate of %s: %+v", source, name, all)
	return admin.Certificate{}
}

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// The addresses outside, kept for documentation (RFC 5737, RFC 3849).
var (
	relayAddr  = netip.MustParseAddr("203.0.113.10")
	secondAddr = netip.MustParseAddr("203.0.113.11")
	mx4        = netip.MustParseAddr("203.0.113.25")
	mx6        = netip.MustParseAddr("2001:db8:25::1")
	foreign4   = netip.MustParseAddr("203.0.113.80")
	foreign6   = netip.MustParseAddr("2001:db8:80::1")
)

const (
	hostName  = "vps1.example"
	proxyUID  = 64998
	siteUID   = 33 // www-data on Debian: a web site
	relayUser = "relay-user"
)

// bed is a host that smtpwall protects, with the relay that it approved.
type bed struct {
	t testing.TB
	*lab.Lab
	dir           string
	authority     *authority
	relay         *testkit.Relay
	relays        []*testkit.Relay // all that were started
	relayPassword string
	run           *process // smtpwall run
}

// setup says what differs between beds.
type setup struct {
	mode      string // enforce unless told
	config    string // further tables of the configuration; $DIR is the bed's directory
	delivery  string // further lines of [delivery]
	noRelay   bool   // none is configured, though there is one
	idle      bool   // smtpwall does not run yet
	container bool
	without   []string // extensions that the relay does not offer
	errors    []string // what the program log may say at level error
}

// newBed builds the network, the relay and smtpwall, and waits until it serves.
func newBed(t testing.TB, s setup) *bed {
	t.Helper()
	needRoot(t)
	b := &bed{t: t, authority: newAuthority(t), relayPassword: "relay's own " + randomWord()}
	b.makeDirectory()
	b.makeLab(s)
	b.relay = b.startRelay(relayAddr, s.without...)
	b.configure(s)
	if !s.idle {
		b.start(s)
	}
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

func (b *bed) makeLab(s setup) {
	b.t.Helper()
	var err error
	b.Lab, err = lab.New(lab.Options{
		Container:   s.container,
		RemoteAddrs: []netip.Addr{relayAddr, secondAddr, mx4, mx6, foreign4, foreign6},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := b.Close(); err != nil {
			b.t.Error(err)
		}
	})
}

// startRelay makes a stand-in relay at an address of the remote, on 587 and 465.
func (b *bed) startRelay(address netip.Addr, without ...string) *testkit.Relay {
	b.t.Helper()
	relay, err := testkit.NewRelay(testkit.RelayOptions{
		Username: relayUser, Password: b.relayPassword, RequireTLS: true, RequireAuth: true,
		KeepBytes: true, Without: without, TLS: b.authority.server(b.t, address),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = relay.Close() })
	b.relays = append(b.relays, relay)
	for port, implicit := range map[uint16]bool{587: false, 465: true} {
		listener, err := b.Remote.Listen(netip.AddrPortFrom(address, port))
		if err != nil {
			b.t.Fatal(err)
		}
		relay.Serve(listener, implicit)
	}
	return relay
}

// start runs smtpwall and sees to its end in good order.
func (b *bed) start(s setup) {
	b.t.Helper()
	b.run = launch(b.t, b.command("run", "--uid", fmt.Sprint(proxyUID)))
	b.run.said.await(b.t, "accepting mail", 1)
	b.shareAuthority()
	b.t.Cleanup(func() {
		select {
		case <-b.run.ended: // as the test wished
		default:
			if err := b.run.end(syscall.SIGTERM); err != nil {
				b.t.Errorf("smtpwall ended with %v:\n%s", err, b.run.said)
			}
		}
		b.checkLog(s.errors)
		b.checkCustody()
		if b.t.Failed() {
			said := b.run.said.String()
			b.t.Logf("smtpwall says:\n%s", said[max(0, len(said)-20_000):])
		}
	})
}

// checkLog finds what the program log must not say.
func (b *bed) checkLog(allowed []string) {
	b.t.Helper()
lines:
	for line := range strings.Lines(b.run.said.String()) {
		if !strings.Contains(line, `"level":"error"`) && !strings.Contains(line, "panic") {
			continue
		}
		for _, known := range allowed {
			if strings.Contains(line, known) {
				continue lines
			}
		}
		b.t.Errorf("the program log says: %s", line)
	}
}

// shareAuthority puts the local CA where any user can read it, as `smtpwall
// trust install` does for a host.
func (b *bed) shareAuthority() {
	b.t.Helper()
	text, err := os.ReadFile(b.path("state", "certs", "local-ca", "root.pem"))
	if err == nil {
		err = os.WriteFile(b.localCA(), text, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) localCA() string { return b.path("local-ca.pem") }

func (b *bed) path(parts ...string) string {
	return filepath.Join(append([]string{b.dir}, parts...)...)
}

// write puts a file into the bed's directory.
func (b *bed) write(name, text string, mode os.FileMode, uid int) string {
	b.t.Helper()
	return b.writeFor(name, text, mode, uid, uid)
}

func (b *bed) writeFor(name, text string, mode os.FileMode, uid, gid int) string {
	b.t.Helper()
	path := b.path(name)
	err := os.WriteFile(path, []byte(text), mode)
	if err = errors.Join(err, os.Chmod(path, mode), os.Chown(path, uid, gid)); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// command prepares a smtpwall command on the host, as root.
func (b *bed) command(verb string, args ...string) *exec.Cmd {
	args = append([]string{verb}, args...)
	cmd := b.Host.Command(context.WithoutCancel(b.t.Context()), binary, append(args, "--config", b.path("host.toml"))...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+b.path("run"))
	return cmd
}

// output runs a smtpwall command to its end.
func (b *bed) output(verb string, args ...string) (stdout, stderr string, status int) {
	b.t.Helper()
	cmd := b.command(verb, args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return out.String(), errs.String(), exitStatus(err)
}

// events are those that `smtpwall log --json` prints.
func (b *bed) events(filter ...string) []audit.Event {
	b.t.Helper()
	stdout, stderr, status := b.output("log", append([]string{"--json"}, filter...)...)
	if status != 0 {
		b.t.Fatalf("smtpwall log ended with status %d: %s", status, stderr)
	}
	var events []audit.Event
	decoder := json.NewDecoder(strings.NewReader(stdout))
	for {
		var event audit.Event
		err := decoder.Decode(&event)
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			b.t.Fatalf("smtpwall log --json: %v in %s", err, stdout)
		}
		events = append(events, event)
	}
}

// logged are the events that the audit logs hold now.
func (b *bed) logged(t testing.TB) (events []audit.Event) {
	t.Helper()
	files := []string{b.path("log", "transactions.jsonl"), b.path("log", "attempts.jsonl")}
	for event, err := range audit.Read(t.Context(), files, audit.Filter{}, false) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event)
	}
	return events
}

// awaitEvent waits for an event, past or to come.
func (b *bed) awaitEvent(t testing.TB, what string, match func(audit.Event) bool) audit.Event {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		events := b.logged(t)
		if at := slices.IndexFunc(events, match); at >= 0 {
			return events[at]
		}
		if time.Now().After(deadline) {
			t.Fatalf("no event of %s within %s; there are:\n%+v", what, patience, events)
		}
	}
}

// transaction is the event of one transaction, which has ended or is about to.
func (b *bed) transaction(t testing.TB, txn string) audit.Event {
	t.Helper()
	its := func(e audit.Event) bool { return e.Txn == txn && e.Kind == audit.KindTransaction }
	event := b.awaitEvent(t, "transaction "+txn, its)
	events := slices.DeleteFunc(b.logged(t), func(e audit.Event) bool { return !its(e) })
	if len(events) != 1 {
		t.Fatalf("%d events of transaction %s, want one: %+v", len(events), txn, events)
	}
	return event
}

// arrived finds the one message of a letter at the relay, holds it to the letter
// and its Received field to what it should say, and returns its event too.
func (b *bed) arrived(t testing.TB, l letter, want trace) (testkit.RelayMessage, audit.Event) {
	t.Helper()
	message := findOne(t, b.relay, l)
	if message.AuthUser != relayUser || !message.TLS {
		t.Errorf("the relay was reached as %q, TLS %v", message.AuthUser, message.TLS)
	}
	event := b.transaction(t, want.check(t, l.compare(t, message.Bytes)))
	if event.Custody != audit.CustodyRelay || event.ReplyCode != 250 || event.Size != int64(len(l.text)) {
		t.Errorf("the event says %+v", event)
	}
	return message, event
}

// findOne finds the one message of a letter at a relay.
func findOne(t testing.TB, relay *testkit.Relay, l letter) testkit.RelayMessage {
	t.Helper()
	var found []testkit.RelayMessage
	for _, message := range relay.Messages() {
		if strings.Contains(string(message.Bytes), l.marker) {
			found = append(found, message)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the letter is %d times at the relay, want once", len(found))
	}
	return found[0]
}

// ruleset is what nft lists in the host's namespace.
func (b *bed) ruleset() string {
	b.t.Helper()
	out, err := b.Host.Command(b.t.Context(), "nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		b.t.Fatalf("listing the rules: %v: %s", err, out)
	}
	return string(out)
}

// awaitAnswer waits until a server greets at an address.
func (b *bed) awaitAnswer(from *lab.Namespace, address netip.AddrPort) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		conn, err := from.Dial(ctx, address)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, err = io.ReadFull(conn, make([]byte, 3))
			_ = conn.Close()
		}
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("nobody answers at %s: %v", address, err)
		}
	}
}

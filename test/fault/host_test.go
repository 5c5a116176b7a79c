package fault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// setup says what differs between hosts.
type setup struct {
	mode     string   // of delivery; proxy unless told
	relays   []string // names, in order; "main" unless told
	delivery string   // further lines of [delivery]
	session  string   // lines of [session]
	rules    string   // of the policy, before the one that lets everybody send
	relay    testkit.RelayOptions
	in       *mountSpace // where the child lives; nil is where the test does
	spool    string      // its directory; the host's own unless told
}

// host is a proxy that runs, with its directories and relays.
type host struct {
	t      testing.TB
	dir    string
	spool  string
	config string
	in     *mountSpace
	relays map[string]*testkit.Relay
	child  *child // nil while none runs
	kills  int
	power  *power // instead of a child, for losses of power
	log    *logBook
	ledger *ledger
}

// newHost makes directories and relays, and starts the proxy.
func newHost(t testing.TB, s setup) *host {
	t.Helper()
	h := prepareHost(t, s)
	h.start(plan{})
	return h
}

// prepareHost is newHost without the start.
func prepareHost(t testing.TB, s setup) *host {
	t.Helper()
	// Not t.TempDir: the path of a socket may have 107 octets.
	dir, err := os.MkdirTemp("", "fault")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{t: t, dir: dir, in: s.in, relays: map[string]*testkit.Relay{}, log: &logBook{}, ledger: newLedger()}
	if s.relays == nil {
		s.relays = []string{"main"}
	}
	if h.spool = s.spool; h.spool == "" {
		h.spool = filepath.Join(dir, "spool")
	}
	h.write("password", "secret\n")
	for _, name := range s.relays {
		h.relays[name] = h.newRelay(name, s.relay)
	}
	h.config = h.write("smtpwall.toml", h.configuration(s))
	t.Cleanup(h.checkLog)
	t.Cleanup(h.kill)
	return h
}

func (h *host) newRelay(name string, opts testkit.RelayOptions) *testkit.Relay {
	h.t.Helper()
	opts.Username, opts.Password, opts.RequireAuth, opts.RequireTLS = "user", "secret", true, true
	opts.DigestFrom = markerField
	relay, err := testkit.StartRelay(opts)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = relay.Close() })
	h.write(name+".pem", string(relay.CA()))
	return relay
}

const configuration = `mode = "observe"
[host]
name = "host.example"
[listen]
submission = []
submissions = []
alternate = []
socket = "DIR/submit"
admin = "DIR/admin"
[delivery]
mode = "%s"
relays = %s
spool = "%s"
%s
[session]
%s
[audit]
directory = "DIR"
[policy]
limits = []
%s[[policy.rule]]
name = "shop"
match = { uid = [0, 4711] }
senders = ["*@` + domain + `"]
decision = "allow"
`

func (h *host) configuration(s setup) string {
	mode := s.mode
	if mode == "" {
		mode = "proxy"
	}
	var names []string
	for _, name := range s.relays {
		names = append(names, fmt.Sprintf("%q", name))
	}
	text := fmt.Sprintf(configuration, mode, "["+strings.Join(names, ",")+"]", h.spool, s.delivery, s.session, s.rules)
	for _, name := range s.relays {
		text += fmt.Sprintf("[relay.%s]\naddress = %q\ntls = \"starttls\"\nusername = \"user\"\n"+
			"password = { file = \"DIR/password\" }\nca = \"DIR/%[1]s.pem\"\n", name, h.relays[name].Addr())
	}
	return strings.ReplaceAll(text, "DIR", h.dir)
}

func (h *host) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// relay is the first or only one.
func (h *host) relay() *testkit.Relay { return h.relays["main"] }

// down and up are the relays'.
func (h *host) down(names ...string) {
	h.t.Helper()
	h.each(names, (*testkit.Relay).Down)
}

func (h *host) up(names ...string) {
	h.t.Helper()
	h.each(names, (*testkit.Relay).Up)
}

// each does something to some relays, or to all.
func (h *host) each(names []string, what func(*testkit.Relay) error) {
	h.t.Helper()
	for name, relay := range h.relays {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		if err := what(relay); err != nil {
			h.t.Fatal(err)
		}
	}
}

// heal ends all that is wrong with the relays.
func (h *host) heal() {
	h.t.Helper()
	h.each(nil, func(r *testkit.Relay) error { r.ClearFaults(); return r.Up() })
}

func (h *host) socket() string { return filepath.Join(h.dir, "submit") }

// start runs the proxy on a disk that fails as planned and waits until it
// serves. With a plan that kills, it may be dead before.
func (h *host) start(p plan) {
	h.t.Helper()
	if err := h.tryStart(p); err != nil && !(p.Kill > 0 && errors.Is(err, errDied)) {
		h.t.Fatalf("starting the proxy: %v\n%s", err, h.log)
	}
}

// tryStart leaves no child behind when it fails.
func (h *host) tryStart(p plan) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+h.config, planVariable+"="+string(text))
	cmd.Stderr = h.log
	if h.child, err = launch(cmd, h.in); err != nil {
		h.child = nil
		return err
	}
	if _, err = h.child.hear(); err != nil {
		h.kill()
	}
	return err
}

// arm makes a plan that of the child's disk from now on.
func (h *host) arm(p plan) {
	h.t.Helper()
	h.order(order{Arm: &p})
}

// seen is what the plan has seen so far.
func (h *host) seen() count {
	h.t.Helper()
	return h.order(order{Count: true}).Count
}

func (h *host) order(o order) answer {
	h.t.Helper()
	got, err := h.child.order(o)
	if err != nil {
		h.t.Fatalf("ordering %+v: %v\n%s", o, err, h.log)
	}
	return got
}

// kill ends the child with SIGKILL, if there is one.
func (h *host) kill() {
	if h.child != nil {
		h.child.kill()
		h.child = nil
		h.kills++
	}
}

// stop ends it in good order.
func (h *host) stop() {
	h.t.Helper()
	h.order(order{Stop: true})
	h.kill()
}

// restart is what follows a child that was killed, or is now.
func (h *host) restart() {
	h.t.Helper()
	h.kill()
	h.start(plan{})
}

// checkLog finds what the program log must never say.
func (h *host) checkLog() {
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") {
			h.t.Errorf("the program log says: %s", line)
		}
	}
}

// logBook is the program log of one child after the other.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// child is a proxy that runs.
type child struct {
	cmd     *exec.Cmd
	orders  io.WriteCloser
	answers *json.Decoder
}

// alive says whether the child still obeys.
func (h *host) alive() bool {
	if h.power != nil {
		return !h.power.lost()
	}
	if h.child == nil {
		return false
	}
	_, err := h.child.order(order{Count: true})
	return !errors.Is(err, errDied)
}

// retry makes everything in the spool due, as `smtpwall queue retry --all` does;
// there may be nobody to do it now.
func (h *host) retry() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := admin.NewClient(filepath.Join(h.dir, "admin"))
	_ = client.Act(ctx, admin.Retry, spool.Filter{States: admin.Retry.States()}, func(admin.Outcome) {})
}

// launch starts a child, where in says.
func launch(cmd *exec.Cmd, in *mountSpace) (*child, error) {
	orders, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the test
	if in.do(func() { err = cmd.Start() }); err != nil {
		return nil, err
	}
	return &child{cmd: cmd, orders: orders, answers: json.NewDecoder(answers)}, nil
}

// errDied means that the child ended instead of an answer.
var errDied = errors.New("the proxy has died")

// hear reads the next answer.
func (c *child) hear() (answer, error) {
	var got answer
	if err := c.answers.Decode(&got); err != nil {
		return got, errDied
	}
	if got.Error != "" {
		return got, errors.New(got.Error)
	}
	return got, nil
}

func (c *child) order(o order) (answer, error) {
	if err := json.NewEncoder(c.orders).Encode(o); err != nil {
		return answer{}, errDied
	}
	return c.hear()
}

// kill ends the child, if it has not ended by itself, and waits for it.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	if !within(patience, so) {
		t.Fatalf("not within %s: %s", patience, what)
	}
}

// within says whether something is so before the time is over.
func within(limit time.Duration, so func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(limit); !so(); {
		select {
		case <-tick.C:
		case <-deadline:
			return so()
		}
	}
	return true
}

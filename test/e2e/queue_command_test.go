package e2e_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/lab"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// listed is a message as `queue list --json` prints it.
type listed struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Identity struct {
		User string `json:"peer_user"`
	} `json:"identity"`
	Progress struct {
		Reason string `json:"reason"`
		Hold   string `json:"hold"`
	} `json:"progress"`
}

// list runs `queue list` or `hold list` and gives the ids, in order, and what
// was said of each.
func (b *bed) list(t testing.TB, place string, args ...string) (ids []string, all map[string]listed) {
	t.Helper()
	stdout, stderr, status := b.output(place, append([]string{"list", "--json"}, args...)...)
	if status != 0 {
		t.Fatalf("%s list %v ended with status %d: %s", place, args, status, stderr)
	}
	all = map[string]listed{}
	for line := range strings.Lines(stdout) {
		var item listed
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		ids, all[item.ID] = append(ids, item.ID), item
	}
	return ids, all
}

// awaitHeld waits until messages are in hold for a reason.
func (b *bed) awaitHeld(t testing.TB, why string, n int) (ids []string) {
	t.Helper()
	timeout := time.After(patience)
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		ids, all := b.list(t, "hold")
		if len(ids) == n && all[ids[0]].Progress.Hold == why {
			return ids
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("hold has %+v, want %d that are %s", all, n, why)
		}
	}
}

// orders runs a command that changes the spool.
func (b *bed) orders(t testing.TB, want int, said string, args ...string) {
	t.Helper()
	stdout, stderr, status := b.output(args[0], args[1:]...)
	if status != want || !strings.Contains(stderr, said) || stdout != "" {
		t.Errorf("smtpwall %v ended with status %d: %q, %q; want %d, %q", args, status, stdout, stderr, want, said)
	}
}

// TestQueueCommand: while the relay is away its messages are listed, shown,
// dropped by a person and, once it is back, sent at that person's word.
func TestQueueCommand(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	_ = b.relay.Close()
	first, second, third := newLetter(), newLetter(), newLetter()
	ids := []string{b.queue(t, siteUID, first), b.queue(t, siteUID, second), b.queue(t, 7001, third)}
	b.checkListed(t, ids)
	b.checkShown(t, ids[0], first)
	b.checkAway(t)

	b.orders(t, 2, "hint: --yes drops them", "queue", "drop", "--identity", "www-data")
	b.orders(t, 2, "queue drop needs ids of messages, a filter or --all", "queue", "drop")
	b.orders(t, 1, "no such message", "queue", "drop", "NOSUCHMESSAGE")
	if got, _ := b.list(t, "queue"); !slices.Equal(got, ids) {
		t.Fatalf("commands that must do nothing left %v, want %v", got, ids)
	}
	b.orders(t, 0, "1 message dropped", "queue", "drop", ids[1])
	b.awaitEvent(t, "the drop", func(e audit.Event) bool { return e.Txn == ids[1] && e.Custody == audit.CustodyDropped })
	b.orders(t, 0, "dropping 1 message, ", "queue", "drop", "--identity", "7001", "--yes")

	b.relay = b.startRelay(relayAddr)
	b.orders(t, 0, "1 message due at once", "queue", "retry", "--all")
	b.awaitEvent(t, "the delivery", func(e audit.Event) bool { return e.Txn == ids[0] && e.Custody == audit.CustodyRelay })
	message := findOne(t, b.relay, first)
	if txn := (trace{"local process", "ESMTP"}).check(t, first.compare(t, message.Bytes)); txn != ids[0] {
		t.Errorf("the message says %s, the queue said %s", txn, ids[0])
	}
	if got, _ := b.list(t, "queue"); len(got) > 0 || len(b.relay.Messages()) != 1 {
		t.Errorf("in the end the queue has %v and the relay %d messages", got, len(b.relay.Messages()))
	}
	stdout, stderr, status := b.output("status")
	if status != 0 || !strings.Contains(stdout, "port 587 works") || !strings.Contains(stdout, "\nspool: 0 messages, ") {
		t.Errorf("once all is well status says, with %d: %s%s", status, stdout, stderr)
	}
}

// queue sends a letter that the spool takes in the place of the relay.
func (b *bed) queue(t testing.TB, uid uint32, l letter) (txn string) {
	t.Helper()
	k := b.talkAs(t, uid)
	defer k.close()
	got := k.send(l, sender, recipient)
	if got.code != 250 || !strings.Contains(got.text, "queued") {
		t.Fatalf("while the relay is away the client hears %+v", got)
	}
	return got.txn(t)
}

func (b *bed) checkListed(t *testing.T, ids []string) {
	t.Helper()
	got, all := b.list(t, "queue")
	if !slices.Equal(got, ids) {
		t.Fatalf("the queue has %v, want %v", got, ids)
	}
	if item := all[ids[0]]; item.Identity.User != "www-data" || item.Progress.Reason == "" {
		t.Errorf("the first is told as %+v", item)
	}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"--identity", "www-data"}, ids[:2]},
		{[]string{"--identity", "uid:7001"}, ids[2:]},
		{[]string{"--older", "1d"}, nil},
		{[]string{"--reason", "NOT THE REASON"}, nil},
		{[]string{ids[1]}, ids[1:2]},
	} {
		if got, _ := b.list(t, "queue", test.args...); !slices.Equal(got, test.want) {
			t.Errorf("queue list %v has %v, want %v", test.args, got, test.want)
		}
	}
	stdout, stderr, status := b.output("queue", "list")
	for _, shown := range append(ids, "REVERSE-PATH", sender, recipient, "www-data") {
		if status != 0 || !strings.Contains(stdout, shown) {
			t.Errorf("queue list, with status %d, does not show %q:\n%s%s", status, shown, stdout, stderr)
		}
	}
}

func (b *bed) checkShown(t *testing.T, id string, l letter) {
	t.Helper()
	stdout, stderr, status := b.output("queue", "show", id)
	for _, shown := range []string{id, sender, recipient, "user www-data, uid 33", "header section:", "Received: ", l.marker} {
		if status != 0 || !strings.Contains(stdout, shown) {
			t.Errorf("queue show, with status %d, does not show %q:\n%s%s", status, shown, stdout, stderr)
		}
	}
	stdout, stderr, status = b.output("queue", "show", "--body", id)
	if status != 0 || !strings.HasSuffix(stdout, string(l.text)) {
		t.Errorf("queue show --body ended with status %d, %q and %d octets, want the letter of %d", status, stderr, len(stdout), len(l.text))
	}
}

// checkAway: status names the relay that is away, its port, and what waits.
func (b *bed) checkAway(t *testing.T) {
	t.Helper()
	stdout, stderr, status := b.output("status")
	for _, shown := range []string{"relay main: ", "port 587 blocked by this network", "3 deferred", "mode enforce, rules in force"} {
		if !strings.Contains(stdout, shown) {
			t.Errorf("while the relay is away status does not show %q, with %d:\n%s%s", shown, status, stdout, stderr)
		}
	}
}

// TestHoldCommand: what nobody can be told of is held, listed, and sent or
// dropped at a person's word.
func TestHoldCommand(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{noRelay: true})
	var ids []string
	for range 2 {
		got := b.talk(t).send(newLetter(), sender, "nobody@example.net")
		if got.code != 250 {
			t.Fatalf("the client hears %+v", got)
		}
		ids = append(ids, got.txn(t))
	}
	if got := b.awaitHeld(t, "no-relay", 2); !slices.Equal(got, ids) {
		t.Errorf("without a relay hold has %v, want %v", got, ids)
	}
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 no such user", Contains: "nobody"})
	b.reload(setup{})
	if got := b.awaitHeld(t, "undeliverable", 2); !slices.Equal(got, ids) {
		t.Errorf("refused for good, hold has %v, want %v", got, ids)
	}
	stdout, _, _ := b.output("hold", "show", ids[0])
	if !strings.Contains(stdout, "hold (undeliverable)") || !strings.Contains(stdout, "550 5.1.1 no such user") {
		t.Errorf("hold show does not say why:\n%s", stdout)
	}
	b.orders(t, 1, "no such message", "queue", "drop", ids[0])
	b.orders(t, 0, "1 message dropped", "hold", "drop", ids[0])
	b.relay.ClearFaults()
	b.orders(t, 0, "1 message released", "hold", "release", "--reason", "no such user")
	b.awaitEvent(t, "the delivery", func(e audit.Event) bool { return e.Txn == ids[1] && e.Custody == audit.CustodyRelay })
	if got, _ := b.list(t, "hold"); len(got) > 0 || len(b.relay.Messages()) != 1 {
		t.Errorf("in the end hold has %v and the relay %d messages", got, len(b.relay.Messages()))
	}
}

// TestQueueWithoutProxy: what a proxy has left in the spool can be looked at and
// not changed, and is there when the next one starts.
func TestQueueWithoutProxy(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	_ = b.relay.Close()
	l := newLetter()
	id := b.queue(t, siteUID, l)
	if err := b.run.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.list(t, "queue"); !slices.Equal(got, []string{id}) {
		t.Errorf("the files have %v, want %s", got, id)
	}
	b.checkShown(t, id, l)
	for _, verb := range []string{"retry", "drop"} {
		b.orders(t, 1, "no proxy is running: nobody answers", "queue", verb, id)
	}
	stdout, stderr, status := b.output("status")
	if status != 3 || !strings.Contains(stderr, "neither guard nor proxy is running") || !strings.Contains(stdout, "1 deferred") {
		t.Errorf("status ended with %d: %s%s", status, stdout, stderr)
	}
	b.relay = b.startRelay(relayAddr)
	b.start(setup{})
	b.awaitEvent(t, "the delivery", func(e audit.Event) bool { return e.Txn == id && e.Custody == audit.CustodyRelay })
	findOne(t, b.relay, l)
}

// TestQueueAccess: root and the socket's group may ask, and nobody else, also
// where somebody has opened the socket's mode.
func TestQueueAccess(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{noRelay: true})
	_, id := b.hold(t)
	const strangerUID, memberUID = 7101, 7102
	member := lab.AsUser(b.command("hold", "list"), memberUID, proxyUID)
	if said, err := member.CombinedOutput(); err != nil || !strings.Contains(string(said), id) {
		t.Errorf("a member of the group hears %v: %s", err, said)
	}
	for _, mode := range []os.FileMode{0o660, 0o666} {
		if err := os.Chmod(b.path("admin.sock"), mode); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"list"}, {"drop", id}, {"show", "--body", id}} {
			stranger := lab.AsUser(b.command("hold", args...), strangerUID, strangerUID)
			said, err := stranger.CombinedOutput()
			if exitStatus(err) != 1 || !strings.Contains(string(said), "smtpwall: error: only root, the proxy's user and members") || strings.Contains(string(said), id) {
				t.Errorf("with mode %o, a stranger's hold %v ends with %v: %s", mode, args, err, said)
			}
		}
	}
	if got, _ := b.list(t, "hold"); !slices.Equal(got, []string{id}) {
		t.Errorf("hold has %v, want %s", got, id)
	}
}

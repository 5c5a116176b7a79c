package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// proxyEnded is what run says of a proxy that a test killed.
const proxyEnded = "the proxy ended, the rules stay and it is started again"

// held are the files of the spool's directory of held messages.
func (b *bed) held(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(b.path("state", "spool", "hold"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// proxy is the process id of the proxy under run.
func (b *bed) proxy(t testing.TB) int {
	t.Helper()
	found := children(t, b.run.cmd.Process.Pid)
	if len(found) != 1 {
		t.Fatalf("run has the children %v, want the proxy alone", found)
	}
	return found[0]
}

// killProxy kills the proxy as the kernel might, and waits for the next one.
func (b *bed) killProxy(t testing.TB) {
	t.Helper()
	before := b.run.said.count("accepting mail")
	if err := syscall.Kill(b.proxy(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.run.said.await(t, "accepting mail", before+1)
}

// checkReleased: after a relay was configured every letter is at the relay, once,
// and the spool is empty.
func (b *bed) checkReleased(t testing.TB, letters ...letter) {
	t.Helper()
	for _, l := range letters {
		b.awaitEvent(t, "the delivery", func(e audit.Event) bool {
			return e.Custody == audit.CustodyRelay && e.ReversePath == l.marker+"@shop.example"
		})
	}
	if left := b.held(t); len(left) > 0 {
		t.Errorf("the spool still holds %v", left)
	}
	if n := len(b.relay.Messages()); n != len(letters) {
		t.Errorf("the relay has %d messages, want %d", n, len(letters))
	}
	for _, l := range letters {
		message := findOne(t, b.relay, l)
		txn := trace{"local process", "ESMTP"}.check(t, l.compare(t, message.Bytes))
		events := b.events("--id", txn)
		if len(events) != 2 || events[0].Custody != audit.CustodySpool || events[1].Custody != audit.CustodyRelay {
			t.Errorf("the events of %s say %+v", txn, events)
		}
	}
}

// hold sends a letter while no relay is configured.
func (b *bed) hold(t testing.TB) (letter, string) {
	t.Helper()
	l := newLetter()
	got := b.talk(t).send(l, l.marker+"@shop.example", recipient)
	if got.code != 250 || !strings.Contains(got.text, "held until a relay is configured") {
		t.Fatalf("without a relay the client hears %+v", got)
	}
	return l, got.txn(t)
}

// TestHeld: mail that comes before any relay survives the death of the proxy and
// of run right after its 250, and is delivered once when a relay is configured.
func TestHeld(t *testing.T) {
	t.Parallel()
	s := setup{noRelay: true, errors: []string{proxyEnded}}
	b := newBed(t, s)
	var letters []letter
	for range 3 {
		l, txn := b.hold(t)
		b.killProxy(t)
		letters = append(letters, l)
		if held := b.held(t); len(held) != len(letters) || !slices.ContainsFunc(held, func(name string) bool { return strings.Contains(name, txn) }) {
			t.Fatalf("after the proxy was killed the spool holds %v, want %s too", held, txn)
		}
	}
	l, _ := b.hold(t)
	letters = append(letters, l)
	if err := b.run.end(syscall.SIGKILL); err == errStays {
		t.Fatal(err)
	}
	b.start(s)
	b.reload(setup{})
	b.checkReleased(t, letters...)
	b.killProxy(t)
	if n := len(b.relay.Messages()); n != len(letters) {
		t.Errorf("after another start the relay has %d messages, want %d", n, len(letters))
	}
}

// TestHeldForOthers: recipients that the relay refuses for good stay in the
// spool, and the others are served.
func TestHeldForOthers(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{noRelay: true})
	l := newLetter()
	if got := b.talk(t).send(l, sender, recipient, "nobody@example.net"); got.code != 250 {
		t.Fatalf("the client hears %+v", got)
	}
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 no such user", Contains: "nobody"})
	b.reload(setup{})
	event := b.awaitEvent(t, "the delivery", func(e audit.Event) bool { return e.Relay == "main" })
	if event.Custody != audit.CustodySpool || len(event.Recipients) != 2 || event.Recipients[1].ReplyCode != 550 {
		t.Errorf("the event says %+v", event)
	}
	message := findOne(t, b.relay, l)
	if len(message.Recipients) != 1 || message.Recipients[0].Path != recipient {
		t.Errorf("the relay has it for %v", message.Recipients)
	}
	// By the next configuration the rest is tried again, and the first no more.
	b.relay.ClearFaults()
	b.reload(setup{config: "[policy]\n"})
	b.awaitEvent(t, "the second delivery", func(e audit.Event) bool { return e.Custody == audit.CustodyRelay })
	messages := b.relay.Messages()
	if len(messages) != 2 || len(messages[1].Recipients) != 1 || messages[1].Recipients[0].Path != "nobody@example.net" {
		t.Errorf("the relay has %d messages, the last %+v", len(messages), messages[len(messages)-1].Recipients)
	}
	if held := b.held(t); len(held) > 0 {
		t.Errorf("the spool still holds %v", held)
	}
}

// TestSyncBefore250: file and directory are synced, and only then the client
// hears 250.
func TestSyncBefore250(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{noRelay: true})
	output := b.path("strace")
	cmd := b.Host.Command(t.Context(), "strace", "-f", "-y", "-s", "64", "-o", output,
		"-e", "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,write", "-p", strconv.Itoa(b.proxy(t)))
	tracer := launch(t, cmd)
	tracer.said.await(t, "attached", 1)
	_, txn := b.hold(t)
	_ = tracer.end(syscall.SIGINT)
	calls := systemCalls(readFile(t, output))
	wanted := []*regexp.Regexp{
		regexp.MustCompile(`^f(data)?sync\(\d+<[^>]*/incoming/[^>]*` + txn + `[^>]*>\) += 0`),
		regexp.MustCompile(`^(rename|link)\w*\(.*/hold.*` + txn + `.*\) += 0`),
		regexp.MustCompile(`^fsync\(\d+<[^>]*/hold>\) += 0`),
		regexp.MustCompile(`^write\(.*"250 2\.0\.0 held until`),
	}
	for _, want := range wanted {
		at := slices.IndexFunc(calls, want.MatchString)
		if at < 0 {
			t.Fatalf("no %s after the calls before it; the trace:\n%s", want, readFile(t, output))
		}
		calls = calls[at+1:]
	}
}

// systemCalls are those of a trace, in the order in which they ended, but for
// write, which counts when it began.
func systemCalls(trace string) []string {
	var calls []string
	begun := map[string]string{} // by thread
	for line := range strings.Lines(trace) {
		thread, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		if start, ok := strings.CutSuffix(call, " <unfinished ...>"); ok {
			if strings.HasPrefix(start, "write(") {
				calls = append(calls, start)
			}
			begun[thread] = start
			continue
		}
		if _, rest, ok := strings.Cut(call, " resumed>"); ok && strings.HasPrefix(call, "<... ") {
			if strings.HasPrefix(begun[thread], "write(") {
				continue
			}
			call = begun[thread] + rest
		}
		calls = append(calls, call)
	}
	return calls
}

// TestFullSpool: no room is a transient refusal.
func TestFullSpool(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{noRelay: true, delivery: `spool_max = "1MiB"`, config: "[session]\nmax_message = \"1MiB\"\n"})
	k := b.talk(t)
	if got := k.send(bigLetter(700<<10), sender, recipient); got.code != 250 {
		t.Fatalf("the client hears %+v", got)
	}
	got := k.send(bigLetter(700<<10), sender, recipient)
	if got.code != 452 || !strings.HasPrefix(got.text, "4.3.1 ") {
		t.Errorf("the client hears %+v", got)
	}
	left, err := filepath.Glob(b.path("state", "spool", "*", "*"))
	if err != nil || len(left) != 1 || len(b.held(t)) != 1 {
		t.Errorf("the spool has %v, %v", left, err)
	}
	b.hold(t)
}

package e2e_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// TestSyncBefore250: wherever the spool takes a message, its file and its
// directory are synced, and only then the client hears 250.
func TestSyncBefore250(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		setup setup
		fault testkit.Fault // at the end of data
		text  string
		state string
	}{
		{"no relay", setup{noRelay: true}, testkit.Fault{}, "held until", "hold"},
		{"queue mode", setup{delivery: `mode = "queue"`}, testkit.Fault{}, "queued [", "deferred"},
		{"failing relay", setup{}, testkit.Fault{Text: "451 4.3.0 not now"}, "queued, the relay", "deferred"},
		{"lost reply", setup{}, testkit.Fault{Act: testkit.Reset}, "queued, the relay", "deferred"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, c.setup)
			if c.fault != (testkit.Fault{}) {
				b.relay.On(testkit.StepEnd, c.fault)
			}
			var txn string
			calls := b.trace(t, func() { txn = b.sendTraced(t, c.text) })
			rest := checkOrder(t, calls, custodySteps(txn, c.state))
			checkOrder(t, rest, []string{`^write\(.*"250 2\.0\.0 ` + regexp.QuoteMeta(c.text)})
		})
	}
}

// custodySteps are the calls that bring a message into the spool, for good.
func custodySteps(txn, state string) []string {
	return []string{
		`^f(data)?sync\(\d+<[^>]*/incoming/[^>]*` + txn + `[^>]*>\) += 0`,
		`^(rename|link)\w*\(.*/queue/` + txn + `\.` + state + `".*\) += 0`,
		`^fsync\(\d+<[^>]*/spool/queue>\) += 0`,
	}
}

// TestSyncBeforeEndOfData: where the relay takes a message for some recipients
// alone, and where it gets one from the spool, it is on disk that it may have it
// before it can have it.
func TestSyncBeforeEndOfData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, delivery, text string }{
		{"some recipients", "", "queued as"},
		{"from the spool", `mode = "queue"`, "queued ["},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{delivery: c.delivery})
			b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 mailbox is busy", Contains: "busy"})
			var txn string
			var took time.Time
			calls := b.trace(t, func() {
				txn = b.sendTraced(t, c.text, recipient, "busy@example.net")
				took = b.awaitMessage(t).At
			})
			steps := []string{
				`^rename\w*\(.*/queue/` + txn + `\.active".*\) += 0`,
				`^fsync\(\d+<[^>]*/spool/queue>\) += 0`,
			}
			if c.delivery == "" {
				steps = append(custodySteps(txn, "active"), steps[2:]...)
			}
			rest := checkOrder(t, calls, steps)
			if synced := calls[len(calls)-len(rest)-1].ended; synced.After(took) {
				t.Errorf("the relay had the end of the data at %s, the directory was synced at %s", took, synced)
			}
		})
	}
}

// awaitMessage waits for the first message at the relay.
func (b *bed) awaitMessage(t *testing.T) testkit.RelayMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	messages, err := b.relay.WaitMessages(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	return messages[0]
}

// sendTraced sends a letter, which must be answered with 250 and a text.
func (b *bed) sendTraced(t *testing.T, text string, to ...string) (txn string) {
	t.Helper()
	if len(to) == 0 {
		to = []string{recipient}
	}
	got := b.talk(t).send(newLetter(), sender, to...)
	if got.code != 250 || !strings.Contains(got.text, text) {
		t.Fatalf("the client hears %+v, want 250 and %q", got, text)
	}
	return got.txn(t)
}

// trace gives the calls that the proxy makes, and that matter here, while f runs.
func (b *bed) trace(t *testing.T, f func()) []call {
	t.Helper()
	output := b.path("strace")
	tracer := launch(t, b.Host.Command(t.Context(), "strace", "-f", "-y", "-ttt", "-T", "-s", "64", "-o", output,
		"-e", "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,write", "-p", strconv.Itoa(b.proxy(t))))
	tracer.said.await(t, "attached", 1)
	f()
	_ = tracer.end(syscall.SIGINT)
	return systemCalls(readFile(t, output))
}

// checkOrder finds calls one after the other and returns those behind.
func checkOrder(t *testing.T, calls []call, forms []string) (rest []call) {
	t.Helper()
	rest = calls
	for _, form := range forms {
		at := slices.IndexFunc(rest, func(c call) bool { return regexp.MustCompile(form).MatchString(c.text) })
		if at < 0 {
			var all strings.Builder
			for _, c := range calls {
				all.WriteString(c.text + "\n")
			}
			t.Fatalf("no %s after the calls before it; the trace:\n%s", form, all.String())
		}
		rest = rest[at+1:]
	}
	return rest
}

// call is one of a trace.
type call struct {
	text  string
	ended time.Time // but for write, which counts when it began
}

// systemCalls are those of a trace, in the order in which they ended, but for
// write, which counts when it began.
func systemCalls(trace string) []call {
	var calls []call
	begun := map[string]string{} // by thread
	for line := range strings.Lines(trace) {
		thread, stamped, _ := strings.Cut(strings.TrimSpace(line), " ")
		at, text, _ := strings.Cut(strings.TrimSpace(stamped), " ")
		if start, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
			if strings.HasPrefix(start, "write(") {
				calls = append(calls, call{start, moment(at)})
			}
			begun[thread] = start
			continue
		}
		if _, rest, ok := strings.Cut(text, " resumed>"); ok && strings.HasPrefix(text, "<... ") {
			if strings.HasPrefix(begun[thread], "write(") {
				continue
			}
			calls = append(calls, call{begun[thread] + rest, moment(at)})
			continue
		}
		calls = append(calls, call{text, moment(at).Add(lasted(text))})
	}
	return calls
}

// moment is a time as strace -ttt writes it.
func moment(text string) time.Time {
	seconds, fraction, _ := strings.Cut(text, ".")
	s, _ := strconv.ParseInt(seconds, 10, 64)
	µs, _ := strconv.ParseInt(fraction, 10, 64)
	return time.Unix(s, µs*1000)
}

var lastedForm = regexp.MustCompile(`<([0-9.]+)>$`)

// lasted is how long a call took, as strace -T writes it, or nothing.
func lasted(text string) time.Duration {
	found := lastedForm.FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	took, _ := time.ParseDuration(found[1] + "s")
	return took
}

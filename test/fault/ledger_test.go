package fault_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// entry is what is known of one letter to one recipient.
type entry struct {
	digest  [sha256.Size]byte
	heard   int  // the code of the last reply; 0: the connection ended first
	arrived int  // how often relays took it
	bounced bool // its sender was told that it will not arrive
}

// ledger is what clients heard, and what relays took.
type ledger struct {
	mu      sync.Mutex
	entries map[string]*entry // by marker and recipient
	waiting int               // those with a 250 that have not arrived
	strange []string          // what relays took that nobody sent so
}

func newLedger() *ledger { return &ledger{entries: map[string]*entry{}} }

// begin writes down a letter before it is sent: whatever becomes of it, it is
// not a stranger.
func (b *ledger) begin(l letter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, to := range l.to {
		b.entries[l.marker+" "+to] = &entry{digest: sha256.Sum256(l.text())}
	}
}

// end writes down what the client heard. A recipient that was refused by itself
// has its own reply.
func (b *ledger) end(l letter, last reply, rcpts []reply) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, to := range l.to {
		heard := last
		if i < len(rcpts) && rcpts[i].code != 250 {
			heard = rcpts[i]
		}
		e := b.entries[l.marker+" "+to]
		if e.heard = heard.code; e.waits() {
			b.waiting++
		}
	}
}

// waits says that the letter has to arrive yet.
func (e *entry) waits() bool { return e.heard == 250 && e.arrived == 0 && !e.bounced }

// take counts what a relay took.
func (b *ledger) take(messages []testkit.RelayMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range messages {
		for _, to := range m.Recipients {
			known := b.entries[m.Marker+" "+to.Path]
			switch {
			case known != nil && string(known.digest[:]) == m.Digest:
				if known.waits() {
					b.waiting--
				}
				known.arrived++
			case m.ReversePath == "" && b.isSender(to.Path):
				b.bounce(to.Path)
			default:
				b.strange = append(b.strange, fmt.Sprintf("%q from <%s> to <%s>, %d octets", m.Marker, m.ReversePath, to.Path, m.Size))
			}
		}
	}
}

func (b *ledger) isSender(path string) bool { return strings.HasSuffix(path, "@"+domain) }

// bounce notes that a sender got a notice of some kind.
func (b *ledger) bounce(sender string) {
	marker, _, _ := strings.Cut(sender, "@")
	for key, known := range b.entries {
		if strings.HasPrefix(key, marker+" ") {
			if known.waits() {
				b.waiting--
			}
			known.bounced = true
		}
	}
}

// verdict holds the ledger to the promise and says what is against it. marked
// says of which letters the audit has that a duplicate is possible.
func (b *ledger) verdict(marked map[string]bool) (broken []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, e := range b.entries {
		marker, _, _ := strings.Cut(key, " ")
		say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(key+": "+format, args...)) }
		switch {
		case e.waits():
			say("lost: the client heard 250 and no relay has it")
		case e.heard/100 >= 4 && e.arrived > 0 && !marked[marker]:
			say("the client heard %d and it arrived %d times", e.heard, e.arrived)
		}
		if e.arrived > 1 && !marked[marker] {
			say("arrived %d times and the audit does not say that it may; the client heard %d", e.arrived, e.heard)
		}
	}
	for _, what := range b.strange {
		broken = append(broken, "a relay took what nobody sent: "+what)
	}
	return broken
}

// heard is how many letters had this reply in the end.
func (b *ledger) heard(code int) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.heard == code {
			n++
		}
	}
	return n
}

// arrived is how many letters relays have.
func (b *ledger) arrived() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.arrived > 0 {
			n++
		}
	}
	return n
}

// repeated is how many letters relays have more than once.
func (b *ledger) repeated() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.arrived > 1 {
			n++
		}
	}
	return n
}

// hasArrived says whether a relay has a letter, for its first recipient.
func (b *ledger) hasArrived(l letter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entries[l.marker+" "+l.to[0]].arrived > 0
}

// outstanding is how many letters with a 250 no relay has, as far as was
// collected.
func (b *ledger) outstanding() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// send submits a letter over a connection of its own and keeps the book.
func (h *host) send(l letter) reply {
	h.ledger.begin(l)
	var last reply
	var rcpts []reply
	c, err := dial(h.socket())
	if err != nil {
		last.text = err.Error()
	} else {
		last, rcpts = c.send(l)
		c.close()
	}
	if h.power != nil && h.power.lost() && last.code != 250 {
		last.code, rcpts = 0, nil // said by a machine that was off
	}
	h.ledger.end(l, last, rcpts)
	return last
}

// must sends a letter that has to have this reply.
func (h *host) must(code int, l letter) {
	h.t.Helper()
	if got := h.send(l); got.code != code {
		h.t.Fatalf("the client heard %+v, want %d\n%s", got, code, h.log)
	}
}

// collect moves what the relays took into the ledger.
func (h *host) collect() {
	for _, relay := range h.relays {
		h.ledger.take(relay.TakeMessages())
	}
}

// retryPause is how long settle leaves the proxy alone between two orders.
const retryPause = 100 * time.Millisecond

// settle waits until the spool is empty, retrying what is in it, and holds the
// ledger to the promise.
func (h *host) settle(t testing.TB) {
	t.Helper()
	empty := func() bool { return len(h.spooled()) == 0 }
	for begun := time.Now(); !empty() && time.Since(begun) < patience; {
		h.retry()
		_ = within(retryPause, empty)
	}
	if left := h.spooled(); len(left) > 0 {
		t.Errorf("left in the spool after %s: %v\n%s", patience, left, h.log)
	}
	h.check(t)
}

// check holds the ledger to the promise as things are.
func (h *host) check(t testing.TB) {
	t.Helper()
	h.collect()
	broken := h.ledger.verdict(h.marked(t))
	for _, what := range broken[:min(len(broken), 10)] {
		t.Error(what)
		for _, event := range h.events(t) {
			if marker, _, _ := strings.Cut(event.ReversePath, "@"); strings.HasPrefix(what, marker) {
				t.Logf("the audit: %+v", event)
			}
		}
	}
	if len(broken) > 0 {
		t.Errorf("%d letters broke the promise", len(broken))
		t.Logf("the program log:\n%s", h.log)
	}
}

// spooled are the files of messages that the spool has custody of, with their
// directory.
func (h *host) spooled() []string { return h.files("queue", "hold", "corrupt") }

// files are those in some of the spool's directories.
func (h *host) files(dirs ...string) (names []string) {
	if h.power != nil {
		return h.power.files(h.spool, dirs)
	}
	h.in.do(func() {
		for _, dir := range dirs {
			found, _ := filepath.Glob(filepath.Join(h.spool, dir, "*"))
			for _, path := range found {
				names = append(names, dir+"/"+filepath.Base(path))
			}
		}
	})
	return names
}

// spooledAs are those in one state of queue/.
func (h *host) spooledAs(state string) (names []string) {
	for _, name := range h.spooled() {
		if strings.HasPrefix(name, "queue/") && strings.HasSuffix(name, "."+state) {
			names = append(names, name)
		}
	}
	return names
}

// events are those of the audit, but for the lines that a kill has torn.
func (h *host) events(t testing.TB) (events []audit.Event) {
	t.Helper()
	path := filepath.Join(h.dir, app.TransactionLog)
	torn := 0
	for event, err := range audit.Read(context.Background(), []string{path}, audit.Filter{}, false) {
		if err == nil {
			events = append(events, event)
		} else if torn++; torn > h.kills {
			t.Errorf("reading the audit after %d kills: %v", h.kills, err)
		}
	}
	return events
}

// marked are the letters of which the audit says that a duplicate is possible.
func (h *host) marked(t testing.TB) map[string]bool {
	t.Helper()
	marked := map[string]bool{}
	for _, event := range h.events(t) {
		if event.Custody == audit.CustodyUnknown || event.PossibleDuplicate {
			marker, _, _ := strings.Cut(event.ReversePath, "@")
			marked[marker] = true
		}
	}
	return marked
}

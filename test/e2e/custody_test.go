package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// stored are the files of the spool's messages, "ID.state", in order.
func (b *bed) stored(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(b.path("state", "spool", "queue", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		files[i] = filepath.Base(file)
	}
	return files
}

// checkStored: the spool comes to have these messages, "ID.state", and no others.
// It changes a moment after the event that tells why.
func (b *bed) checkStored(t testing.TB, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !soon(func() bool { return slices.Equal(b.stored(t), want) }) {
		t.Errorf("the spool has %v, want %v", b.stored(t), want)
	}
}

// soon says whether something comes true within a second.
func soon(happened func() bool) bool {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if happened() {
			return true
		}
	}
	return false
}

// retry tells smtpwall that the relay is well again, as a person does who looks
// whether it helped: an order that comes while a try is under way, which then
// fails, is of no use.
func (b *bed) retry(t testing.TB, txns ...string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		_, stderr, status := b.output("queue", "retry", "--all")
		if status != 0 && !strings.Contains(stderr, "being delivered at this moment") {
			t.Fatalf("queue retry --all ended with status %d: %s", status, stderr)
		}
		if soon(func() bool { return !b.stores(t, txns...) }) {
			return
		}
	}
	t.Fatalf("after many a retry the spool still has %v of %v", b.stored(t), txns)
}

// stores says whether the spool has one of these messages.
func (b *bed) stores(t testing.TB, txns ...string) bool {
	t.Helper()
	return slices.ContainsFunc(b.stored(t), func(name string) bool {
		id, _, _ := strings.Cut(name, ".")
		return slices.Contains(txns, id)
	})
}

// awaitDelivery waits until the relay has a message of the spool.
func (b *bed) awaitDelivery(t testing.TB, txn string) audit.Event {
	t.Helper()
	return b.awaitTry(t, txn, audit.CustodyRelay)
}

// awaitTry waits for a try that leaves a message in the custody of somebody.
func (b *bed) awaitTry(t testing.TB, txn, custody string) audit.Event {
	t.Helper()
	return b.awaitEvent(t, "a try of "+txn+", then of custody "+custody, func(e audit.Event) bool {
		return e.Kind == audit.KindDelivery && e.Txn == txn && e.Custody == custody
	})
}

// findAll finds each copy of a letter at a relay.
func findAll(relay *testkit.Relay, l letter) (found []testkit.RelayMessage) {
	for _, message := range relay.Messages() {
		if message.ReversePath != "" && bytes.Contains(message.Bytes, []byte(l.marker)) {
			found = append(found, message)
		}
	}
	return found
}

// arrivedLater is arrived for a letter that the spool had first.
func (b *bed) arrivedLater(t testing.TB, l letter, txn string, want trace) testkit.RelayMessage {
	t.Helper()
	b.awaitDelivery(t, txn)
	message := findOne(t, b.relay, l)
	if id := want.check(t, l.compare(t, message.Bytes)); id != txn {
		t.Errorf("the relay has the letter as %s, the client was told %s", id, txn)
	}
	event := b.transaction(t, txn)
	if event.Custody != audit.CustodySpool || event.ReplyCode != 250 || event.Size != int64(len(l.text)) || event.PossibleDuplicate {
		t.Errorf("the event says %+v", event)
	}
	if !soon(func() bool { return !b.stores(t, txn) }) {
		t.Errorf("the spool still has %s", txn)
	}
	return message
}

// checkCustody is held after each test: a transaction has one event, what we took
// on is in the spool or was answered for, what the client kept is not, and
// nobody got a message twice whose events do not say that it may be so.
func (b *bed) checkCustody() {
	b.t.Helper()
	transactions, ends, mayRepeat := map[string]audit.Event{}, map[string]audit.Event{}, map[string]bool{}
	for _, event := range b.events() {
		switch event.Kind {
		case audit.KindTransaction:
			if first, twice := transactions[event.Txn]; twice {
				b.t.Errorf("a transaction has two events: %+v, %+v", first, event)
			}
			transactions[event.Txn] = event
		case audit.KindDelivery:
			if last := ends[event.Txn]; last.Custody != "" && last.Custody != audit.CustodySpool && !event.PossibleDuplicate {
				b.t.Errorf("there is a try after the end of custody: %+v, %+v", last, event)
			}
			ends[event.Txn] = event
		}
		mayRepeat[event.Txn] = mayRepeat[event.Txn] || event.PossibleDuplicate
	}
	stored := b.checkSpool(ends)
	for txn, event := range transactions {
		last, tried := ends[txn]
		switch {
		case event.Custody != audit.CustodySpool && (tried || stored[txn]):
			b.t.Errorf("the spool has or had a message that is not ours: %+v, %+v", event, last)
		case event.Custody == audit.CustodySpool && !stored[txn] && (!tried || last.Custody == audit.CustodySpool):
			b.t.Errorf("a message is lost: %+v, last try %+v", event, last)
		}
	}
	b.checkCopies(mayRepeat)
}

// checkSpool gives the ids of the messages in the spool, which are all still
// ours, and finds what nobody has cleared away.
func (b *bed) checkSpool(ends map[string]audit.Event) map[string]bool {
	b.t.Helper()
	stored := map[string]bool{}
	for _, name := range b.stored(b.t) {
		id, state, _ := strings.Cut(name, ".")
		stored[id] = true
		if last, tried := ends[id]; tried && last.Custody != audit.CustodySpool {
			b.t.Errorf("the spool has %s, whose custody ended: %+v", name, last)
		}
		if state != "deferred" && state != "hold" {
			b.t.Errorf("the spool has %s after an end in good order", name)
		}
	}
	for _, room := range []string{"incoming", "corrupt"} {
		if left, err := os.ReadDir(b.path("state", "spool", room)); err != nil || len(left) > 0 {
			b.t.Errorf("in %s is %v, %v", room, left, err)
		}
	}
	return stored
}

var idForm = regexp.MustCompile(`by ` + regexp.QuoteMeta(hostName) + ` \(smtpwall\) with [A-Z0-9]+ id ([0-9A-Z]{26});`)

// checkCopies finds what a recipient has more than once, at whichever relay.
func (b *bed) checkCopies(mayRepeat map[string]bool) {
	b.t.Helper()
	copies := map[string]int{}
	for _, relay := range b.relays {
		for _, message := range relay.Messages() {
			found := idForm.FindSubmatch(message.Bytes[:min(len(message.Bytes), 4096)])
			if found == nil {
				continue // a notice of ours
			}
			for _, rcpt := range message.Recipients {
				key := fmt.Sprintf("%s for %s", found[1], rcpt.Path)
				if copies[key]++; copies[key] == 2 && !mayRepeat[string(found[1])] {
					b.t.Errorf("the relays have %s twice, and no event says so", key)
				}
			}
		}
	}
}

// With 100,000 messages of somebody else in its spool a proxy is ready within
// seconds of its start, and new mail passes them by.

package fault_test

import (
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

const (
	crowd       = 100_000
	readyTime   = 10 * time.Second // on a busy machine; alone it is about one
	passTime    = 5 * time.Second  // until a new message is at the relay
	crowdUID    = 4711             // whose messages they are
	crowdOctets = 400
)

func TestHundredThousandMessages(t *testing.T) {
	h := prepareHost(t, setup{delivery: `spool_max = "4GiB"`})
	h.store(crowdOf(crowd)...)
	begun := time.Now()
	h.start(plan{})
	ready := time.Since(begun)
	h.must(250, newLetter())
	answered := time.Since(begun)
	t.Logf("ready after %v, the first client had its 250 after %v", ready, answered)
	if answered > readyTime {
		t.Errorf("the first client had its 250 %v after the start, want %v at most", answered, readyTime)
	}
	h.awaitFair(t)
	// What becomes of the crowd's messages is not waited for: each is at the relay
	// or still here.
	h.kill()
	left := len(h.spooled())
	h.collect()
	if arrived := h.ledger.arrived(); arrived+left < crowd+fairLetters+1 {
		t.Errorf("%d have arrived and %d are in the spool, of %d", arrived, left, crowd+fairLetters+1)
	}
}

// fairLetters are sent while the crowd's are on their way.
const fairLetters = 10

// awaitFair sends letters one after the other, each of which has to be at the
// relay before long.
func (h *host) awaitFair(t *testing.T) {
	t.Helper()
	for range fairLetters {
		l := newLetter()
		h.must(250, l)
		if !within(passTime, func() bool { h.collect(); return h.ledger.hasArrived(l) }) {
			t.Fatalf("a new message has not arrived after %v; relays have %d messages", passTime, h.ledger.arrived())
		}
	}
}

// crowdOf are messages of one identity, all of them due.
func crowdOf(n int) []stored {
	all := make([]stored, n)
	taken := time.Now().Add(-time.Hour)
	for i := range all {
		l := newLetter()
		l.size = crowdOctets
		all[i] = newStored(l)
		all[i].uid, all[i].taken = crowdUID, taken.Add(time.Duration(i)*time.Millisecond)
	}
	return all
}

// TestSlowRelayDelaysNobodyElse: 1,000 messages that wait for a relay that
// stalls do not keep those of another relay.
func TestSlowRelayDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	h := prepareHost(t, setup{mode: "queue", relays: []string{"main", "slow"}, rules: `[[policy.rule]]
name = "crowd"
match = { uid = [4711] }
senders = ["*@` + domain + `"]
decision = "allow"
relay = "slow"
`})
	release := make(chan struct{})
	h.relays["slow"].On(testkit.StepMail, testkit.Fault{Act: testkit.Stall, Until: release})
	h.store(crowdOf(1000)...)
	h.start(plan{})
	h.awaitFair(t)
	if n := h.relays["slow"].Counters().Transactions; n > 0 {
		t.Errorf("the slow relay has %d messages", n)
	}
	h.relays["slow"].ClearFaults()
	close(release)
	h.settle(t)
}

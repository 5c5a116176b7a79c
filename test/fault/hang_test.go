// A relay that has the message and does not say so leaves the client with a
// 250, and the audit with a possible duplicate; one that does not have it gets
// it again.

package fault_test

import (
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// hanging are relays that say nothing after the final dot.
var hanging = map[string]struct {
	fault testkit.Fault
	twice bool // it has the message then
}{
	"with the message":    {testkit.Fault{Act: testkit.Silent, Times: 1}, true},
	"without the message": {testkit.Fault{Act: testkit.Stall, Times: 1}, false},
}

func TestRelayHangsAfterTheFinalDot(t *testing.T) {
	for name, hang := range hanging {
		for _, mode := range []string{"proxy", "queue"} {
			t.Run(mode+" "+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, setup{mode: mode})
				h.relay().On(testkit.StepEnd, hang.fault)
				l := newLetter()
				heard := make(chan reply, 1)
				go func() { heard <- h.send(l) }() // ends when it was heard, below
				eventually(t, "the relay hangs", func() bool { return h.relay().Counters().Faults == 1 })
				h.dropUntil(t, "the try is over", func() bool { return h.tries(t, l) > 0 })
				if got := <-heard; got.code != 250 {
					t.Fatalf("the client heard %+v", got)
				}
				h.settle(t)
				h.checkUnknown(t, l, hang.twice)
			})
		}
	}
}

// TestKilledWhileTheRelayHangs: the same where nobody lives to hear of it.
func TestKilledWhileTheRelayHangs(t *testing.T) {
	for name, hang := range hanging {
		for _, stop := range []bool{false, true} {
			t.Run(map[bool]string{false: "killed ", true: "stopped "}[stop]+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, setup{mode: "queue"})
				h.relay().On(testkit.StepEnd, hang.fault)
				l := newLetter()
				h.must(250, l)
				eventually(t, "the relay hangs", func() bool { return h.relay().Counters().Faults == 1 })
				if left := h.spooledAs("active"); len(left) != 1 {
					t.Errorf("the spool has %v as active while the relay may have the message", h.spooled())
				}
				if stop {
					h.stop()
				}
				h.restart()
				h.settle(t)
				h.checkUnknown(t, l, hang.twice)
			})
		}
	}
}

// checkUnknown holds one letter to what must have become of it.
func (h *host) checkUnknown(t *testing.T, l letter, twice bool) {
	t.Helper()
	want := 1
	if twice {
		want = 2
	}
	if n := h.ledger.entries[l.marker+" "+l.to[0]].arrived; n != want {
		t.Errorf("arrived %d times, want %d", n, want)
	}
	if !h.marked(t)[l.marker] {
		t.Errorf("the audit does not say that a duplicate is possible: %+v", h.events(t))
	}
}

// tries are the events of a letter after which a relay may have it.
func (h *host) tries(t *testing.T, l letter) (n int) {
	for _, event := range h.events(t) {
		if event.ReversePath == l.from() && (event.PossibleDuplicate || event.Custody == audit.CustodyUnknown) {
			n++
		}
	}
	return n
}

// dropUntil ends the relay's connections until something is so.
func (h *host) dropUntil(t *testing.T, what string, so func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		if so() {
			return true
		}
		h.relay().DropConnections()
		return within(stallTime, so)
	})
}

// A clock that jumps, forwards or back, makes no message wait for longer than
// the longest pause between two tries, and sends none back that no relay was
// asked to take.

package fault_test

import (
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

const day = 24 * time.Hour

// TestClockJumps: what was written with another date than today's is delivered,
// without a word from a person.
func TestClockJumps(t *testing.T) {
	now := time.Now()
	for name, wrong := range map[string]struct{ taken, next time.Time }{
		"back, so that the next try is far away":              {now, now.Add(400 * day)},
		"back, so that the message comes from the future":     {now.Add(400 * day), now.Add(400 * day)},
		"forwards, so that the message is years old":          {now.Add(-4000 * day), now.Add(-4000 * day)},
		"forwards by a week, while the host was switched off": {now.Add(-7 * day), now.Add(-7 * day)},
		"before there was any time":                           {time.Unix(0, 0), time.Unix(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := prepareHost(t, setup{})
			s := newStored(newLetter())
			s.taken = wrong.taken
			s.progress = []spool.Progress{{Time: wrong.taken, Attempts: 3, Next: wrong.next, Reason: "451 4.3.0 not now"}}
			h.store(s)
			h.start(plan{})
			eventually(t, "the message has left", func() bool { return len(h.spooled()) == 0 })
			h.check(t)
			if !h.ledger.hasArrived(s.letter) {
				t.Error("the message was sent back, though the relay would have taken it")
			}
		})
	}
}

// TestOldMessagesAndNoRelay: after a start at which everything is too old, and
// no relay is there yet, nothing is sent back either.
func TestOldMessagesAndNoRelay(t *testing.T) {
	for name, absent := range map[string]func(*testkit.Relay) error{
		"refuses connections": (*testkit.Relay).Down,
		"refuses for now": func(r *testkit.Relay) error {
			r.On(testkit.StepMail, testkit.Fault{Text: "451 4.3.0 not now"})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := prepareHost(t, setup{})
			if err := absent(h.relay()); err != nil {
				t.Fatal(err)
			}
			var all []stored
			for range 5 {
				s := newStored(newLetter())
				s.taken = time.Now().Add(-100 * day)
				all = append(all, s)
			}
			h.store(all...)
			h.start(plan{})
			for range 10 {
				h.retry()
				if n := len(h.spooled()); n != len(all) {
					t.Fatalf("%d messages are in the spool, want %d", n, len(all))
				}
				_ = within(retryPause, func() bool { return false })
			}
			h.relay().ClearFaults()
			h.up()
			h.settle(t)
			for _, s := range all {
				if !h.ledger.hasArrived(s.letter) {
					t.Error("a message was sent back, though the relay would have taken it")
				}
			}
		})
	}
}

// With the first of two relays down the second has the message at once, and the
// client hears its reply; with both down the message is kept for whichever comes
// first.

package fault_test

import (
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

func TestFirstRelayIsDown(t *testing.T) {
	failures := map[string]func(*testkit.Relay) error{
		"refuses connections": (*testkit.Relay).Down,
		"says 421": func(r *testkit.Relay) error {
			r.On(testkit.StepGreeting, testkit.Fault{Text: "421 4.3.2 shutting down"})
			r.DropConnections()
			return nil
		},
		"resets": func(r *testkit.Relay) error {
			r.On(testkit.StepHello, testkit.Fault{Act: testkit.Reset})
			r.DropConnections()
			return nil
		},
	}
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{relays: []string{"main", "second"}})
			if err := fail(h.relay()); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				h.must(250, newLetter())
				if left := h.spooled(); len(left) > 0 {
					t.Fatalf("the spool has %v", left)
				}
			}
			if n := len(h.relays["second"].Messages()); n != 10 {
				t.Errorf("the second relay has %d messages, want 10", n)
			}
			h.settle(t)
		})
	}
}

func TestBothRelaysAreDown(t *testing.T) {
	for _, back := range []string{"main", "second"} {
		t.Run(back+" comes back", func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{relays: []string{"main", "second"}})
			h.down()
			for range 10 {
				h.must(250, newLetter())
			}
			h.up(back)
			h.settle(t)
			h.must(250, newLetter())
			h.settle(t)
		})
	}
}

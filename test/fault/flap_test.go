// A relay that comes and goes all the time gets every message once, and no
// client notices.

package fault_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

func TestRelayFlaps(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{mode: mode})
			// Three connections are served, four closed before the greeting; and of
			// those served each fifth is reset at its second message.
			h.relay().On(testkit.StepGreeting, testkit.Fault{Act: testkit.Hangup, Skip: 3, Times: 4, Again: true})
			h.relay().On(testkit.StepMail, testkit.Fault{Act: testkit.Reset, Skip: 4, Times: 1, Again: true})
			const clients, each = 10, 20
			var sending sync.WaitGroup
			for i := range clients {
				sending.Go(func() {
					for range each {
						l := newLetter(fmt.Sprintf("customer%d@example.net", i))
						if got := h.send(l); got.code != 250 {
							t.Errorf("the client heard %+v", got)
						}
					}
				})
			}
			sending.Wait()
			h.settle(t)
			if n := len(h.marked(t)); n > 0 {
				t.Errorf("%d messages are marked as possible duplicates, and no end of data went wrong", n)
			}
		})
	}
}

// TestRelayIsUpAndDown: its port refuses, and serves again, over and over.
func TestRelayIsUpAndDown(t *testing.T) {
	t.Parallel()
	h := newHost(t, setup{})
	for range 20 {
		h.down()
		h.must(250, newLetter())
		h.up()
		h.must(250, newLetter())
	}
	h.settle(t)
}

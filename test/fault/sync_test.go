// A failed fsync is never taken for a 250: neither that of a file nor that of
// the directory, neither for one client nor for those that share it.

package fault_test

import (
	"fmt"
	"syscall"
	"testing"
)

func TestFailedSync(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		for _, op := range []string{"sync", "syncdir"} {
			t.Run(mode+" "+op, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, setup{mode: mode})
				h.down()
				h.arm(plan{Fail: 1, Times: -1, Errno: syscall.EIO, Ops: []string{op}})
				for range 3 {
					h.must(451, newLetter())
				}
				h.arm(plan{})
				h.must(250, newLetter())
				h.up()
				h.settle(t)
			})
		}
	}
}

// TestFailedSyncIsShared: of many clients at once those whose sync failed hear
// so, whoever of them it was that synced, and the others' messages arrive.
func TestFailedSyncIsShared(t *testing.T) {
	for _, op := range []string{"sync", "syncdir"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{mode: "queue"})
			h.down()
			h.arm(plan{Fail: 3, Times: 2, Errno: syscall.EIO, Ops: []string{op}})
			var letters []letter
			for i := range 40 {
				letters = append(letters, newLetter(fmt.Sprintf("customer%d@example.net", i)))
			}
			h.sendAll(letters...)
			taken := h.ledger.heard(250)
			if failed := len(h.seen().Failed); failed != 2 || taken == len(letters) {
				t.Errorf("%d syncs failed, and %d of %d clients heard 250", failed, taken, len(letters))
			}
			h.up()
			h.settle(t)
		})
	}
}

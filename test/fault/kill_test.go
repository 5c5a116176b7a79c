// Whatever step of the spool kill -9 hits, after a restart every message with a
// 250 arrives: once where the relay's reply was seen, else marked in the audit
// as a possible duplicate.

package fault_test

import (
	"testing"
)

func TestKillAtEveryStep(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := prepareHost(t, s.setup)
			for n := 1; ; n++ {
				h.start(plan{})
				h.arm(plan{Kill: n})
				s.tell(h)
				over := h.alive()
				if over && n == 1 {
					t.Fatal("the story has no step")
				}
				h.kill()
				h.relay().ClearFaults()
				h.up()
				h.start(plan{})
				h.settle(t)
				if t.Failed() {
					t.Fatalf("killed at point %d", n)
				}
				if over {
					t.Logf("%d points", n-1)
					return
				}
				h.kill()
			}
		})
	}
}

// TestKillInRecovery: the same while the spool is opened after a kill.
func TestKillInRecovery(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := prepareHost(t, s.setup)
			for first, over := 3, false; !over; first += 7 {
				for second := 1; ; second++ {
					h.start(plan{})
					h.arm(plan{Kill: first})
					s.tell(h)
					over = h.alive()
					h.kill()
					h.start(plan{Kill: second})
					recovered := h.alive()
					h.kill()
					h.relay().ClearFaults()
					h.up()
					h.start(plan{})
					h.settle(t)
					if t.Failed() {
						t.Fatalf("killed at point %d, then at point %d of the recovery", first, second)
					}
					h.kill()
					if recovered || over {
						break
					}
				}
			}
		})
	}
}

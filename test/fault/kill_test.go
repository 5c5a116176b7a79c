// Whatever step of the spool kill -9 hits, after a restart every message with a
// 250 arrives: once where the relay's reply was seen, else marked in the audit
// as a possible duplicate.

package fault_test

import (
	"slices"
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
				unfinished := h.files("incoming")
				h.start(plan{})
				// What is new there is of the running proxy: a message that it has
				// delivered already leaves its file to be overwritten.
				for _, left := range h.files("incoming") {
					if slices.Contains(unfinished, left) {
						t.Errorf("an unfinished message is there after the start: %v", left)
					}
				}
				h.heal()
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

// TestKillTwice: the same where the proxy is killed once more, at every step of
// what it does after the restart: recovery, the next try, what is said of it.
func TestKillTwice(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := prepareHost(t, s.setup)
			for first, over := 3, false; !over; first += 13 {
				for second, recovered := 1, false; !recovered; second++ {
					h.start(plan{})
					h.arm(plan{Kill: first})
					s.tell(h)
					over = h.alive()
					h.kill()
					h.heal()
					h.start(plan{Kill: second})
					h.drain()
					recovered = h.alive()
					h.kill()
					h.start(plan{})
					h.settle(t)
					h.kill()
					if t.Failed() {
						t.Fatalf("killed at point %d, then at point %d after the restart", first, second)
					}
				}
			}
		})
	}
}

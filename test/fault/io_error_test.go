// Whatever step of the spool fails with EIO, the client hears 4yz and keeps its
// message or hears 250 and it arrives, never both; and all is well as soon as
// the disk is.

package fault_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

func TestIOErrorAtEveryStep(t *testing.T) { failEverywhere(t, syscall.EIO) }

// failEverywhere lets one step after the other, of those named or of all, fail
// once in each story.
func failEverywhere(t *testing.T, errno syscall.Errno, ops ...string) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, s.setup)
			for n := 1; ; n++ {
				h.arm(plan{Fail: n, Times: 1, Errno: errno, Ops: ops})
				s.tell(h)
				seen := h.seen()
				h.arm(plan{})
				h.heal()
				if h.drain(); len(h.spooled()) > 0 {
					h.restart() // some things the proxy tries again no earlier than at its next start
				}
				h.settle(t)
				if t.Failed() {
					t.Fatalf("step %d failed: %v", n, seen.Failed)
				}
				if len(seen.Failed) == 0 {
					if n == 1 {
						t.Fatal("the story has no step")
					}
					t.Logf("%d steps", n-1)
					return
				}
			}
		})
	}
}

// TestIOErrorLasts: while each step of the spool fails, nobody hears 250 unless
// the relay has the message; a start is refused; afterwards all goes on.
func TestIOErrorLasts(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{mode: mode})
			h.arm(plan{Fail: 1, Times: -1, Errno: syscall.EIO})
			want := 250
			if mode == "queue" {
				want = 451
			}
			for range 3 {
				h.must(want, newLetter())
			}
			h.down()
			for range 3 {
				h.must(451, newLetter())
			}
			h.up()
			h.kill()
			if err := h.tryStart(plan{Fail: 1, Times: -1, Errno: syscall.EIO}); err == nil {
				t.Error("started on a disk that fails")
			}
			h.start(plan{})
			h.must(250, newLetter())
			h.settle(t)
		})
	}
}

// TestIOErrorWhileMailLeaves: what the spool has when the disk begins to fail
// stays there, and arrives when the disk is well.
func TestIOErrorWhileMailLeaves(t *testing.T) {
	for _, op := range []string{"open", "read", "write", "sync", "rename", "syncdir", "remove"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{mode: "queue"})
			h.down()
			for i := range 5 {
				h.must(250, newLetter(fmt.Sprintf("customer%d@example.net", i)))
			}
			h.arm(plan{Fail: 1, Times: -1, Errno: syscall.EIO, Ops: []string{op}})
			h.relay().On(testkit.StepEnd, testkit.Fault{Text: "451 4.3.0 not now", Times: 2}) // so that there is progress to write
			h.up()
			h.retry()
			eventually(t, "the spool has met the error", func() bool { h.retry(); return len(h.seen().Failed) > 0 })
			h.arm(plan{})
			h.restart()
			h.settle(t)
		})
	}
}

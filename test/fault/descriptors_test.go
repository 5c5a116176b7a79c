// Without a free file descriptor the proxy accepts nothing that it could lose,
// loses nothing that it has, and goes on once there are some again.

package fault_test

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNoDescriptors(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, setup{mode: mode})
			h.down()
			h.must(250, newLetter())
			var clients []*client
			for range 5 {
				c, err := dial(h.socket())
				if err != nil {
					t.Fatal(err)
				}
				defer c.close()
				clients = append(clients, c)
			}
			before := h.limitDescriptors(t, 0)
			for _, c := range clients {
				l := newLetter()
				h.ledger.begin(l)
				last, rcpts := c.send(l)
				h.ledger.end(l, last, rcpts)
				if last.code/100 != 4 {
					t.Errorf("the client heard %+v, want 4yz", last)
				}
			}
			h.up()
			if n := len(h.spooled()); n != 1 {
				t.Errorf("%d messages are in the spool, want 1", n)
			}
			h.limitDescriptors(t, before)
			h.must(250, newLetter())
			h.settle(t)
		})
	}
}

// limitDescriptors gives the child no more file descriptors than it has, or so
// many, and returns how many it could have before.
func (h *host) limitDescriptors(t *testing.T, limit uint64) (before uint64) {
	t.Helper()
	pid := h.child.cmd.Process.Pid
	if limit == 0 {
		for open := descriptors(t, pid); open[limit]; limit++ { // up to the first that is free
		}
	}
	var old unix.Rlimit
	err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old)
	if err == nil {
		err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}, nil)
	}
	if err != nil {
		t.Fatalf("limiting the proxy's descriptors: %v", err)
	}
	return old.Cur
}

func descriptors(t *testing.T, pid int) map[uint64]bool {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	open := map[uint64]bool{}
	for _, entry := range entries {
		fd, err := strconv.ParseUint(entry.Name(), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		open[fd] = true
	}
	return open
}

// TestNoDescriptorAtEveryStep: the spool finds none at each step that needs one.
func TestNoDescriptorAtEveryStep(t *testing.T) {
	failEverywhere(t, syscall.EMFILE, "open", "create", "syncdir")
}

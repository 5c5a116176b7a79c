// A full disk refuses with 452 4.3.1 what it has no room for, keeps what it
// had, and takes mail again once there is room.

package fault_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The disk of a host that is about to be full. The spool leaves 64 MiB to
// others, so that it has 32 for itself.
const smallDisk = 96 << 20

func TestFullDisk(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := hostOnSmallDisk(t, mode)
			h.down()
			h.must(250, newLetter())

			h.leave(t, 65<<20) // 1 MiB for the spool
			h.must(250, newLetter())
			tooBig := newLetter()
			tooBig.size = 2 << 20
			h.mustBeFull(t, tooBig)

			h.leave(t, 1<<20) // less than is left to others
			h.mustBeFull(t, newLetter())

			h.leave(t, 0)
			h.mustBeFull(t, newLetter())
			h.kill()
			h.start(plan{}) // there is room for no file, and two messages are there
			if len(h.spooled()) != 2 {
				t.Errorf("after a start on a full disk the spool has %v", h.spooled())
			}
			h.mustBeFull(t, newLetter())
			h.up()
			if mode == "proxy" { // which needs no disk for that
				eventually(t, "the relay is used again", func() bool { h.retry(); return h.send(newLetter()).code == 250 })
			}

			h.leave(t, smallDisk)
			h.must(250, newLetter())
			h.settle(t)
		})
	}
}

// TestDiskFillsMeanwhile: the room is there when the data begins, and gone in
// the midst of it.
func TestDiskFillsMeanwhile(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			h := hostOnSmallDisk(t, mode)
			h.down()
			h.must(250, newLetter())
			l := newLetter()
			l.size = 4 << 20
			h.ledger.begin(l)
			c, err := dial(h.socket())
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			text := string(l.text())
			last := c.say("MAIL FROM:<%s>", l.from())
			for _, line := range []string{"RCPT TO:<" + l.to[0] + ">", "DATA"} {
				if last.code == 250 {
					last = c.say("%s", line)
				}
			}
			if last.code != 354 {
				t.Fatalf("the data was not asked for: %+v", last)
			}
			w := c.text.DotWriter()
			if _, err := w.Write([]byte(text[:1<<20])); err != nil {
				t.Fatal(err)
			}
			h.leave(t, 0)
			_, _ = w.Write([]byte(text[1<<20:])) // it may be refused before its end
			_ = w.Close()
			last = c.read()
			h.ledger.end(l, last, nil)
			if last.code != 452 || !strings.HasPrefix(last.text, "4.3.1 ") {
				t.Errorf("the client heard %+v, want 452 4.3.1", last)
			}
			h.leave(t, smallDisk)
			h.up()
			h.must(250, newLetter())
			h.settle(t)
		})
	}
}

// TestNoSpaceAtEveryStep: the same at each step, where no other program's needs
// but chance decides which one it is.
func TestNoSpaceAtEveryStep(t *testing.T) {
	failEverywhere(t, syscall.ENOSPC, "create", "mkdir", "write", "truncate", "sync", "rename", "syncdir")
}

func hostOnSmallDisk(t *testing.T, mode string) *host {
	t.Helper()
	at := t.TempDir()
	space := newMountSpace(t, at, smallDisk)
	return newHost(t, setup{mode: mode, in: space, spool: filepath.Join(at, "spool")})
}

// leave sees to it that so many octets are free on the small disk, as far as
// that depends on a file that is none of the spool's.
func (h *host) leave(t *testing.T, octets int64) {
	t.Helper()
	var err error
	h.in.do(func() { err = leaveFree(filepath.Dir(h.spool), octets) })
	if err != nil {
		t.Fatalf("filling the disk: %v", err)
	}
}

func leaveFree(dir string, octets int64) error {
	file, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	defer file.Close()
	for {
		var disk unix.Statfs_t
		if err := unix.Fstatfs(int(file.Fd()), &disk); err != nil {
			return err
		}
		fill := int64(disk.Bfree)*disk.Bsize - octets
		if fill <= 0 {
			return nil
		}
		// The proxy writes too, so that it may be too much by now.
		if err = unix.Fallocate(int(file.Fd()), 0, 0, fill); !errors.Is(err, unix.ENOSPC) {
			return err
		}
	}
}

// mustBeFull sends what there is no room for.
func (h *host) mustBeFull(t *testing.T, l letter) {
	t.Helper()
	if got := h.send(l); got.code != 452 || !strings.HasPrefix(got.text, "4.3.1 ") {
		t.Errorf("the client heard %+v, want 452 4.3.1", got)
	}
}

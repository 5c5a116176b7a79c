package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// story is what the outside world was told in the course of a run.
type story struct {
	sent      map[string]string // id → text, whether or not it was committed
	committed map[string]bool   // Commit returned nil: the client got its 250
	removing  map[string]bool   // Remove was called
	removed   map[string]bool   // Remove returned nil
	damaged   map[string]bool   // the disk has changed it behind our back
	rewriting map[string]bool   // Rewrite was called
	rewritten map[string]bool   // Rewrite returned nil
}

func newStory() story {
	return story{
		sent: map[string]string{}, committed: map[string]bool{}, removing: map[string]bool{}, removed: map[string]bool{},
		damaged: map[string]bool{}, rewriting: map[string]bool{}, rewritten: map[string]bool{},
	}
}

// text is what message id says. It is longer than any buffer on its way.
func text(id string) string {
	return strings.Repeat("Subject: "+id+"\r\n", 5_500)
}

// tell runs a spool through its life until something fails, as it does when the
// disk crashes.
func tell(disk *simdisk.Disk) (st story, err error) {
	st = newStory()
	s, err := Open("/var/spool", Options{FS: disk})
	if err != nil {
		return st, err
	}
	for _, id := range []string{"A", "B", "C"} {
		if err := st.put(s, id); err != nil {
			return st, err
		}
	}
	m, err := s.Read("B")
	if err != nil {
		return st, err
	}
	m.Close()
	if err := st.remove(s, "B"); err != nil {
		return st, err
	}
	if err := st.damage(s, "C"); err != nil {
		return st, err
	}
	if err := st.rewrite(s, "A"); err != nil {
		return st, err
	}
	w, err := s.Create(Entry{ID: "Aborted"})
	if err != nil {
		return st, err
	}
	w.Abort()
	return st, st.put(s, "D")
}

func (st story) put(s *Spool, id string) error {
	st.sent[id] = text(id)
	e := sampleEntry()
	e.ID = id
	_, err := tryPut(s, e, st.sent[id])
	st.committed[id] = err == nil
	return err
}

func (st story) remove(s *Spool, id string) error {
	st.removing[id] = true
	err := s.Remove(id)
	st.removed[id] = err == nil
	return err
}

const rewrittenReason = "the relay took it for some"

func (st story) rewrite(s *Spool, id string) error {
	st.rewriting[id] = true
	err := s.Rewrite(id, func(e *Entry) {
		e.Reason = rewrittenReason
		e.Envelope.Recipients = e.Envelope.Recipients[1:]
	})
	st.rewritten[id] = err == nil
	return err
}

// damage changes one byte of a message on the disk, and lets the spool find out.
func (st story) damage(s *Spool, id string) error {
	f, err := s.fs.OpenFile(s.path(holdDir, id), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	st.damaged[id] = true
	if _, err := f.WriteAt([]byte{'#'}, 1000); err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	_, err = s.Read(id)
	switch {
	case err == nil:
		return errors.New("damage was not noticed")
	case errors.Is(err, simdisk.ErrCrashed), errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENOSPC):
		return err // and could not be put aside
	case errors.Is(err, ErrDamaged):
		return nil
	}
	return err
}

// check compares a spool with the story.
func (st story) check(t *testing.T, disk *simdisk.Disk) {
	t.Helper()
	s, err := Open("/var/spool", Options{FS: disk})
	if err != nil {
		t.Fatalf("opening after the restart: %v", err)
	}
	defer s.Close()
	entries, err := s.List()
	if err != nil {
		t.Fatalf("listing: %v", err)
	}
	listed := map[string]bool{}
	for _, e := range entries {
		listed[e.ID] = true
		if st.damaged[e.ID] {
			continue
		}
		if _, got := get(t, s, e.ID); got != st.sent[e.ID] {
			t.Errorf("message %s is not whole: %d bytes of %d", e.ID, len(got), len(st.sent[e.ID]))
		}
		if changed := e.Reason == rewrittenReason && len(e.Envelope.Recipients) == 1; changed && !st.rewriting[e.ID] || !changed && st.rewritten[e.ID] {
			t.Errorf("message %s has the wrong entry: %+v", e.ID, e)
		}
		if st.removed[e.ID] {
			t.Errorf("message %s is back", e.ID)
		}
	}
	for id, ours := range st.committed {
		if ours && !st.removing[id] && !listed[id] && !(st.damaged[id] && st.isAside(s, id)) {
			t.Errorf("message %s is lost", id)
		}
	}
	st.checkTidy(t, s)
}

// isAside reports whether a damaged message was put aside.
func (st story) isAside(s *Spool, id string) bool {
	f, err := s.fs.OpenFile(s.path(corruptDir, id), os.O_RDONLY, 0)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// checkTidy looks for what should not be there, and for a wrong count.
func (st story) checkTidy(t *testing.T, s *Spool) {
	t.Helper()
	var held int64
	for _, state := range []string{incomingDir, holdDir, corruptDir} {
		err := s.eachFile(state, func(e fs.DirEntry) error {
			info, err := e.Info()
			if err != nil {
				return err
			}
			held += info.Size()
			if state == incomingDir || state == corruptDir && !st.damaged[e.Name()] {
				t.Errorf("%s has %s", state, e.Name())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if held != s.Used() {
		t.Errorf("%d bytes in files, %d counted", held, s.Used())
	}
	if _, err := tryPut(s, Entry{ID: "After"}, "works again"); err != nil {
		t.Errorf("not usable after the restart: %v", err)
	}
}

// steps is how many steps a run without failure takes.
func steps(t *testing.T) int {
	t.Helper()
	disk := simdisk.New()
	if _, err := tell(disk); err != nil {
		t.Fatal(err)
	}
	return disk.Steps()
}

// losses are the ways in which a disk may come back.
func losses(try func(name string, loss simdisk.Loss, seed uint64)) {
	try("killed", simdisk.Kill, 0)
	try("power lost", simdisk.Power, 0)
	for seed := range uint64(12) {
		try(fmt.Sprintf("torn %d", seed), simdisk.Torn, seed)
	}
}

// TestCrashAnywhere stops the machine at every step of a spool's life.
func TestCrashAnywhere(t *testing.T) {
	n := steps(t)
	t.Logf("%d crash points", n)
	for crash := range n + 1 {
		disk := simdisk.New()
		disk.CrashAt = crash
		st, err := tell(disk)
		if crash < n && !errors.Is(err, simdisk.ErrCrashed) {
			t.Fatalf("step %d: %v", crash, err)
		}
		losses(func(name string, loss simdisk.Loss, seed uint64) {
			t.Run(fmt.Sprintf("step %d %s", crash, name), func(t *testing.T) {
				st.check(t, disk.Restart(loss, seed))
			})
		})
	}
}

// TestCrashInRecovery stops the machine again while the spool is opened.
func TestCrashInRecovery(t *testing.T) {
	n := steps(t)
	for crash := 0; crash < n; crash += 7 {
		disk := simdisk.New()
		disk.CrashAt = crash
		st, _ := tell(disk)
		for again := range 14 {
			losses(func(name string, loss simdisk.Loss, seed uint64) {
				second := disk.Restart(loss, seed)
				second.CrashAt = again
				if s, err := Open("/var/spool", Options{FS: second}); err == nil {
					s.Close()
				} else if !errors.Is(err, simdisk.ErrCrashed) {
					t.Fatalf("step %d, then %d, %s: %v", crash, again, name, err)
				}
				st.check(t, second.Restart(loss, seed+100))
			})
		}
	}
}

// TestFailureAnywhere lets every single step fail once. Who got an error keeps
// his message, and the spool does not; who got none is safe.
func TestFailureAnywhere(t *testing.T) {
	n := steps(t)
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for step := range n {
			t.Run(fmt.Sprintf("%v at step %d", errno, step), func(t *testing.T) {
				disk := simdisk.New()
				var failed simdisk.Step
				disk.Fail = func(s simdisk.Step) error {
					if s.N != step {
						return nil
					}
					failed = s
					return errno
				}
				st, err := tell(disk)
				if err == nil {
					// Only what was to be cleaned up or read may fail unseen.
					if failed.Op != "close" && failed.Op != "remove" {
						t.Errorf("nobody heard of %+v", failed)
					}
				} else if !errors.Is(err, errno) {
					t.Errorf("%+v became %v", failed, err)
				}
				if errno == syscall.ENOSPC && writes(failed.Op) && strings.Contains(failed.Name, "incoming/") && !errors.Is(err, ErrFull) {
					t.Errorf("%+v became %v, not ErrFull", failed, err)
				}
				disk.Fail = nil
				st.checkRefused(t, disk)
				st.check(t, disk.Restart(simdisk.Power, 0))
				st.check(t, disk.Restart(simdisk.Kill, 0))
			})
		}
	}
}

// writes reports whether a step may find the disk full.
func writes(op string) bool { return op == "write" || op == "sync" || op == "rename" }

// checkRefused makes sure that a message that was refused is not there.
func (st story) checkRefused(t *testing.T, disk *simdisk.Disk) {
	t.Helper()
	s := newSpool("/var/spool", Options{FS: disk})
	for id, ours := range st.committed {
		if ours || st.damaged[id] {
			continue
		}
		if _, err := s.Read(id); !errors.Is(err, ErrUnknown) {
			t.Errorf("refused message %s: %v", id, err)
		}
	}
}

// TestDiskFills lets the disk fill up in the middle of a message.
func TestDiskFills(t *testing.T) {
	disk := simdisk.New()
	disk.Capacity = 250_000
	s, err := Open("/var/spool", Options{FS: disk, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, Entry{ID: "First"}, text("First"))
	if _, err := tryPut(s, Entry{ID: "Second"}, strings.Repeat("x", 300_000)); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	// The room is free again.
	put(t, s, Entry{ID: "Third"}, text("Third"))
	if entries, err := s.List(); len(entries) != 2 || err != nil {
		t.Errorf("listed %v, %v", entries, err)
	}
}

// TestFloor leaves some of the disk to others.
func TestFloor(t *testing.T) {
	disk := simdisk.New()
	disk.Capacity = 1_000_000
	s, err := Open("/var/spool", Options{FS: disk, MinFree: 999_000})
	if err != nil {
		t.Fatal(err)
	}
	e := sampleEntry()
	e.Envelope.Params.Size = 2000
	before := disk.Steps()
	if _, err := s.Create(e); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if n := disk.Steps() - before; n != 1 {
		t.Errorf("%d steps to refuse, want 1", n)
	}
	if s.Used() != 0 {
		t.Errorf("%d bytes reserved", s.Used())
	}
}

// TestReadFails: a disk that cannot be read now may be read later, so that the
// message stays where it is.
func TestReadFails(t *testing.T) {
	disk := simdisk.New()
	s, err := Open("/var/spool", Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	id := put(t, s, sampleEntry(), text("x"))
	disk.Fail = func(step simdisk.Step) error {
		if step.Op == "read" {
			return syscall.EIO
		}
		return nil
	}
	if _, err := s.Read(id); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if _, err := s.List(); !errors.Is(err, syscall.EIO) {
		t.Errorf("listing: %v", err)
	}
	disk.Fail = nil
	m, err := s.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(m); string(b) != text("x") || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

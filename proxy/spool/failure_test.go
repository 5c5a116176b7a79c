package spool

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// TestFailureAnywhere lets every single step fail once. Who got an error keeps
// his message, and the spool does not; who got none is safe.
func TestFailureAnywhere(t *testing.T) {
	for name, tell := range stories {
		n := steps(t, tell)
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EMFILE} {
			for step := range n {
				t.Run(fmt.Sprintf("%s, %v at step %d", name, errno, step), func(t *testing.T) { failAt(t, tell, step, errno) })
			}
		}
	}
}

func failAt(t *testing.T, tell story, step int, errno syscall.Errno) {
	disk := simdisk.New()
	var failed simdisk.Step
	disk.Fail = func(s simdisk.Step) error {
		if s.N != step {
			return nil
		}
		failed = s
		return errno
	}
	w, err := tell(disk)
	elsewise := errno == syscall.ENOSPC && failed.Op == "rename" && strings.Contains(failed.Name, queueDir) // removed, and not kept
	if err == nil && !w.forgives(failed) && !elsewise {
		t.Errorf("nobody heard of %+v", failed)
	}
	if err != nil && !errors.Is(err, errno) {
		t.Errorf("%+v became %v", failed, err)
	}
	if errno == syscall.ENOSPC && writes(failed.Op) && strings.Contains(failed.Name, "incoming/") && !errors.Is(err, ErrFull) {
		t.Errorf("%+v became %v, not ErrFull", failed, err)
	}
	disk.Fail = nil
	w.checkNow(t)
	w.checkRestarted(t, disk.Restart(simdisk.Power, 0), simdisk.Power)
	w.checkRestarted(t, disk.Restart(simdisk.Kill, 0), simdisk.Kill)
}

// forgives reports whether a step may fail unseen: what was to be cleaned up, what
// was read before, and at the start the note on an interrupted try, which is kept
// in mind.
func (w *world) forgives(s simdisk.Step) bool {
	noted := strings.HasSuffix(s.Name, ".active") && s.N >= w.starting && s.N < w.started
	return s.Op == "close" || s.Op == "remove" && !strings.Contains(s.Name, "queue/") || noted
}

// writes reports whether a step may find the disk full.
func writes(op string) bool { return op == "write" || op == "sync" || op == "rename" }

// TestDiskFills lets the disk fill up in the middle of a message.
func TestDiskFills(t *testing.T) {
	disk := simdisk.New()
	disk.Capacity = 250_000
	s, err := Open("/var/spool", Options{FS: disk, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, Entry{ID: "First"}, textOf("BigFirst"))
	if _, err := tryPut(s, Entry{ID: "Second"}, strings.Repeat("x", 300_000), Deferred); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	// The room is free again.
	put(t, s, Entry{ID: "Third"}, textOf("BigThird"))
	if ids := list(t, s); len(ids) != 2 {
		t.Errorf("listed %v", ids)
	}
	// A try that finds no room for its line changes nothing, and the next one
	// that does is not hidden by what it has left.
	disk.Capacity = 0
	if err := s.Settle("First", Progress{Attempts: 1}, Deferred); !errors.Is(err, ErrFull) {
		t.Errorf("settled: %v", err)
	}
	if item, err := s.Show("First"); err != nil || item.State != Hold || item.Progress.Attempts != 0 {
		t.Errorf("%+v, %v", item, err)
	}
	disk.Capacity = 1 << 20
	if err := s.Settle("First", Progress{Attempts: 2}, Deferred); err != nil {
		t.Fatal(err)
	}
	if item, err := s.Show("First"); err != nil || item.State != Deferred || item.Progress.Attempts != 2 {
		t.Errorf("%+v, %v", item, err)
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
	tee := s.Tee(func() Entry { return e })
	io.WriteString(tee, "x")
	if err := tee.Commit(Deferred, Progress{}); !errors.Is(err, ErrFull) {
		t.Errorf("committed: %v", err)
	}
	if used(s) != 0 {
		t.Errorf("%d bytes reserved", used(s))
	}
}

// TestFloorMeanwhile: messages of no declared size do not take what is left to
// others, however many come together, and one that had room keeps it.
func TestFloorMeanwhile(t *testing.T) {
	const floor, sessions = 10 << 20, 4
	disk := simdisk.New()
	disk.Capacity = 30 << 20
	s, err := Open("/var/spool", Options{FS: disk, MinFree: floor})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var full int
	writers := make([]*Writer, sessions)
	for i := range writers {
		if writers[i], err = s.Create(sampleEntry()); err != nil {
			t.Fatal(err)
		}
		defer writers[i].Abort()
	}
	for range 10 << 20 / spillSize {
		for _, w := range writers {
			if _, err := w.Write(make([]byte, spillSize)); err != nil {
				if full++; !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			}
			if free, _ := disk.Free("/"); free < floor-sessions*lookEvery {
				t.Fatalf("%d bytes are left", free)
			}
		}
	}
	if full == 0 {
		t.Error("there was room for all")
	}
	if free, _ := disk.Free("/"); free < floor-lookEvery {
		t.Errorf("%d bytes are left", free)
	}
	for i, w := range writers {
		if err := w.Commit(Deferred, Progress{}); err == nil {
			return
		} else if i == sessions-1 {
			t.Errorf("none of them has room: %v", err)
		}
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
	id := put(t, s, sampleEntry(), textOf("Big"))
	disk.Fail = func(step simdisk.Step) error {
		if step.Op == "read" {
			return syscall.EIO
		}
		return nil
	}
	if _, err := s.Read(id); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	for item, err := range s.All() {
		if item.ID != id || !errors.Is(err, syscall.EIO) {
			t.Errorf("listing %q: %v", item.ID, err)
		}
	}
	disk.Fail = nil
	if _, got := get(t, s, id); got != textOf("Big") {
		t.Errorf("%d bytes", len(got))
	}
}

// TestResumeFails: a try that was cut short and cannot be written down at the
// start is marked all the same, now and after the next start.
func TestResumeFails(t *testing.T) {
	disk := simdisk.New()
	w := newWorld(disk)
	if err := errors.Join(w.open(), w.commit("A", Active, false), w.s.Close()); err != nil {
		t.Fatal(err)
	}
	disk.Fail = func(step simdisk.Step) error {
		if strings.HasSuffix(step.Name, ".active") && step.Op == "write" {
			return syscall.ENOSPC
		}
		return nil
	}
	for range 2 {
		s, err := Open("/var/spool", Options{FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		item, err := s.Show("A")
		if err != nil || item.State != Deferred || !item.Progress.PossibleDuplicate {
			t.Errorf("%+v, %v", item, err)
		}
		if err := s.Activate("A"); err != nil {
			t.Error(err)
		}
		s.Close()
	}
	disk.Fail = nil
	s, err := Open("/var/spool", Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Settle("A", Progress{Attempts: 1, PossibleDuplicate: true}, Deferred); err != nil {
		t.Fatal(err)
	}
	if item, err := s.Show("A"); err != nil || !item.Progress.PossibleDuplicate || item.Progress.Attempts != 1 {
		t.Errorf("%+v, %v", item, err)
	}
}

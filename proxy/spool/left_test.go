package spool

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// leftFiles is how many files of removed messages wait.
func leftFiles(s *Spool) (n int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spares.left), s.index.spare
}

// never keeps a spool from syncing by itself.
func never(t *testing.T, disk *simdisk.Disk) *Spool {
	t.Helper()
	s, err := Open("/var/spool", Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	s.group.soon = -1
	return s
}

// TestLeft: the file of a removed message becomes another's once it can come back
// no more, and has nothing of the first.
func TestLeft(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	s.group.soon = -1
	old := put(t, s, sampleEntry(), strings.Repeat("old line\r\n", 3000))
	made, err := os.Stat(s.queuePath(old, Hold))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(old); err != nil {
		t.Fatal(err)
	}
	same := func(id string) bool {
		st, err := os.Stat(s.queuePath(id, Hold))
		return err == nil && os.SameFile(made, st)
	}
	if id := put(t, s, sampleEntry(), "before the sync"); same(id) {
		t.Error("overwritten before its removal was durable")
	}
	id := put(t, s, sampleEntry(), "after the sync") // that of the one before
	if !same(id) {
		t.Error("another file was made")
	}
	raw, err := os.ReadFile(s.queuePath(id, Hold))
	item, text := get(t, s, id)
	if err != nil || strings.Contains(string(raw), "old line") || text != "after the sync" || item.Stored != int64(len(raw)) || item.Progress.PossibleDuplicate {
		t.Errorf("%q, %q, %v", raw, text, err)
	}
	if n, bytes := leftFiles(s); n != 0 || bytes != 0 || used(s) != 2*blockSize || s.index.lent != 0 {
		t.Errorf("%d files of %d bytes left, %d used", n, bytes, used(s))
	}
}

// TestLeftOpen: a message that somebody reads stays what it is until he has.
func TestLeftOpen(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id := put(t, s, sampleEntry(), "being read")
	o, err := s.open(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Remove(id), s.Sync(context.Background())); err != nil {
		t.Fatal(err)
	}
	put(t, s, sampleEntry(), "another one")
	if raw, err := io.ReadAll(o); err != nil || !strings.Contains(string(raw), "being read") {
		t.Errorf("%q, %v", raw, err)
	}
	if n, _ := leftFiles(s); n != 0 {
		t.Errorf("%d files left", n)
	}
	o.close()
	id = put(t, s, sampleEntry(), "short")
	m, err := s.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := errors.Join(s.Remove(id), s.Sync(context.Background())); err != nil {
		t.Fatal(err)
	}
	put(t, s, sampleEntry(), "wrong")
	if text, err := io.ReadAll(m); err != nil || string(text) != "short" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestLeftDoubtful: after a failed sync nobody knows whether a removed message may
// come back, whatever a later one says.
func TestLeftDoubtful(t *testing.T) {
	disk := simdisk.New()
	s := never(t, disk)
	defer s.Close()
	id := put(t, s, sampleEntry(), "old")
	if err := s.Remove(id); err != nil {
		t.Fatal(err)
	}
	disk.Fail = func(step simdisk.Step) error {
		if step.Op == "syncdir" {
			return syscall.EIO
		}
		return nil
	}
	if err := s.Sync(context.Background()); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	disk.Fail = nil
	if err := s.Sync(context.Background()); err != nil {
		t.Error(err)
	}
	put(t, s, sampleEntry(), "new")
	if n, _ := leftFiles(s); n != 1 {
		t.Errorf("%d files left: it was overwritten", n)
	}
}

// TestLeftFull: a message can be removed where no name can be made.
func TestLeftFull(t *testing.T) {
	disk := simdisk.New()
	s := never(t, disk)
	defer s.Close()
	id := put(t, s, sampleEntry(), "old")
	disk.Fail = func(step simdisk.Step) error {
		if step.Op == "rename" {
			return syscall.ENOSPC
		}
		return nil
	}
	if err := s.Remove(id); err != nil {
		t.Error(err)
	}
	if n, _ := leftFiles(s); n != 0 || used(s) != 0 {
		t.Errorf("%d files left, %d bytes", n, used(s))
	}
	disk.Fail = nil
	checkTidy(t, s)
}

// TestLeftBounds: there are never too many, they go after a rest, a few at a time,
// a person's order leaves none, and Close none either.
func TestLeftBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := simdisk.New()
		s, err := Open("/var/spool", Options{FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for range maxLeft + 10 {
			ids = append(ids, put(t, s, sampleEntry(), "x"))
		}
		large, dropped := put(t, s, sampleEntry(), strings.Repeat("x", maxLeftSize)), put(t, s, sampleEntry(), "x")
		if err := errors.Join(s.Remove(large), s.Drop(dropped)); err != nil {
			t.Fatal(err)
		}
		if n, _ := leftFiles(s); n != 0 {
			t.Errorf("%d files left of a large and a dropped one", n)
		}
		for _, id := range ids {
			if err := s.Remove(id); err != nil {
				t.Fatal(err)
			}
		}
		if n, bytes := leftFiles(s); n != maxLeft || bytes != maxLeft*blockSize {
			t.Errorf("%d files of %d bytes left", n, bytes)
		}
		time.Sleep(spareRest + time.Millisecond)
		synctest.Wait()
		if n, _ := leftFiles(s); n != maxLeft-leftStep {
			t.Errorf("%d files left after one step", n)
		}
		time.Sleep(leftPause * maxLeft / leftStep)
		synctest.Wait()
		if n, bytes := leftFiles(s); n != 0 || bytes != 0 {
			t.Errorf("%d files of %d bytes left after a rest", n, bytes)
		}
		checkTidy(t, s)
		for _, id := range s.IDs(queued...) {
			if err := s.Remove(id); err != nil {
				t.Fatal(err)
			}
		}
		if s.Close(); disk.Steps() == 0 {
			t.Error("nothing was done")
		}
		checkEmpty(t, disk)
	})
}

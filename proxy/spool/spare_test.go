package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// spill begins a message of n bytes that outgrow the buffer.
func spill(t testing.TB, s *Spool, n int) *Writer {
	t.Helper()
	w := s.Tee(sampleEntry)
	if _, err := io.WriteString(w, strings.Repeat("old line\r\n", n/10)); err != nil {
		t.Fatal(err)
	}
	return w
}

// spareFiles is how many files in incoming/ belong to no message.
func spareFiles(s *Spool) (n int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spares.free), s.index.spare
}

// TestSpareAgain: the file of a message that was given up becomes another one's,
// whatever their lengths, and has nothing of the first.
func TestSpareAgain(t *testing.T) {
	for _, size := range []int{holdSize + 10, 100_000, 400_000, 1_000_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			old := spill(t, s, 400_000)
			made, err := os.Stat(old.place)
			if err != nil {
				t.Fatal(err)
			}
			old.Abort()
			text := strings.Repeat("new text\r\n", size/10)
			id, err := tryPut(s, sampleEntry(), text, Deferred)
			if err != nil {
				t.Fatal(err)
			}
			kept, err := os.Stat(s.queuePath(id, Deferred))
			if err != nil || !os.SameFile(made, kept) {
				t.Errorf("another file was made: %v", err)
			}
			item, got := get(t, s, id)
			raw, err := os.ReadFile(s.queuePath(id, Deferred))
			if got != text || err != nil || bytes.Contains(raw, []byte("old line")) || item.Stored != int64(len(raw)) || item.Progress.PossibleDuplicate {
				t.Errorf("%d bytes of %d in a file of %d: %+v", len(got), len(text), len(raw), item.Progress)
			}
			if n, bytes := spareFiles(s); n != 0 || bytes != 0 || used(s) != blocks(kept.Size()) {
				t.Errorf("%d spares of %d bytes, %d bytes of %d", n, bytes, used(s), kept.Size())
			}
		})
	}
}

// TestSpareName: a message may have the id of one whose file is another's now.
func TestSpareName(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	e := sampleEntry()
	e.ID = "Same"
	for range 2 {
		w, err := s.Create(e)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, strings.Repeat("x", 100_000))
		w.Abort()
		spill(t, s, 100_000)
	}
	if _, err := tryPut(s, e, "text", Deferred); err != nil {
		t.Error(err)
	}
}

// TestSpareFailed: a file with which anything has failed is gone, and no other
// message gets it.
func TestSpareFailed(t *testing.T) {
	for _, op := range []string{"write", "truncate", "sync", "rename", "close", "seek", "read"} {
		disk := simdisk.New()
		s, err := Open("/var/spool", Options{FS: disk})
		if err != nil {
			t.Fatal(err)
		}
		spill(t, s, 400_000).Abort()
		disk.Fail = func(step simdisk.Step) error {
			if step.Op == op && strings.Contains(step.Name, incomingDir) {
				return syscall.EIO
			}
			return nil
		}
		if _, err := tryPut(s, sampleEntry(), strings.Repeat("x", 100_000), Deferred); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", op, err)
		}
		disk.Fail = nil
		if n, bytes := spareFiles(s); n != 0 || bytes != 0 || used(s) != 0 || s.index.lent != 0 {
			t.Errorf("%s: %d spares of %d bytes, %d used, %d lent", op, n, bytes, used(s), s.index.lent)
		}
		checkTidy(t, s)
		s.Close()
	}
}

// TestSpareRest: a file that nobody takes for some seconds goes, one that is in
// use stays.
func TestSpareRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open("/var/spool", Options{FS: simdisk.New()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		a, b := spill(t, s, 100_000), spill(t, s, 200_000)
		a.Abort()
		b.Abort()
		for range 20 {
			time.Sleep(spareRest / 4)
			spill(t, s, 100_000).Abort() // b's
		}
		if n, bytes := spareFiles(s); n != 1 || bytes < 190_000 {
			t.Errorf("%d spares of %d bytes while one is in use", n, bytes)
		}
		time.Sleep(spareRest + time.Millisecond)
		synctest.Wait()
		if n, bytes := spareFiles(s); n != 0 || bytes != 0 {
			t.Errorf("%d spares of %d bytes after a rest", n, bytes)
		}
		checkTidy(t, s)
	})
}

// TestSpareBounds: there are never many, large or all together large ones, and
// none after Close.
func TestSpareBounds(t *testing.T) {
	for _, tt := range []struct {
		max           int64
		size          int
		writers, want int
	}{
		{1 << 30, 40_000, maxSpares + 5, maxSpares},
		{1 << 30, maxSpareSize + 2*spillSize, 1, 0},
		{2_000_000, 300_000, 5, 3},
		{500_000, 300_000, 1, 0},
	} {
		s := open(t, t.TempDir(), Options{MaxBytes: tt.max, MaxIdentityBytes: tt.max})
		for range 2 {
			var all []*Writer
			for range tt.writers {
				all = append(all, spill(t, s, tt.size))
			}
			for _, w := range all {
				w.Abort()
			}
			if n, bytes := spareFiles(s); n != tt.want || bytes > tt.max/spareShare || len(files(t, s, incomingDir)) != n || s.index.lent != 0 || used(s) != 0 {
				t.Errorf("%+v: %d spares of %d bytes, %d files, %d lent", tt, n, bytes, len(files(t, s, incomingDir)), s.index.lent)
			}
		}
		late := spill(t, s, 40_000)
		s.Close()
		if late.Abort(); len(files(t, s, incomingDir)) != 0 {
			t.Errorf("%+v: closed with %v", tt, files(t, s, incomingDir))
		}
	}
}

// TestSpareGivesWay: whoever has a message to store finds the room that spare
// files have.
func TestSpareGivesWay(t *testing.T) {
	const max = 1_000_000
	for name, begin := range map[string]func(*Spool) (*Writer, error){
		"declared": func(s *Spool) (*Writer, error) {
			e := sampleEntry()
			e.Envelope.Params.Size = 900_000
			return s.Create(e)
		},
		"growing": func(s *Spool) (*Writer, error) { return s.Create(sampleEntry()) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := simdisk.New()
			for _, o := range []Options{{FS: disk, MinFree: 1, MaxBytes: max, MaxIdentityBytes: max}, {FS: disk, MinFree: 1}} {
				s, err := Open("/var/spool", o)
				if err != nil {
					t.Fatal(err)
				}
				disk.Capacity = max
				spare := []*Writer{spill(t, s, 100_000), spill(t, s, 100_000)}
				spare[0].Abort()
				spare[1].Abort()
				small, err := s.Create(sampleEntry())
				if err != nil {
					t.Fatal(err)
				}
				w, err := begin(s)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(make([]byte, 900_000)); err != nil {
					t.Error(err)
				}
				w.Abort()
				small.Abort()
				s.Close()
				checkEmpty(t, disk)
			}
		})
	}
}

// checkEmpty looks for content that is on a disk still.
func checkEmpty(t *testing.T, disk *simdisk.Disk) {
	t.Helper()
	if free, err := disk.Free("/"); err != nil || free != disk.Capacity {
		t.Errorf("%d bytes free of %d, %v", free, disk.Capacity, err)
	}
}

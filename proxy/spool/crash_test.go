package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// tell runs a spool through a life of large and small messages until something
// fails, as it does when the disk crashes.
func tell(disk *simdisk.Disk) (*world, error) {
	w := newWorld(disk)
	for _, step := range []func() error{
		w.open,
		func() error { return w.commit("BigA", Deferred, false) },
		func() error { return w.commit("B", Deferred, true) },
		func() error { return w.commit("BigC", Active, true) }, // before the relay gets its end
		func() error { return w.commit("D", Hold, false) },
		func() error { return w.activate("BigA") },
		func() error { return w.activate("B") },
		w.sync,
		func() error { return w.settle("BigA", Deferred) }, // the relay took it for some
		func() error { return w.remove("B") },
		func() error { return w.settle("BigC", Hold) },
		func() error { return w.abort("BigE", false) },
		func() error { return w.abort("BigF", true) },
		func() error { return w.abort("G", true) },
		func() error { return w.commit("MidI", Deferred, true) },    // into the file of a longer one
		func() error { return w.commit("JLonger", Deferred, true) }, // into the file of B, which was removed; longer, whatever digits the times have
		func() error { return w.remove("JLonger") },
		func() error { return w.commit("K", Active, false) }, // not into that of JLonger
		func() error { return w.drop("D") },
		func() error { return w.activate("BigA") },
		w.open,
		func() error { return w.remove("BigA") },
		func() error { return w.commit("H", Deferred, false) },
	} {
		if err := step(); err != nil {
			return w, err
		}
	}
	return w, nil
}

// tellTries tries a message until its tail is too long, several times, and starts
// again in between.
func tellTries(disk *simdisk.Disk) (*world, error) {
	w := newWorld(disk)
	w.rest = dues(60)
	story := []func() error{w.open, func() error { return w.commit("A", Deferred, false) }}
	for try := range 14 {
		if try == 9 {
			story = append(story, w.open)
		}
		story = append(story, func() error { return w.settle("A", queued[try%len(queued)]) })
	}
	for _, step := range story {
		if err := step(); err != nil {
			return w, err
		}
	}
	return w, nil
}

// story is what happens to a spool until something fails.
type story func(*simdisk.Disk) (*world, error)

var stories = map[string]story{"life": tell, "tries": tellTries}

// steps is how many steps a run without failure takes.
func steps(t *testing.T, tell story) int {
	t.Helper()
	disk := simdisk.New()
	if _, err := tell(disk); err != nil {
		t.Fatal(err)
	}
	return disk.Steps()
}

// TestCrashAnywhere stops the machine at every step of a spool's life.
func TestCrashAnywhere(t *testing.T) {
	for name, tell := range stories {
		n := steps(t, tell)
		t.Logf("%s: %d crash points", name, n)
		for crash := range n + 1 {
			disk := simdisk.New()
			disk.CrashAt = crash
			w, err := tell(disk)
			if crash < n && !errors.Is(err, simdisk.ErrCrashed) {
				t.Fatalf("%s, step %d: %v", name, crash, err)
			}
			losses(12, func(loss string, kind simdisk.Loss, seed uint64) {
				t.Run(fmt.Sprintf("%s, step %d, %s", name, crash, loss), func(t *testing.T) {
					w.checkRestarted(t, disk.Restart(kind, seed), kind)
				})
			})
		}
	}
}

// TestCrashInRecovery stops the machine again while the spool is opened.
func TestCrashInRecovery(t *testing.T) {
	n := steps(t, tell)
	for crash := 0; crash < n; crash += 5 {
		disk := simdisk.New()
		disk.CrashAt = crash
		w, _ := tell(disk)
		for again := range 30 {
			losses(2, func(name string, loss simdisk.Loss, seed uint64) {
				second := disk.Restart(loss, seed)
				second.CrashAt = again
				if s, err := Open("/var/spool", Options{FS: second}); err == nil {
					s.Close()
				} else if !errors.Is(err, simdisk.ErrCrashed) {
					t.Fatalf("step %d, then %d, %s: %v", crash, again, name, err)
				}
				w.checkTwice(t, second.Restart(loss, seed+100), loss)
			})
		}
	}
}

// checkTwice is checkRestarted after a recovery that may have been cut short:
// what was active may be marked, but under the name that an older sync covered.
func (w *world) checkTwice(t *testing.T, disk *simdisk.Disk, loss simdisk.Loss) {
	t.Helper()
	twice := newWorld(nil)
	for id, m := range w.messages {
		marked := func(f fate) fate { f.duplicate = true; return f }
		again := *m
		again.killed, again.lost = m.killed.each(fate.afterRestart), m.lost.with(m.killed...).each(fate.afterRestart)
		if m.now.state == Active || m.killed.active() {
			again.lost = again.lost.each(marked)
		}
		twice.messages[id] = &again
	}
	twice.checkRestarted(t, disk, loss)
}

// active reports whether one of them is.
func (fs fates) active() bool {
	for _, f := range fs {
		if f.state == Active {
			return true
		}
	}
	return false
}

// tellTogether lets two writers commit at the same time, and share a sync when
// they meet.
func tellTogether(disk *simdisk.Disk) (*world, error) {
	w := newWorld(disk)
	if err := w.open(); err != nil {
		return w, err
	}
	var all sync.WaitGroup
	errs := make([]error, 2)
	ready := make(chan struct{})
	for i, id := range []string{"A", "B"} {
		m := &expected{text: textOf(id)}
		taken := fate{state: Deferred}
		m.settled(fate{})
		w.messages[id] = m
		all.Go(func() {
			<-ready
			e := sampleEntry()
			e.ID = id
			if _, errs[i] = tryPut(w.s, e, m.text, Deferred); errs[i] == nil {
				m.settled(taken)
			} else if errors.Is(errs[i], simdisk.ErrCrashed) {
				m.killed, m.lost = fates{{}, taken}, fates{{}, taken}
			}
		})
	}
	close(ready)
	all.Wait()
	return w, errors.Join(errs...)
}

// TestCrashTogether stops the machine while two commit. Their steps come in any
// order, so each point is tried several times.
func TestCrashTogether(t *testing.T) {
	n := steps(t, tellTogether)
	for crash := range n + 1 {
		for range 5 {
			disk := simdisk.New()
			disk.CrashAt = crash
			w, _ := tellTogether(disk)
			losses(4, func(_ string, loss simdisk.Loss, seed uint64) {
				w.checkRestarted(t, disk.Restart(loss, seed), loss)
			})
		}
	}
}

// TestSyncFailsTogether: of those who share a sync of queue/ that fails, nobody
// hears nil, and nobody's message is there.
func TestSyncFailsTogether(t *testing.T) {
	for range 20 {
		disk := simdisk.New()
		failing := false
		disk.Fail = func(s simdisk.Step) error {
			if failing = failing || s.Op == "rename"; failing && s.Op == "syncdir" {
				return syscall.EIO
			}
			return nil
		}
		w, err := tellTogether(disk)
		if !errors.Is(err, syscall.EIO) || strings.Count(err.Error(), "syncing queue") != 2 {
			t.Fatalf("got %v", err)
		}
		if _, err := w.s.Create(sampleEntry()); !errors.Is(err, syscall.EIO) {
			t.Errorf("created meanwhile: %v", err)
		}
		disk.Fail = nil
		w.checkNow(t)
		w.checkRestarted(t, disk.Restart(simdisk.Kill, 0), simdisk.Kill)
		w.checkRestarted(t, disk.Restart(simdisk.Power, 0), simdisk.Power)
		put(t, w.s, sampleEntry(), "works again")
	}
}

// version1 makes a disk with two messages of the first format.
func version1(t *testing.T) (*simdisk.Disk, *world) {
	t.Helper()
	disk := simdisk.New()
	w := newWorld(disk)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.s.Close(), disk.Mkdir("/var/spool/hold", 0o700)); err != nil {
		t.Fatal(err)
	}
	for id, size := range map[string]string{"01KAKVN5KVHELD1FROMF0RMAT1": "Kept by", "01KAKVN5KVHELD2FROMF0RMAT1": "no end"} {
		b, err := os.ReadFile("testdata/v1/hold/" + id)
		if err != nil || !strings.Contains(string(b), size) {
			t.Fatal(err)
		}
		f, err := disk.OpenFile("/var/spool/hold/"+id, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(b), "\n\n")
		w.messages[id] = &expected{text: text}
		w.messages[id].settled(fate{state: Hold})
	}
	return disk.Restart(simdisk.Kill, 0), w
}

// TestCrashInAdoption stops the machine at every step of the first start of this
// version over a spool of the first, and of the start after that.
func TestCrashInAdoption(t *testing.T) {
	first, w := version1(t)
	for crash := range 40 {
		for again := range 40 {
			disk := first.Restart(simdisk.Kill, 0)
			disk.CrashAt = crash
			if s, err := Open("/var/spool", Options{FS: disk}); err == nil {
				s.Close()
			}
			losses(2, func(_ string, loss simdisk.Loss, seed uint64) {
				second := disk.Restart(loss, seed)
				second.CrashAt = again
				if s, err := Open("/var/spool", Options{FS: second}); err == nil {
					s.Close()
				}
				w.checkRestarted(t, second.Restart(loss, seed), loss)
			})
		}
	}
}

// TestCrashAside stops the machine while a damaged message is put aside: it is in
// one of two places, and never gone.
func TestCrashAside(t *testing.T) {
	for crash := range 30 {
		disk := simdisk.New()
		w := newWorld(disk)
		if err := errors.Join(w.open(), w.commit("BigA", Deferred, false)); err != nil {
			t.Fatal(err)
		}
		damage(t, disk, w.s.queuePath("BigA", Deferred))
		disk.CrashAt = disk.Steps() + crash
		w.s.Read("BigA")
		losses(4, func(name string, loss simdisk.Loss, seed uint64) {
			s, err := Open("/var/spool", Options{FS: disk.Restart(loss, seed)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Read("BigA"); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknown) {
				t.Errorf("step %d, %s: %v", crash, name, err)
			}
			if ids, _ := s.Corrupt(); len(ids) != 1 || s.Counts()[Deferred] != 0 {
				t.Errorf("step %d, %s: corrupt %v, counted %v", crash, name, ids, s.Counts())
			}
		})
	}
}

// damage changes one byte of a message on the disk, behind our back.
func damage(t *testing.T, disk *simdisk.Disk, path string) {
	t.Helper()
	f, err := disk.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{'#'}, 1000); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

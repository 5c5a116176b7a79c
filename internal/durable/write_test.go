package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for _, want := range []struct {
		data string
		perm fs.FileMode
	}{{"first", 0o600}, {"second, longer", 0o644}, {"", 0o640}} {
		if err := durable.WriteFile(durable.OS{}, name, []byte(want.data), want.perm); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil || string(got) != want.data {
			t.Errorf("got %q, %v, want %q", got, err, want.data)
		}
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != want.perm {
			t.Errorf("mode %v, %v, want %v", st.Mode(), err, want.perm)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestWriteFileErrors(t *testing.T) {
	dir := t.TempDir()
	if err := durable.WriteFile(durable.OS{}, filepath.Join(dir, "no/file"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(durable.OS{}, filepath.Join(dir, "taken"), nil, 0o600); err == nil {
		t.Error("replaced a directory")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// read returns the content of a file on a simulated disk, "" if it is not there.
func read(t *testing.T, disk *simdisk.Disk, name string) string {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// oldFile is a disk with a file /d/f.
func oldFile(t *testing.T, content string) *simdisk.Disk {
	t.Helper()
	disk := simdisk.New()
	if err := durable.MkdirAll(disk, "/d", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(disk, "/d/f", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return disk.Restart(simdisk.Kill, 0)
}

func TestWriteFileCrash(t *testing.T) {
	before, after := strings.Repeat("old ", 100), strings.Repeat("new ", 300)
	for crash := 0; ; crash++ {
		ended := false
		for seed := range uint64(40) {
			disk := oldFile(t, before)
			disk.CrashAt = crash
			err := durable.WriteFile(disk, "/d/f", []byte(after), 0o600)
			ended = err == nil
			for _, loss := range []simdisk.Loss{simdisk.Kill, simdisk.Power, simdisk.Torn} {
				restarted := disk.Restart(loss, seed)
				got := read(t, restarted, "/d/f")
				if got != after && (got != before || err == nil) {
					t.Fatalf("crash at step %d, loss %d, seed %d: error %v and %d bytes %.20q", crash, loss, seed, err, len(got), got)
				}
				if err := durable.Sweep(restarted, "/d"); err != nil {
					t.Fatal(err)
				}
				if names := list(t, restarted, "/d"); names != "f" {
					t.Errorf("left after the sweep: %s", names)
				}
			}
		}
		if ended {
			if crash < 5 {
				t.Errorf("only %d steps", crash)
			}
			return
		}
	}
}

func TestWriteFileFails(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for step := 0; ; step++ {
			disk := oldFile(t, "old")
			disk.Fail = func(s simdisk.Step) error {
				if s.N == step {
					return errno
				}
				return nil
			}
			err := durable.WriteFile(disk, "/d/f", []byte("new"), 0o600)
			if err == nil {
				break
			}
			if !errors.Is(err, errno) {
				t.Errorf("step %d: %v does not say %v", step, err, errno)
			}
			disk.Fail = nil
			if got := read(t, disk, "/d/f"); got != "old" && got != "new" {
				t.Errorf("step %d: %q", step, got)
			}
			if names := list(t, disk, "/d"); names != "f" {
				t.Errorf("step %d: left behind: %s", step, names)
			}
		}
	}
}

func list(t *testing.T, disk *simdisk.Disk, dir string) string {
	t.Helper()
	d, err := disk.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".f.abc.tmp", "f", ".hidden", "f.tmp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.Sweep(durable.OS{}, dir); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if got := fmt.Sprint(entries); got != "[- .hidden - f - f.tmp]" {
		t.Errorf("left: %s", got)
	}
}

func TestMkdirAll(t *testing.T) {
	disk := simdisk.New()
	if err := durable.MkdirAll(disk, "/a/b/c", 0o700); err != nil {
		t.Fatal(err)
	}
	disk = disk.Restart(simdisk.Power, 0)
	if got := list(t, disk, "/a/b"); got != "c" {
		t.Errorf("after a power loss: %q", got)
	}
	// Made by somebody who was killed before he could sync it.
	if err := disk.Mkdir("/a/b/d", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(disk, "/a/b/d", 0o700); err != nil {
		t.Fatal(err)
	}
	if got := list(t, disk.Restart(simdisk.Power, 0), "/a/b"); got != "c d" {
		t.Errorf("after a power loss: %q", got)
	}
}

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	lock, err := durable.OS{}.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (durable.OS{}).Lock(name); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = (durable.OS{}).Lock(name); err != nil {
		t.Fatal(err)
	}
	lock.Close()
}

func TestFree(t *testing.T) {
	if free, err := (durable.OS{}).Free(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("free: %d, %v", free, err)
	}
}

// TestLostSync shows the trap that the rule "never sync twice" is about.
func TestLostSync(t *testing.T) {
	disk := oldFile(t, "old")
	f, err := disk.OpenFile("/d/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	disk.Fail = func(simdisk.Step) error { return syscall.EIO }
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	disk.Fail = nil
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, disk.Restart(simdisk.Power, 0), "/d/f"); !bytes.Equal([]byte(got), []byte("old")) {
		t.Errorf("got %q", got)
	}
}

// TestTruncate: a file may have its old length after power loss, until it is
// synced, and then has only zeros behind the cut.
func TestTruncate(t *testing.T) {
	disk := oldFile(t, "old text")
	f, err := disk.OpenFile("/d/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(3); err != nil {
		t.Fatal(err)
	}
	if now, lost := read(t, disk, "/d/f"), read(t, disk.Restart(simdisk.Power, 0), "/d/f"); now != "old" || lost != "old text" {
		t.Errorf("now %q, after power loss %q", now, lost)
	}
	if err := errors.Join(f.Truncate(5), f.Sync()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, disk.Restart(simdisk.Power, 0), "/d/f"); got != "old\x00\x00" {
		t.Errorf("got %q", got)
	}
	disk.Fail = func(simdisk.Step) error { return syscall.EIO }
	if err := f.Truncate(0); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	disk.Fail = nil
	if got := read(t, disk, "/d/f"); got != "old\x00\x00" {
		t.Errorf("got %q", got)
	}
}

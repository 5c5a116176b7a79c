package fault_test

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// plan says what goes wrong with the child's file system, from when it is armed.
type plan struct {
	// Kill is the point at which the process is killed, counted from 1; 0 is
	// never. Each step that changes the disk has a point before it and one after
	// it, a write one in its midst as well.
	Kill int
	// Fail is the first step that fails with Errno, counted from 1 over all
	// steps, and Times how many do from there; negative is for ever. 0 is none.
	Fail, Times int
	Errno       syscall.Errno
	// Ops and Under choose the steps that count: those of one of these names, on
	// files whose path contains that. Empty is all.
	Ops   []string
	Under string
}

// count is what a plan has seen so far.
type count struct {
	Points, Steps int
	Failed        []string // the steps that failed
}

// disk is the host's file system, on which a plan acts.
type disk struct {
	durable.FS
	mu   sync.Mutex
	plan plan
	seen count
}

func (d *disk) arm(p plan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.plan, d.seen = p, count{}
}

func (d *disk) count() count {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen
}

func (d *disk) counts(op, name string) bool {
	return (len(d.plan.Ops) == 0 || slices.Contains(d.plan.Ops, op)) && strings.Contains(name, d.plan.Under)
}

// step says how a step fails.
func (d *disk) step(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.counts(op, name) {
		return nil
	}
	d.seen.Steps++
	if d.plan.Fail == 0 || d.seen.Steps < d.plan.Fail || d.plan.Times >= 0 && d.seen.Steps >= d.plan.Fail+d.plan.Times {
		return nil
	}
	d.seen.Failed = append(d.seen.Failed, op+" "+name)
	return &fs.PathError{Op: op, Path: name, Err: d.plan.Errno}
}

// point is where the process may be killed.
func (d *disk) point(op, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.counts(op, name) {
		return
	}
	if d.seen.Points++; d.seen.Points == d.plan.Kill {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until the kernel has done it
	}
}

// change makes a step that changes the disk.
func (d *disk) change(op, name string, do func() error) error {
	d.point(op, name)
	if err := d.step(op, name); err != nil {
		return err
	}
	err := do()
	d.point(op, name)
	return err
}

func (d *disk) OpenFile(name string, flag int, perm fs.FileMode) (f durable.File, err error) {
	open := func() error { f, err = d.FS.OpenFile(name, flag, perm); return err }
	if flag&os.O_CREATE != 0 {
		err = d.change("create", name, open)
	} else if err = d.step("open", name); err == nil {
		err = open()
	}
	if err != nil {
		return nil, err
	}
	return &file{f, d, name}, nil
}

func (d *disk) Mkdir(name string, perm fs.FileMode) error {
	return d.change("mkdir", name, func() error { return d.FS.Mkdir(name, perm) })
}

func (d *disk) Rename(from, to string) error {
	return d.change("rename", to, func() error { return d.FS.Rename(from, to) })
}

func (d *disk) Remove(name string) error {
	return d.change("remove", name, func() error { return d.FS.Remove(name) })
}

func (d *disk) SyncDir(dir string) error {
	return d.change("syncdir", dir, func() error { return d.FS.SyncDir(dir) })
}

func (d *disk) Free(dir string) (int64, error) {
	if err := d.step("free", dir); err != nil {
		return 0, err
	}
	return d.FS.Free(dir)
}

// file is an open file of a disk.
type file struct {
	durable.File
	disk *disk
	name string
}

func (f *file) Read(p []byte) (int, error) {
	if err := f.disk.step("read", f.name); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *file) Write(p []byte) (int, error) {
	return f.write(p, f.File.Write)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	return f.write(p, func(p []byte) (int, error) {
		n, err := f.File.WriteAt(p, off+int64(done))
		done += n
		return n, err
	})
}

// write writes in two halves, so that a kill or an error finds half of it done.
func (f *file) write(p []byte, write func([]byte) (int, error)) (int, error) {
	f.disk.point("write", f.name)
	failure := f.disk.step("write", f.name)
	n, err := write(p[:len(p)/2])
	if err == nil {
		err = failure
	}
	if err != nil {
		return n, err
	}
	f.disk.point("write", f.name)
	rest, err := write(p[n:])
	f.disk.point("write", f.name)
	return n + rest, err
}

func (f *file) Truncate(size int64) error {
	return f.disk.change("truncate", f.name, func() error { return f.File.Truncate(size) })
}

func (f *file) Sync() error {
	return f.disk.change("sync", f.name, f.File.Sync)
}

func (f *file) Chmod(perm fs.FileMode) error {
	return f.disk.change("chmod", f.name, func() error { return f.File.Chmod(perm) })
}

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.disk.step("stat", f.name); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	if err := f.disk.step("readdir", f.name); err != nil {
		return nil, err
	}
	return f.File.ReadDir(n)
}

func (f *file) Close() error {
	err := f.disk.step("close", f.name)
	if closeErr := f.File.Close(); err == nil {
		err = closeErr
	}
	return err
}

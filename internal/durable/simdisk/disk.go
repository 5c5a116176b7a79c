package simdisk

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// ErrCrashed is what every step returns from the crash on.
var ErrCrashed = errors.New("the machine has crashed")

// Step is one operation on the disk.
type Step struct {
	N    int    // from 0
	Op   string // open, mkdir, rename, remove, syncdir, free, lock, write, sync, read, …
	Name string
}

// Disk is a simulated disk.
type Disk struct {
	// Fail is asked before each step; its error is the step's, which then has
	// no effect but what a failure leaves: half of a write, lost data after a
	// sync.
	Fail func(Step) error
	// CrashAt is the step at which the machine stops; negative is never.
	CrashAt int
	// FailedSyncKeeps says that a sync of a directory that fails has made its
	// names durable all the same; else it has done nothing.
	FailedSyncKeeps bool
	// Capacity bounds the content of all files, in bytes.
	Capacity int64

	mu      sync.Mutex
	steps   int
	used    int64
	crashed bool
	root    *node
	locks   map[string]bool
}

// New is an empty disk that never fails.
func New() *Disk {
	return &Disk{CrashAt: -1, Capacity: math.MaxInt64, root: newDir(0o755), locks: map[string]bool{}}
}

// Steps is how many steps were made.
func (d *Disk) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// step counts an operation and says how it fails. The caller holds the lock.
func (d *Disk) step(op, name string) error {
	n := d.steps
	d.steps++
	if d.crashed = d.crashed || n == d.CrashAt; d.crashed {
		return ErrCrashed
	}
	if d.Fail != nil {
		if err := d.Fail(Step{N: n, Op: op, Name: name}); err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	return nil
}

// find walks to the directory of name and returns it with the last component.
func (d *Disk) find(name string) (dir *node, base string, err error) {
	dir = d.root
	parts := strings.Split(strings.Trim(filepath.Clean(name), "/"), "/")
	for _, part := range parts[:len(parts)-1] {
		next := dir.names[part]
		if next == nil || next.names == nil {
			return nil, "", &fs.PathError{Op: "find", Path: name, Err: syscall.ENOENT}
		}
		dir = next
	}
	return dir, parts[len(parts)-1], nil
}

// lookup returns the node at name.
func (d *Disk) lookup(name string) (*node, error) {
	dir, base, err := d.find(name)
	if err != nil {
		return nil, err
	}
	if base == "" || base == "." {
		return d.root, nil
	}
	if n := dir.names[base]; n != nil {
		return n, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
}

// OpenFile implements durable.FS.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("open", name); err != nil {
		return nil, err
	}
	n, err := d.lookup(name)
	switch {
	case err == nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EEXIST}
	case err == nil:
		return &file{disk: d, name: name, node: n}, nil
	case flag&os.O_CREATE == 0:
		return nil, err
	}
	dir, base, err := d.find(name)
	if err != nil {
		return nil, err
	}
	dir.names[base] = &node{mode: perm}
	return &file{disk: d, name: name, node: dir.names[base]}, nil
}

// Mkdir implements durable.FS.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("mkdir", name); err != nil {
		return err
	}
	dir, base, err := d.find(name)
	if err != nil {
		return err
	}
	if base == "" || dir.names[base] != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.EEXIST}
	}
	dir.names[base] = newDir(perm)
	return nil
}

// Rename implements durable.FS.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("rename", from); err != nil {
		return err
	}
	n, err := d.lookup(from)
	if err != nil {
		return err
	}
	toDir, toBase, err := d.find(to)
	if err != nil {
		return err
	}
	if toDir.names[toBase] == n {
		return nil // two names of one file, and POSIX wants both to stay
	}
	fromDir, fromBase, _ := d.find(from)
	replaced := toDir.names[toBase]
	delete(fromDir.names, fromBase)
	toDir.names[toBase] = n
	d.free(replaced)
	return nil
}

// Remove implements durable.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("remove", name); err != nil {
		return err
	}
	n, err := d.lookup(name)
	if err != nil {
		return err
	}
	if len(n.names) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	dir, base, _ := d.find(name)
	delete(dir.names, base)
	d.free(n)
	return nil
}

// free gives a node's space back if it has no other name. The caller holds the
// lock.
func (d *Disk) free(n *node) {
	if n != nil && !d.root.has(n) {
		d.used -= int64(len(n.data))
	}
}

// SyncDir implements durable.FS.
func (d *Disk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	failed := d.step("syncdir", dir)
	if failed != nil && (d.crashed || !d.FailedSyncKeeps) {
		return failed
	}
	n, err := d.lookup(dir)
	if err != nil {
		return err
	}
	n.syncNames()
	return failed
}

// Free implements durable.FS.
func (d *Disk) Free(dir string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("free", dir); err != nil {
		return 0, err
	}
	return d.Capacity - d.used, nil
}

// Lock implements durable.FS.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("lock", name); err != nil {
		return nil, err
	}
	if d.locks[name] {
		return nil, durable.ErrLocked
	}
	d.locks[name] = true
	return unlock(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.locks, name)
	}), nil
}

type unlock func()

func (u unlock) Close() error { u(); return nil }

package durable

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// FS is the part of a file system that custody rests on. Errors are those of
// package os: errors.Is works with fs.ErrNotExist, syscall.ENOSPC and so on.
type FS interface {
	// OpenFile is os.OpenFile; it opens directories too, for ReadDir.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Mkdir makes one directory. It is durable once its parent is synced.
	Mkdir(name string, perm fs.FileMode) error
	// Rename replaces to by from. It is durable once the directories of both
	// are synced.
	Rename(from, to string) error
	// Remove takes a name away, durably once its directory is synced.
	Remove(name string) error
	// SyncDir makes all that was done to the names in dir durable.
	SyncDir(dir string) error
	// Free is how many bytes an ordinary user may still write below dir.
	Free(dir string) (int64, error)
	// Lock takes the exclusive lock on a file, made if absent, for as long as
	// this process lives or until it is closed. Where another has it the error
	// is ErrLocked.
	Lock(name string) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.Reader
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer
	// Truncate cuts the content off, or makes it longer by zeros.
	Truncate(size int64) error
	// Sync makes the content durable, and its length, but not the name.
	Sync() error
	Chmod(perm fs.FileMode) error
	Stat() (fs.FileInfo, error)
	ReadDir(n int) ([]fs.DirEntry, error)
}

// ErrLocked says that another process holds the lock.
var ErrLocked = fmt.Errorf("in use by another process: %w", syscall.EWOULDBLOCK)

// OS is the file system of the host.
type OS struct{}

// OpenFile implements FS.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // a nil *os.File would not be a nil File
	}
	return f, nil
}

// Mkdir implements FS.
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}

// Free implements FS.
func (OS) Free(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Lock implements FS with flock(2), which the kernel lets go when the process
// ends, however it ends.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	var lockErr error
	if err := raw.Control(func(fd uintptr) { lockErr = syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB) }); err != nil {
		lockErr = err
	}
	if lockErr == nil {
		return f, nil
	}
	f.Close()
	if lockErr == syscall.EWOULDBLOCK {
		return nil, ErrLocked
	}
	return nil, &fs.PathError{Op: "flock", Path: name, Err: lockErr}
}

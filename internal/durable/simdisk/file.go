package simdisk

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"
)

// file is an open file or directory.
type file struct {
	disk   *Disk
	name   string
	node   *node
	pos    int64
	listed bool
	closed bool
}

// begin is the start of each operation on the file.
func (f *file) begin(op string) error {
	if f.closed {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return f.disk.step(op, f.name)
}

// Read implements durable.File.
func (f *file) Read(p []byte) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.begin("read"); err != nil {
		return 0, err
	}
	if f.pos >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[f.pos:])
	f.pos += int64(n)
	return n, nil
}

// Write implements durable.File.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt implements durable.File.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.begin("write")
	if errors.Is(err, ErrCrashed) || errors.Is(err, fs.ErrClosed) {
		return 0, err
	}
	if err != nil {
		p = p[:len(p)/2]
	}
	if room := f.disk.Capacity - f.disk.used; f.node.growth(p, off) > room {
		p, err = p[:max(room, 0)], &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	f.disk.used += f.node.growth(p, off)
	f.node.write(p, off)
	return len(p), err
}

// Truncate implements durable.File. One that fails does nothing.
func (f *file) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.begin("truncate"); err != nil {
		return err
	}
	more := size - int64(len(f.node.data))
	if more > f.disk.Capacity-f.disk.used {
		return &fs.PathError{Op: "truncate", Path: f.name, Err: syscall.ENOSPC}
	}
	f.disk.used += more
	f.node.truncate(size)
	return nil
}

// Seek implements durable.File.
func (f *file) Seek(offset int64, whence int) (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.begin("seek"); err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekStart:
		f.pos = offset
	case io.SeekCurrent:
		f.pos += offset
	case io.SeekEnd:
		f.pos = int64(len(f.node.data)) + offset
	}
	return f.pos, nil
}

// Sync implements durable.File. The data of one that failed is gone, and the
// next one says nothing of it.
func (f *file) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.begin("sync")
	if err == nil {
		f.node.syncData()
	} else if !errors.Is(err, ErrCrashed) {
		f.node.lost = true
	}
	return err
}

// Chmod implements durable.File.
func (f *file) Chmod(perm fs.FileMode) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.begin("chmod"); err != nil {
		return err
	}
	f.node.mode = perm
	return nil
}

// Stat implements durable.File.
func (f *file) Stat() (fs.FileInfo, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.begin("stat"); err != nil {
		return nil, err
	}
	return f.node.info(f.name[strings.LastIndexByte(f.name, '/')+1:]), nil
}

// ReadDir implements durable.File; it returns everything at once, then io.EOF.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.begin("readdir"); err != nil {
		return nil, err
	}
	if f.listed && n > 0 {
		return nil, io.EOF
	}
	f.listed = true
	var entries []fs.DirEntry
	for name, n := range f.node.names {
		entries = append(entries, fs.FileInfoToDirEntry(n.info(name)))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	if len(entries) == 0 && n > 0 {
		return nil, io.EOF
	}
	return entries, nil
}

// Close implements durable.File.
func (f *file) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.begin("close"); err != nil {
		f.closed = true
		return err
	}
	f.closed = true
	return nil
}

// info is a fs.FileInfo.
type info struct {
	name string
	size int64
	mode fs.FileMode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }

package limit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// file is a Store in one bbolt file. bbolt only ever works on a file that this
// process wrote from its first octet: Load reads the former one without it, and
// Replace makes the next.
type file struct {
	path string
	lock *os.File

	db      *bolt.DB    // nil: Replace must come first
	info    os.FileInfo // of the file, after the last Save
	sum     tally
	trusted bool // what lies at path was read whole or written by us
	closed  bool // the lock is another's
}

var errClosed = errors.New("the limits are closed")

const (
	bucketName   = "limits"
	lockPatience = 5 * time.Second

	// replaceBatch is how many records one transaction of Replace has.
	replaceBatch = 10_000
)

// OpenFile opens the store at this path, which need not exist, in a directory
// that must. It is one process's at a time; another's is waited for for five seconds.
func OpenFile(path string) (Store, error) {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening limits store: %w", err)
	}
	if err := flock(lock, time.Now().Add(lockPatience)); err != nil {
		return nil, fmt.Errorf("locking limits store %s: %w", path, errors.Join(err, lock.Close()))
	}
	return &file{path: path, lock: lock}, nil
}

func flock(lock *os.File, until time.Time) error {
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return err
		case time.Now().After(until):
			return errors.New("another process has it open")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Load reads the file; there may be none.
func (f *file) Load(give func(key string, value []byte) error) error {
	old, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.trusted = true
		return nil
	}
	if err != nil {
		return err
	}
	defer old.Close()
	info, err := old.Stat()
	if err != nil {
		return err
	}
	if err := readRecords(io.NewSectionReader(old, 0, info.Size()), give); err != nil {
		return fmt.Errorf("reading %s: %w", f.path, err)
	}
	f.trusted = true
	return nil
}

// Replace writes a new file with these records, which takes the former's place
// when it is whole. One that cannot be trusted keeps another name, which is given.
func (f *file) Replace(records iter.Seq2[string, []byte]) (aside string, err error) {
	if f.closed {
		return "", errClosed
	}
	if f.db != nil {
		db := f.db
		f.db = nil
		if err := db.Close(); err != nil {
			return "", err
		}
	}
	name := f.path + ".new"
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	next := &file{path: name}
	if err := next.fill(records); err != nil {
		return "", errors.Join(err, next.abandon())
	}
	if !f.trusted {
		if aside, err = f.setAside(); err != nil {
			return "", errors.Join(err, next.abandon())
		}
	}
	if err := f.put(name); err != nil {
		return aside, errors.Join(err, next.abandon())
	}
	f.db, f.sum, f.trusted = next.db, next.sum, true
	f.info, err = os.Stat(f.path)
	return aside, err
}

// fill makes the file and writes these records; it is synced once, at the end.
func (f *file) fill(records iter.Seq2[string, []byte]) error {
	db, err := bolt.Open(f.path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoSync: true})
	if err != nil {
		return fmt.Errorf("creating %s: %w", f.path, err)
	}
	f.db = db
	batch := map[string][]byte{}
	for key, value := range records {
		if batch[key] = value; len(batch) < replaceBatch {
			continue
		}
		if err := f.write(batch); err != nil {
			return err
		}
		clear(batch)
	}
	if err := f.write(batch); err != nil {
		return err
	}
	db.NoSync = false
	return db.Sync()
}

// abandon removes a file that was not finished.
func (f *file) abandon() error {
	var err error
	if f.db != nil {
		err = f.db.Close()
	}
	return errors.Join(err, os.Remove(f.path))
}

// setAside gives what lies at path a second name, so that there is a file under
// the first at any time: without one the next start would know of no count.
func (f *file) setAside() (string, error) {
	aside := f.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000Z")
	err := os.Link(f.path, aside)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // somebody removed it
	}
	return aside, err
}

// put moves the new file into its place, durably.
func (f *file) put(name string) error {
	if err := os.Rename(name, f.path); err != nil {
		return err
	}
	directory, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// Save writes one transaction.
func (f *file) Save(batch map[string][]byte) error {
	if f.closed {
		return errClosed
	}
	if err := f.whole(); err != nil {
		f.trusted = f.trusted && !errors.Is(err, ErrDamaged)
		return err
	}
	if err := f.write(batch); err != nil {
		return err
	}
	info, err := os.Stat(f.path)
	f.info = info
	return err
}

// whole tells whether the file is still the one that we write, and as long: what
// is cut off would be a fault of memory to bbolt.
func (f *file) whole() error {
	if f.db == nil {
		return errNotOpen
	}
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s was removed", ErrDamaged, f.path)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case f.info == nil || !os.SameFile(info, f.info):
		return fmt.Errorf("%w: %s was replaced", ErrDamaged, f.path)
	case info.Size() < f.info.Size():
		return fmt.Errorf("%w: %s was cut to %d octets", ErrDamaged, f.path, info.Size())
	}
	return nil
}

// Close closes the file, and lets another process have it.
func (f *file) Close() error {
	f.closed = true
	var err error
	if f.db != nil {
		err = f.db.Close()
		f.db = nil
	}
	return errors.Join(err, f.lock.Close())
}

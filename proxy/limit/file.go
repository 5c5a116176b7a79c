package limit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// file is a Store in one bbolt file. Each record carries a checksum of its key
// and value, and one more record counts and sums them, so that none can change or
// be missing unnoticed. bbolt only ever works on a file that this process wrote from
// its first octet: Load reads the former one without it and writes the next.
type file struct {
	path string
	lock *os.File

	db   *bolt.DB
	info os.FileInfo // of the file, after the last Save
	sum  tally
}

// tally is what the records come to.
type tally struct{ count, sum uint64 }

const (
	bucketName   = "limits"
	manifestName = "\x00manifest" // no key of a record begins with it
	lockPatience = 5 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenFile opens the store at this path, which need not exist, in a directory
// that must. It is one process's at a time; another's is waited for for five seconds.
// Load must be the first call.
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

// Load reads the file and writes it anew beside it, which then takes its place.
func (f *file) Load(give func(key string, value []byte) error) error {
	old, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f.create(nil)
	}
	if err != nil {
		return err
	}
	defer old.Close()
	return f.create(func(next *copier) error {
		if err := next.read(old, give); err != nil {
			return fmt.Errorf("reading %s: %w", f.path, err)
		}
		return nil
	})
}

// create makes a new file with what fill puts into it, in the place of the former.
func (f *file) create(fill func(*copier) error) error {
	name := f.path + ".new"
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(name, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	next := &copier{file: file{db: db}}
	if err := next.fill(fill); err != nil {
		return errors.Join(err, db.Close())
	}
	if err := f.put(name); err != nil {
		return errors.Join(err, db.Close())
	}
	f.db, f.sum = db, next.sum
	f.info, err = os.Stat(f.path)
	return err
}

// put moves the new file into its place, durably.
func (f *file) put(name string) error {
	if err := os.Rename(name, f.path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(f.path))
}

func syncDirectory(name string) error {
	directory, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// Save writes one transaction.
func (f *file) Save(batch map[string][]byte) error {
	if f.db == nil {
		return errors.New("limits store is not loaded")
	}
	if err := f.whole(); err != nil {
		return err
	}
	sum, err := f.write(batch)
	if err != nil {
		return err
	}
	f.sum = sum
	f.info, err = os.Stat(f.path)
	return err
}

// whole tells whether the file is still the one that we write, and as long: what
// is cut off would be a fault of memory to bbolt.
func (f *file) whole() error {
	info, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s was removed", ErrDamaged, f.path)
	case err != nil:
		return err
	case !os.SameFile(info, f.info):
		return fmt.Errorf("%w: %s was replaced", ErrDamaged, f.path)
	case info.Size() < f.info.Size():
		return fmt.Errorf("%w: %s was cut to %d octets", ErrDamaged, f.path, info.Size())
	}
	return nil
}

// write is Save's transaction. What bbolt makes of a file that was damaged under
// its hands, a panic or a fault of memory, becomes ErrDamaged; f.db is not to be used
// again then, not even to close it.
func (f *file) write(batch map[string][]byte) (sum tally, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			f.db = nil
			err = fmt.Errorf("%w: writing %s: %v", ErrDamaged, f.path, p)
		}
	}()
	sum = f.sum
	err = f.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucketName))
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(batch)) {
			if err := sum.store(b, key, batch[key]); err != nil {
				return fmt.Errorf("record %q: %w", key, err)
			}
		}
		return b.Put([]byte(manifestName), frame(manifestName, sum.encode()))
	})
	return sum, err
}

// store writes or deletes a record and keeps the tally.
func (s *tally) store(b *bolt.Bucket, key string, value []byte) error {
	if old := b.Get([]byte(key)); len(old) >= 4 {
		s.count--
		s.sum -= weigh(old)
	}
	if value == nil {
		return b.Delete([]byte(key))
	}
	framed := frame(key, value)
	s.count++
	s.sum += weigh(framed)
	return b.Put([]byte(key), framed)
}

func (s *tally) encode() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, s.count), s.sum)
}

// weigh is what a framed record adds to the sum.
func weigh(framed []byte) uint64 {
	return (uint64(binary.LittleEndian.Uint32(framed)) + 1) * 0x9e3779b97f4a7c15
}

// frame puts a checksum of key and value before the value.
func frame(key string, value []byte) []byte {
	framed := append(make([]byte, 4, 4+len(value)), value...)
	binary.LittleEndian.PutUint32(framed, checksum(key, value))
	return framed
}

func checksum(key string, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(key))
	sum = crc32.Update(sum, castagnoli, []byte{0xff, byte(len(key)), byte(len(key) >> 8)})
	return crc32.Update(sum, castagnoli, value)
}

// SetAside renames the file, whatever is there, and begins a new one.
func (f *file) SetAside() (string, error) {
	if f.db != nil {
		db := f.db
		f.db = nil
		if err := db.Close(); err != nil {
			return "", err
		}
	}
	aside := f.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000Z")
	if err := os.Rename(f.path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return aside, f.create(nil)
}

// Close closes the file, and lets another process have it.
func (f *file) Close() error {
	var err error
	if f.db != nil {
		err = f.db.Close()
		f.db = nil
	}
	return errors.Join(err, f.lock.Close())
}

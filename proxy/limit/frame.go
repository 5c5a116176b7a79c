package limit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"runtime/debug"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// tally is what the records of a file come to: how many, and the sum of their
// checksums. It is a record itself. With a checksum of key and value before each value, no
// record can change or be missing unnoticed.
type tally struct{ count, sum uint64 }

// manifestName is the tally's key; no record's begins with a zero octet.
const manifestName = "\x00manifest"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write is a transaction. What bbolt makes of a file that was damaged under its
// hands, a panic or a fault of memory, becomes ErrDamaged; bbolt's half-done transaction
// is left as it is then, since even to close it may wait for ever.
func (f *file) write(batch map[string][]byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			f.db, f.trusted = nil, false
			err = fmt.Errorf("%w: writing %s: %v", ErrDamaged, f.path, p)
		}
	}()
	sum := f.sum
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
	if err != nil {
		return fmt.Errorf("writing %s: %w", f.path, nameless(err))
	}
	f.sum = sum
	return nil
}

// nameless takes the file's name out of an error: bbolt knows the one that it had
// while it was new.
func nameless(err error) error {
	var named *fs.PathError
	if errors.As(err, &named) {
		return named.Err
	}
	return err
}

// store writes or deletes a record and keeps the tally. A key that is too long
// for bbolt is left out, or nothing could be saved any more.
func (s *tally) store(b *bolt.Bucket, key string, value []byte) error {
	if len(key) > bolt.MaxKeySize {
		return nil
	}
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
	sum = crc32.Update(sum, castagnoli, []byte{0, byte(len(key)), byte(len(key) >> 8)})
	return crc32.Update(sum, castagnoli, value)
}

// readRecords gives every record of a file that is as it was saved. Where it is
// not, those before were given all the same.
func readRecords(file *io.SectionReader, give func(key string, value []byte) error) error {
	var found tally
	manifest := ""
	err := readPages(file, bucketName, func(k, framed []byte) error {
		key := string(k)
		if len(framed) < 4 || binary.LittleEndian.Uint32(framed) != checksum(key, framed[4:]) {
			return fmt.Errorf("%w: checksum of record %q", ErrDamaged, key)
		}
		if key == manifestName {
			manifest = string(framed[4:])
			return nil
		}
		found.count++
		found.sum += weigh(framed)
		return give(key, framed[4:])
	})
	if err == nil && manifest != string(found.encode()) {
		return fmt.Errorf("%w: records are missing", ErrDamaged)
	}
	return err
}

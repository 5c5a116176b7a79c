package limit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// copier writes a new file while the former is read.
type copier struct {
	file
	batch map[string][]byte
}

// copyBatch is how many records one transaction of the copy has.
const copyBatch = 10_000

// fill writes what this function gives, and syncs once.
func (c *copier) fill(with func(*copier) error) error {
	c.db.NoSync = true
	c.batch = map[string][]byte{}
	if with != nil {
		if err := with(c); err != nil {
			return err
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.db.NoSync = false
	return c.db.Sync()
}

// read takes over every record of a file that is as it was saved. Where it is
// not, those before were given all the same.
func (c *copier) read(old *os.File, give func(key string, value []byte) error) error {
	var found tally
	var manifest []byte
	err := readPages(old, bucketName, func(k, framed []byte) error {
		key := string(k)
		if len(framed) < 4 || binary.LittleEndian.Uint32(framed) != checksum(key, framed[4:]) {
			return fmt.Errorf("%w: checksum of record %q", ErrDamaged, key)
		}
		if key == manifestName {
			manifest = framed[4:]
			return nil
		}
		found.count++
		found.sum += weigh(framed)
		if err := give(key, framed[4:]); err != nil {
			return err
		}
		return c.add(key, framed[4:])
	})
	if err != nil {
		return err
	}
	if string(manifest) != string(found.encode()) {
		return fmt.Errorf("%w: records are missing", ErrDamaged)
	}
	return nil
}

func (c *copier) add(key string, value []byte) error {
	if value == nil {
		return errors.New("record without a value")
	}
	c.batch[key] = value
	if len(c.batch) < copyBatch {
		return nil
	}
	return c.flush()
}

func (c *copier) flush() error {
	sum, err := c.write(c.batch)
	if err != nil {
		return err
	}
	c.sum = sum
	clear(c.batch)
	return nil
}

package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/smtpwall/smtpwall/proxy/spool"
)

// sieveMemory is how many octets of a body that filters look at stay in memory.
const sieveMemory = 64 << 10

// sieve holds the body of a message until the filters have seen it: in memory,
// and beyond that in a file without a name.
type sieve struct {
	dir    string
	room   func(n int64) bool // reserves n octets of disk; gives -n back
	taken  int64              // reserved
	memory []byte
	file   *os.File
	size   int64 // of the file
	err    error // the first of Write
}

// Write keeps p. An error of it comes back from reader, too.
func (b *sieve) Write(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.file == nil && len(b.memory)+len(p) <= sieveMemory:
		b.memory = append(b.memory, p...)
		return len(p), nil
	case b.file == nil:
		if b.err = b.spill(); b.err != nil {
			return 0, b.err
		}
	}
	if b.err = b.reserve(int64(len(p))); b.err != nil {
		return 0, b.err
	}
	n, err := b.file.Write(p)
	b.size += int64(n)
	b.err = err
	return n, err
}

// sieveStep is how much disk is reserved at a time.
const sieveStep = 1 << 20

// reserve makes sure of room for n more octets.
func (b *sieve) reserve(n int64) error {
	for b.size+n > b.taken {
		if !b.room(sieveStep) {
			return fmt.Errorf("keeping a message for the filters: %w", spool.ErrFull)
		}
		b.taken += sieveStep
	}
	return nil
}

// spill moves what is in memory to the file.
func (b *sieve) spill() error {
	file, err := os.CreateTemp(b.dir, "filter-")
	if err != nil {
		return err
	}
	b.file, b.size = file, int64(len(b.memory))
	if err := os.Remove(file.Name()); err != nil {
		return err
	}
	_, err = file.Write(b.memory)
	b.memory = nil
	return err
}

// reader gives all that was written, from the beginning.
func (b *sieve) reader() (io.Reader, error) {
	switch {
	case b.err != nil:
		return nil, b.err
	case b.file == nil:
		return bytes.NewReader(b.memory), nil
	}
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return b.file, nil
}

// close gives it up.
func (b *sieve) close() {
	b.memory = nil
	if b.file != nil {
		_ = b.file.Close() // nothing of it is wanted any more
		b.file = nil
	}
	if b.taken > 0 {
		b.room(-b.taken)
		b.taken = 0
	}
	b.err = errors.New("closed")
}

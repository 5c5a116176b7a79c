package proxy

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// sieveMemory is how many octets of a body that filters look at stay in memory.
const sieveMemory = 64 << 10

// sieve holds the body of a message until the filters have seen it: in memory,
// and beyond that in a file without a name.
type sieve struct {
	dir    string
	memory []byte
	file   *os.File
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
	n, err := b.file.Write(p)
	b.err = err
	return n, err
}

// spill moves what is in memory to the file.
func (b *sieve) spill() error {
	file, err := os.CreateTemp(b.dir, "filter-")
	if err != nil {
		return err
	}
	b.file = file
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
	b.err = errors.New("closed")
}

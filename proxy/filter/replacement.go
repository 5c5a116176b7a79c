package filter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxInMemory is how many octets of a new body stay in memory.
const maxInMemory = 1 << 20

var (
	errBareCR   = errors.New("bare CR in the body of the filter")
	errBodySize = errors.New("body of the filter is too large")
)

// replacement takes the body that a filter puts in place of the message's.
type replacement struct {
	dir    string
	max    int64
	given  bool // also an empty body is one
	size   int64
	memory []byte
	file   *os.File // without a name
	cr     bool     // the last octet was a CR, and waits for its LF
	inLine bool     // the last line has no end
}

// write takes a part of the body. Lines may end in LF or CRLF, as filters do;
// what is kept has CRLF only.
func (r *replacement) write(p []byte) error {
	r.given = true
	lines := make([]byte, 0, len(p)+len(p)/32+2)
	for len(p) > 0 {
		if r.cr && p[0] != '\n' {
			return errBareCR
		}
		r.cr = false
		stop := bytes.IndexAny(p, "\r\n")
		if stop < 0 {
			lines, r.inLine = append(lines, p...), true
			break
		}
		lines = append(lines, p[:stop]...)
		if r.cr = p[stop] == '\r'; !r.cr {
			lines, r.inLine = append(lines, "\r\n"...), false
		}
		p = p[stop+1:]
	}
	return r.keep(lines)
}

// keep puts lines where there is room for them.
func (r *replacement) keep(lines []byte) error {
	if r.size += int64(len(lines)); r.size > r.max {
		return fmt.Errorf("%w: more than %d octets", errBodySize, r.max)
	}
	if r.file == nil {
		if r.size <= maxInMemory {
			r.memory = append(r.memory, lines...)
			return nil
		}
		if err := r.spill(); err != nil {
			return &localError{fmt.Errorf("keeping the body of the filter: %w", err)}
		}
	}
	if _, err := r.file.Write(lines); err != nil {
		return &localError{fmt.Errorf("keeping the body of the filter: %w", err)}
	}
	return nil
}

// spill moves what is in memory to a file that nobody else can open and that is
// gone with us.
func (r *replacement) spill() error {
	file, err := os.CreateTemp(r.dir, "filter-")
	if err != nil {
		return err
	}
	r.file = file
	if err := os.Remove(file.Name()); err != nil {
		return err
	}
	_, err = file.Write(r.memory)
	r.memory = nil
	return err
}

// finish gives the body to read, and its size.
func (r *replacement) finish() (io.ReadCloser, int64, error) {
	if r.cr {
		return nil, 0, errBareCR
	}
	if r.inLine {
		if err := r.keep([]byte("\r\n")); err != nil {
			return nil, 0, err
		}
	}
	if r.file == nil {
		return io.NopCloser(bytes.NewReader(r.memory)), r.size, nil
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return nil, 0, &localError{fmt.Errorf("reading the body of the filter: %w", err)}
	}
	return r.file, r.size, nil
}

// discard gives up what was kept.
func (r *replacement) discard() {
	if r.file != nil {
		_ = r.file.Close() // nothing of it is wanted
	}
}

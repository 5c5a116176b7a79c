package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// maxLine is more than the longest event: 100 recipients and a score of other
// strings, each of MaxText octets that may become six.
const maxLine = 1 << 20

// source reads one log file line by line and holds one event ahead.
type source struct {
	path    string
	kinds   []Kind // that it may hold; none is any
	file    *os.File
	reader  *bufio.Reader
	partial []byte    // the beginning of a line whose end is not there yet
	skip    bool      // inside a line longer than maxLine
	line    int       // lines read of this file, for errors
	renamed time.Time // when the file was first seen to have another at its path

	event   Event
	ready   bool  // event is the next one
	failed  bool  // the file cannot be read; nothing more is tried
	missing error // why the file could not be found, once
}

// take hands out the event that next made ready.
func (s *source) take() Event {
	s.ready = false
	return s.event
}

func (s *source) close() {
	if s.file != nil {
		s.file.Close() // opened for reading: nothing to lose
	}
	s.file = nil
}

// next makes the next event ready, or leaves ready false at the end of what is
// there. An error is of this file or of one line.
func (s *source) next(follow bool) error {
	for !s.ready && !s.failed {
		if s.file == nil {
			if err := s.open(); err != nil {
				return err
			}
		}
		line, err := s.readLine()
		if errors.Is(err, io.EOF) {
			if follow && s.rotated() {
				continue
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.parse(line); err != nil {
			return err
		}
	}
	return nil
}

func (s *source) open() error {
	file, err := os.Open(s.path)
	if err != nil {
		s.failed = !os.IsNotExist(err)
		return fmt.Errorf("reading audit log: %w", err)
	}
	s.file, s.line, s.partial, s.skip = file, 0, s.partial[:0], false
	s.missing, s.renamed = nil, time.Time{}
	s.reader = bufio.NewReaderSize(file, 64<<10)
	return nil
}

// rotated tells whether another file stands at the path now and the writer has
// surely changed to it; the old one has been read to its end then, and is
// closed, so that next opens the new one.
func (s *source) rotated() bool {
	if _, err := os.Lstat(s.path); err != nil || isAt(s.file, s.path) {
		s.renamed = time.Time{} // not there yet: the writer still uses the old one
		return false
	}
	if s.renamed.IsZero() {
		s.renamed = time.Now()
	}
	if time.Since(s.renamed) <= 2*checkInterval {
		return false
	}
	s.close()
	return true
}

// readLine returns the next whole line without its end. io.EOF means that none
// is there (yet); what is there of it is kept in partial.
func (s *source) readLine() ([]byte, error) {
	for {
		piece, err := s.reader.ReadSlice('\n')
		if !s.skip {
			s.partial = append(s.partial, piece...)
		}
		if len(s.partial) > maxLine {
			s.partial, s.skip = s.partial[:0], true
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		case err != nil:
			s.failed = true
			return nil, fmt.Errorf("reading audit log: %w", err)
		}
		s.line++
		line := s.partial
		s.partial = s.partial[:0]
		if s.skip {
			s.skip = false
			return nil, s.lineError(errors.New("line is too long"))
		}
		return line[:len(line)-1], nil
	}
}

// parse makes event of a line. An empty line is what Log puts after a fragment.
func (s *source) parse(line []byte) error {
	if len(line) == 0 {
		return nil
	}
	s.event = Event{}
	if err := s.event.UnmarshalJSON(line); err != nil {
		return s.lineError(err)
	}
	if len(s.kinds) > 0 && !slices.Contains(s.kinds, s.event.Kind) {
		return s.lineError(fmt.Errorf("an event of kind %.40q does not belong here", s.event.Kind))
	}
	s.ready = true
	return nil
}

func (s *source) lineError(err error) error {
	return fmt.Errorf("reading audit log %s, line %d: %w", s.path, s.line, err)
}

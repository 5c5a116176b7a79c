package spool

import (
	"bytes"
	"errors"
	"io"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// How much of a tail is read: near its end, where the last line mostly is, or
// else all that there can be.
const (
	nearTail = 8 << 10
	maxTail  = 4 << 20
	// longTail is when the next line is written over those at the beginning.
	longTail = 64 << 10
)

// tailLine is the last valid line of a tail.
type tailLine struct {
	Progress
	start int64 // offset in the file
	torn  bool  // something follows that a crash or a full disk has cut short
}

// lastLine finds the last valid line of a tail, or of the end of one. Without
// one, torn says that there is something.
func lastLine(tail []byte) (l tailLine, ok bool) {
	end := len(tail)
	for {
		end = bytes.LastIndexByte(tail[:end], '\n')
		if end < 0 {
			return tailLine{torn: len(tail) > 0}, false
		}
		start := bytes.LastIndexByte(tail[:end], '\n') + 1
		// What a crash has left of an earlier line may stand before the line.
		// The start cannot be within one, where quotes are escaped.
		if at := bytes.LastIndex(tail[start:end], []byte(progressStart)); at >= 0 {
			if p, ok := decodeProgress(tail[start+at : end]); ok {
				return tailLine{p, int64(start + at), end+1 < len(tail)}, true
			}
		}
	}
}

// readTail finds the last valid line in the file between from and to.
func readTail(f io.ReadSeeker, from, to int64) (l tailLine, ok bool, err error) {
	for _, limit := range []int64{nearTail, 2 * longTail, maxTail} {
		start := max(from, to-limit)
		tail, err := readRange(f, start, to)
		if err != nil {
			return tailLine{}, false, err
		}
		l, ok = lastLine(tail)
		l.start += start
		if ok || start == from {
			break
		}
	}
	return l, ok, nil
}

// readRange reads the file between two offsets, or to its end.
func readRange(f io.ReadSeeker, from, to int64) ([]byte, error) {
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	b := make([]byte, to-from)
	n, err := io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return b[:n], err
}

// addLine adds a line to the tail that begins at from, durably, and returns how
// long the file is then. What a crash or a full disk has left of an earlier line
// stays before it.
func addLine(f durable.File, from, size int64, line []byte) (int64, error) {
	at, err := nextLine(f, from, size, len(line))
	if err != nil {
		return 0, err
	}
	if _, err := f.WriteAt(line, at); err != nil {
		return 0, err
	}
	// Once only: after a failed fsync the next one may say yes to lost data.
	if err := f.Sync(); err != nil {
		return 0, err
	}
	end := at + int64(len(line))
	if end >= size {
		return end, nil
	}
	// The line counts from here on, and until here the one that was the last.
	if err := f.Truncate(end); err != nil {
		return 0, err
	}
	return end, f.Sync()
}

// nextLine is where the next line of n bytes goes: to the end, or to the
// beginning of a long tail if it ends before the last valid line begins.
func nextLine(f durable.File, from, size int64, n int) (int64, error) {
	if size-from+int64(n) <= longTail {
		return size, nil
	}
	last, ok, err := readTail(f, from, size)
	if err != nil || !ok || from+int64(n) > last.start {
		return size, err
	}
	return from, nil
}

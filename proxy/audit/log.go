package audit

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
)

// checkInterval is how often at most the path is compared with the open file.
const checkInterval = time.Second

// keptBuffer is the largest encoding buffer that is kept between two events.
const keptBuffer = 64 << 10

// Options of a Log. The zero value is ready to use.
type Options struct {
	Logger *zap.Logger // told once when the log begins to fail and once when it works again
}

// Log is an append-only file of events. Its methods may be called by many
// goroutines.
type Log struct {
	path   string
	logger *zap.Logger

	mu        sync.Mutex
	file      *os.File // nil while it cannot be opened
	buf       []byte
	checked   time.Time // when the path was last compared with file
	torn      bool      // the file ends within a line
	closed    bool
	writeErr  error // of the last write
	reopenErr error // of the last try to open the path again
}

// ErrClosed is returned by Write after Close.
var ErrClosed = errors.New("audit log is closed")

// Open opens the log at path for appending and makes it, with mode 0640, if it
// is not there. A path that is a link or not a regular file is an error.
func Open(path string, options Options) (*Log, error) {
	logger := options.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	file, torn, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("opening audit log: %w", err)
	}
	return &Log{path: path, logger: logger, file: file, torn: torn, checked: time.Now()}, nil
}

// Write appends one event. An error means that the event is not in the log; it
// stays visible in Err until a later event is written. The next Write tries
// again, so a full disk heals without a restart.
func (l *Log) Write(event *Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	failing := l.err() != nil
	l.writeErr = l.write(event)
	l.report(failing)
	return l.writeErr
}

// Err is nil while the log works; else it is why the last event was not
// written, or why the log could not follow a rotation (events then still go to
// the renamed file).
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err()
}

// Close syncs and closes the file. A second Close does nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.file == nil {
		return nil
	}
	if err := errors.Join(l.file.Sync(), l.file.Close()); err != nil {
		return fmt.Errorf("closing audit log: %w", err)
	}
	return nil
}

func (l *Log) err() error { return errors.Join(l.writeErr, l.reopenErr) }

// report logs the two changes of state, never each failure: a full disk would
// fill the journal as well.
func (l *Log) report(wasFailing bool) {
	err := l.err()
	switch {
	case err != nil && !wasFailing:
		l.logger.Error("audit log fails", zap.String(logfields.Path, l.path), zap.Error(err))
	case err == nil && wasFailing:
		l.logger.Info("audit log works again", zap.String(logfields.Path, l.path))
	}
}

func (l *Log) write(event *Event) error {
	now := time.Now()
	l.followRotation(now)
	if l.file == nil {
		return l.reopenErr
	}
	l.encode(event, now)
	if _, err := l.file.Write(l.buf); err != nil { // one write(2): O_APPEND keeps lines whole
		l.torn = !removeTornLine(l.file)
		return fmt.Errorf("writing audit log: %w", err)
	}
	l.torn = false
	return nil
}

// encode fills buf with the line. A line feed first ends a fragment that an
// earlier failure or a crash left behind, so that it spoils no other line.
func (l *Log) encode(event *Event, now time.Time) {
	if cap(l.buf) > keptBuffer {
		l.buf = nil
	}
	l.buf = l.buf[:0]
	if l.torn {
		l.buf = append(l.buf, '\n')
	}
	if event.Time.IsZero() {
		stamped := *event
		stamped.Time = now
		event = &stamped
	}
	l.buf = append(event.AppendJSON(l.buf), '\n')
}

// followRotation opens the path again when it no longer names the open file.
// While that fails the old file is kept: an event in the wrong file is found,
// an event in none is lost.
func (l *Log) followRotation(now time.Time) {
	if l.file != nil && now.Sub(l.checked) < checkInterval {
		return
	}
	l.checked = now
	if l.file != nil && isAt(l.file, l.path) {
		l.reopenErr = nil
		return
	}
	file, torn, err := openFile(l.path)
	if err != nil {
		l.reopenErr = fmt.Errorf("opening audit log again: %w", err)
		return
	}
	if l.file != nil {
		l.file.Close() // read-only in effect: every write has returned already
	}
	l.file, l.torn, l.reopenErr = file, torn, nil
}

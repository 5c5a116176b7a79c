package spool

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
)

// errDone is for a Writer that was committed or aborted.
var errDone = errors.New("the message was committed or aborted before")

// step is the room that a Writer reserves at a time.
const step = 64 << 10

// Writer takes one message. Exactly one of Commit and Abort ends it; Abort after
// Commit does nothing, so that it can be deferred.
type Writer struct {
	s     *Spool
	file  durable.File
	buf   *bufio.Writer
	hash  hash.Hash
	entry Entry
	line  []byte // the entry, encoded
	head  int64  // length of the file's head
	size  int64  // length of the message so far

	reserved int64 // of the spool's limit
	err      error // what has gone wrong; nothing can be right any more
	done     bool
	replaces bool // a message of this id that is ours already
	placed   bool // the file is in hold/
}

// Create begins a message. It fails with ErrFull if the spool is full, or would
// be with a message of the size that the envelope declares, or if too little of
// the disk is free; with fs.ErrExist if the id is taken.
//
// Custody: stays with the client.
func (s *Spool) Create(e Entry) (*Writer, error) {
	now := s.now()
	e.Time = now.UTC().Truncate(time.Millisecond)
	if e.ID == "" {
		e.ID = newID(now)
	}
	if !validID(e.ID) {
		return nil, fmt.Errorf("creating a message: the id %q is not made of 1 to 64 letters and digits", e.ID)
	}
	line, err := e.encode()
	if err != nil {
		return nil, err
	}
	w := newWriter(s, e, line)
	if err := w.admit(); err != nil {
		return nil, err
	}
	if err := w.open(); err != nil {
		s.release(w.reserved)
		return nil, err
	}
	return w, nil
}

func newWriter(s *Spool, e Entry, line []byte) *Writer {
	head := int64(len(encodeHead(line, 0, digest{})))
	return &Writer{s: s, entry: e, line: line, head: head, hash: sha256.New()}
}

// admit reserves the room that the message is known to need.
func (w *Writer) admit() error {
	need := w.head + max(w.entry.Envelope.Params.Size, 0)
	free, err := w.s.fs.Free(w.s.dir)
	if err != nil {
		return fmt.Errorf("creating a message: %w", err)
	}
	if need > free-w.s.minFree {
		return fmt.Errorf("%w: %d bytes are free on the disk", ErrFull, free)
	}
	if err := w.s.reserve(need); err != nil {
		return err
	}
	w.reserved = need
	return nil
}

// open makes the file, with a head that does not yet match any message.
func (w *Writer) open() error {
	file, err := w.s.fs.OpenFile(w.path(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return full(fmt.Errorf("creating message %s: %w", w.entry.ID, err))
	}
	w.file = file
	// Only now, when nobody else can be on the way with this id.
	if err := w.checkUnused(); err != nil {
		w.discard(incomingDir)
		return err
	}
	w.buf = bufio.NewWriterSize(file, step)
	if _, err := w.buf.Write(encodeHead(w.line, 0, digest{})); err != nil {
		w.discard(incomingDir)
		return full(fmt.Errorf("creating message %s: %w", w.entry.ID, err))
	}
	return nil
}

// checkUnused makes sure that the message will replace no other.
func (w *Writer) checkUnused() error {
	if w.replaces {
		return nil
	}
	for _, state := range []string{holdDir, corruptDir} {
		f, err := w.s.fs.OpenFile(w.s.path(state, w.entry.ID), os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			f.Close()
			err = fs.ErrExist
		}
		return fmt.Errorf("creating message %s: %w", w.entry.ID, err)
	}
	return nil
}

// ID is the id of the message.
func (w *Writer) ID() string { return w.entry.ID }

// Write appends to the message. After an error, which is ErrFull where there is
// no room, the message cannot be committed.
//
// Custody: stays with the client.
func (w *Writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, errDone
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.err = w.grow(int64(len(p))); w.err != nil {
		return 0, w.err
	}
	n, err := w.buf.Write(p)
	if err != nil {
		w.err = full(fmt.Errorf("writing message %s: %w", w.entry.ID, err))
		return n, w.err
	}
	w.hash.Write(p)
	w.size += int64(n)
	return n, nil
}

// grow makes sure that n more bytes are reserved, a step at a time unless the
// end of the room is near.
func (w *Writer) grow(n int64) error {
	need := w.fileSize() + n - w.reserved
	if need <= 0 {
		return nil
	}
	take := max(need, step)
	if err := w.s.reserve(take); err != nil {
		if take = need; w.s.reserve(take) != nil {
			return err
		}
	}
	w.reserved += take
	return nil
}

// fileSize is how large the file is by now.
func (w *Writer) fileSize() int64 {
	return w.head + w.size
}

// Commit makes the message durable and returns its id. The file is synced before
// it gets its place in hold/, and hold/ is synced after.
//
// Custody: when it returns nil, and only then, the message is ours: the client
// may be told 250, and neither kill -9 nor power loss takes the message away.
// After an error the client keeps custody. The message is removed; if even that
// fails it may be there after a restart and be delivered twice, never lost.
func (w *Writer) Commit() (id string, err error) {
	if w.done {
		return "", errDone
	}
	if w.err != nil {
		w.Abort()
		return "", w.err
	}
	if err := w.finish(); err != nil {
		w.end(incomingDir)
		return "", full(fmt.Errorf("committing message %s: %w", w.entry.ID, err))
	}
	if err := w.publish(); err != nil {
		return "", full(fmt.Errorf("committing message %s: %w", w.entry.ID, err))
	}
	w.s.release(w.reserved - w.fileSize())
	return w.entry.ID, nil
}

// finish makes the content durable.
func (w *Writer) finish() error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(encodeHead(w.line, w.size, digest(w.hash.Sum(nil))), 0); err != nil {
		return err
	}
	// Once only: after a failed fsync the next one may say yes to lost data.
	if err := w.file.Sync(); err != nil {
		return err
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// publish gives the file its place and makes that durable.
func (w *Writer) publish() error {
	if err := w.s.fs.Rename(w.path(), w.s.path(holdDir, w.entry.ID)); err != nil {
		w.end(incomingDir)
		return err
	}
	w.placed = true
	err := w.s.sync(holdDir)
	if err != nil && !w.replaces {
		w.end(holdDir)
	}
	w.done = true
	return err
}

// Abort gives the message up.
//
// Custody: stays with the client.
func (w *Writer) Abort() {
	if !w.done {
		w.end(incomingDir)
	}
}

// end removes the message from where it is.
func (w *Writer) end(state string) {
	w.done = true
	w.discard(state)
	w.s.release(w.reserved)
}

// discard closes and removes the file. The next start removes what is left in
// incoming/; in hold/ it would be delivered though the client comes again.
func (w *Writer) discard(state string) {
	if w.file != nil {
		w.file.Close()
	}
	err := w.s.fs.Remove(w.s.path(state, w.entry.ID))
	if err != nil {
		w.s.log.Error("refused message not removed",
			zap.String(logfields.Txn, w.entry.ID), zap.String(logfields.Path, w.s.path(state)), zap.Error(err))
	}
}

func (w *Writer) path() string { return w.s.path(incomingDir, w.entry.ID) }

// full makes an ErrFull of an error that says that the disk is.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

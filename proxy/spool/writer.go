package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
)

// errDone is for a Writer that was committed or aborted.
var errDone = errors.New("the message was committed or aborted before")

// A Writer keeps holdSize bytes of the message in memory before it makes a file,
// which it then writes in pieces of spillSize. Its buffer has room for a head and
// a line of progress beside them.
const (
	spillSize  = 32 << 10
	holdSize   = spillSize + 4<<10
	bufferSize = holdSize + 4<<10
)

// lookEvery is by how much a file may grow before the disk's free space is looked
// at again.
const lookEvery = 1 << 20

// Writer takes one message. Exactly one of Commit and Abort ends it; Abort after
// Commit does nothing, so that it can be deferred.
type Writer struct {
	s     *Spool
	later func() Entry // of a Tee that is not begun

	entry  Entry
	line   []byte  // the entry, encoded
	head   int64   // length of the file's head
	record *record // once begun

	buffer *[bufferSize]byte // pooled; nil until there is something to hold
	held   []byte            // what of the message is in the buffer
	file   durable.File      // while it is open
	place  string            // where the file is; "" is nowhere
	queued bool              // the file is in queue/
	spilt  int64             // what of the message is in the file
	stale  int64             // how long the file was when it became ours
	looked int64             // how long it was when we looked for free space

	err  error // what has gone wrong; nothing can be right any more
	done bool
}

// Create begins a message. It fails with ErrFull, or with ErrIdentityFull, if
// there is no room, or would be none with a message of the size that the envelope
// declares; with fs.ErrExist if the id is taken; and while the spool's directory
// cannot be synced.
//
// Custody: stays with the client.
func (s *Spool) Create(e Entry) (*Writer, error) {
	if err := s.group.healthy(); err != nil {
		return nil, fmt.Errorf("creating a message: %w", err)
	}
	w := &Writer{s: s}
	if err := w.begin(e); err != nil {
		return nil, err
	}
	return w, nil
}

// Tee begins a message that is most likely not to be kept. Nothing is done for
// it but to hold its first 32 KiB, until it outgrows them or is committed; entry
// is called then. What Create would say about room is said by Write and Commit.
//
// Custody: stays with the client.
func (s *Spool) Tee(entry func() Entry) *Writer {
	return &Writer{s: s, later: entry}
}

// begin makes sure that the message can have its id and its room.
func (w *Writer) begin(e Entry) error {
	now := w.s.now()
	e.Time = now.UTC().Truncate(time.Millisecond)
	if e.ID == "" {
		e.ID = NewID(now)
	}
	if !validID(e.ID) {
		return fmt.Errorf("creating a message: the id %q is not made of 1 to 64 letters and digits", e.ID)
	}
	line, err := e.encode()
	if err != nil {
		return err
	}
	w.entry, w.line, w.head = e, line, headLength(line)
	need := w.head + max(e.Envelope.Params.Size, w.size())
	if err := w.s.checkFree(need); err != nil {
		return fmt.Errorf("creating message %s: %w", e.ID, err)
	}
	return w.s.admitted(func() (err error) {
		w.record, err = w.s.index.admit(e.ID, e.Identity.Key(), need)
		return err
	})
}

// begun is begin for a Tee, once it has to.
func (w *Writer) begun() error {
	if w.record != nil {
		return nil
	}
	return w.begin(w.later())
}

// ID is the id of the message; of a Tee, once it is committed.
func (w *Writer) ID() string { return w.entry.ID }

// size is how long the message is by now.
func (w *Writer) size() int64 { return w.spilt + int64(len(w.held)) }

// Write appends to the message. After an error, which is ErrFull where there is
// no room, the message cannot be committed and takes no room any more.
//
// Custody: stays with the client.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.done {
		return 0, errDone
	}
	if w.err != nil {
		return 0, w.err
	}
	for len(p) > 0 {
		if w.buffer == nil {
			w.buffer = w.s.buffers.Get().(*[bufferSize]byte)
			w.held = w.buffer[:0]
		}
		if len(w.held) >= w.room() {
			if err := w.spill(); err != nil {
				w.fail(full(fmt.Errorf("writing message %s: %w", w.entry.ID, err)))
				return n, w.err
			}
		}
		k := min(len(p), w.room()-len(w.held))
		w.held = append(w.held, p[:k]...)
		p, n = p[k:], n+k
	}
	return n, nil
}

// room is how much is held: a message of 32 KiB with the trace field before it
// needs no file.
func (w *Writer) room() int {
	if w.file == nil {
		return holdSize
	}
	return spillSize
}

// spill moves what the buffer holds to the file. Each piece begins on a multiple
// of its length, the head included: the kernel then has few and large folios.
func (w *Writer) spill() error {
	if w.file == nil {
		if err := w.begun(); err != nil {
			return err
		}
		if err := w.openAgain(); err != nil {
			return err
		}
		// The head does not match any message yet.
		w.held = slices.Insert(w.held, 0, encodeHead(w.line, 0, digest{})...)
		w.spilt = -w.head
	}
	if err := w.grow(w.head + w.size()); err != nil {
		return err
	}
	whole := len(w.held) - len(w.held)%spillSize
	if _, err := w.file.WriteAt(w.held[:whole], w.head+w.spilt); err != nil {
		return err
	}
	w.spilt += int64(whole)
	w.held = append(w.buffer[:0], w.held[whole:]...)
	return nil
}

// openAgain takes a file that is there, or makes one.
func (w *Writer) openAgain() error {
	if f, ok := w.s.takeSpare(w.record); ok {
		w.file, w.place, w.stale = f.file, f.place, f.size
		return nil
	}
	return w.open()
}

// openLeft takes the file of a message that was removed, or makes one.
func (w *Writer) openLeft() error {
	f, ok := w.s.takeLeft(w.record)
	if !ok {
		return w.open()
	}
	w.place = f.place
	file, err := w.s.fs.OpenFile(f.place, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	w.file = file
	st, err := file.Stat()
	if err != nil {
		return err
	}
	w.stale = st.Size()
	return nil
}

// open makes the file.
func (w *Writer) open() error {
	place := w.s.incomingPath(w.entry.ID, w.s.files.Add(1))
	file, err := w.s.fs.OpenFile(place, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	w.file, w.place = file, place
	return nil
}

// grow makes room for a file of this size. The disk may fill up meanwhile, not
// least by messages of no declared size.
func (w *Writer) grow(size int64) error {
	if size >= w.looked+lookEvery {
		if err := w.s.checkFree(lookEvery); err != nil {
			return err
		}
		w.looked = size
	}
	return w.s.admitted(func() error { return w.s.index.grow(w.record, size) })
}

// Abort gives the message up.
//
// Custody: stays with the client.
func (w *Writer) Abort() {
	if !w.done {
		w.end()
	}
}

// fail gives the message up for a reason that Commit will give again.
func (w *Writer) fail(err error) {
	w.err = err
	w.end()
	w.done = false
}

// end gives back what the writer has, and removes what nobody was promised.
func (w *Writer) end() {
	w.done = true
	if w.file != nil {
		w.release()
	}
	if w.place != "" {
		w.discard()
	}
	if w.record != nil {
		w.s.mu.Lock()
		w.s.index.forget(w.entry.ID, w.record)
		w.s.mu.Unlock()
		w.record = nil
	}
	if w.buffer != nil {
		w.s.buffers.Put(w.buffer)
		w.buffer, w.held = nil, nil
	}
}

// release gives the file to the next Writer if it is good for that.
func (w *Writer) release() {
	f := spare{file: w.file, place: w.place, size: max(w.stale, w.head+w.spilt)}
	if w.err == nil && w.s.keepSpare(w.entry.ID, w.record, f) {
		w.place, w.record = "", nil
	} else {
		w.file.Close()
	}
	w.file = nil
}

// discard removes the file. The next start removes what is left in incoming/; in
// queue/ it would be delivered though the client comes again, so that the removal
// must be durable before the client hears of the error: the sync that has failed
// may have kept the name.
func (w *Writer) discard() {
	err := w.s.fs.Remove(w.place)
	if err == nil && w.queued {
		w.s.group.change()
		err = w.s.group.wait(context.Background())
	}
	if err != nil {
		w.s.log.Error("refused message not removed", zap.String(logfields.Txn, w.entry.ID), zap.String(logfields.Path, w.place), zap.Error(err))
	}
	w.place = ""
}

// full makes an ErrFull of an error that says that the disk is.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

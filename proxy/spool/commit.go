package spool

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
)

// Commit makes the message durable and gives it its first state: Deferred, Hold
// or Active. The file is synced before it gets its place in queue/, and queue/ is
// synced after, together with the others who commit at that time. A zero
// Progress.Time is now.
//
// Custody: when it returns nil, and only then, the message is ours: the client
// may be told 250, and neither kill -9 nor power loss takes the message away.
// After an error the client keeps custody. The message is removed; if even that
// fails it may be there after a restart and be delivered twice, never lost.
func (w *Writer) Commit(state State, p Progress) error {
	if w.done {
		return errDone
	}
	if w.err != nil {
		return w.err
	}
	if err := w.commit(state, p); err != nil {
		w.fail(full(fmt.Errorf("committing message %s: %w", w.entry.ID, err)))
		return w.err
	}
	w.end()
	return nil
}

func (w *Writer) commit(state State, p Progress) error {
	if !state.inQueue() {
		return fmt.Errorf("%q is no state for it", state)
	}
	if err := w.begun(); err != nil {
		return err
	}
	if p.Time.IsZero() {
		p.Time = w.s.now().UTC()
	}
	line, err := p.encode()
	if err != nil {
		return err
	}
	if err := w.grow(w.head + w.size() + int64(len(line))); err != nil {
		return err
	}
	if err := w.write(line); err != nil {
		return err
	}
	size := w.head + w.size() + int64(len(line))
	if err := w.cut(size); err != nil {
		return err
	}
	if err := w.sync(); err != nil {
		return err
	}
	return w.publish(state, size)
}

// write completes the file.
func (w *Writer) write(line []byte) error {
	if w.file != nil {
		return w.complete(line)
	}
	if err := w.openLeft(); err != nil {
		return err
	}
	head := encodeHead(w.line, w.size(), sha256.Sum256(w.held))
	all := slices.Insert(w.held, 0, head...) // mostly within the buffer
	_, err := w.file.Write(append(all, line...))
	return err
}

// complete ends a file that has the beginning of the message already.
func (w *Writer) complete(line []byte) error {
	if _, err := w.file.WriteAt(append(w.held, line...), w.head+w.spilt); err != nil {
		return err
	}
	if _, err := w.file.Seek(w.head, io.SeekStart); err != nil {
		return err
	}
	hash := sha256.New()
	if _, err := io.CopyBuffer(onlyWriter{hash}, onlyReader{io.LimitReader(w.file, w.size())}, w.buffer[:]); err != nil {
		return err
	}
	_, err := w.file.WriteAt(encodeHead(w.line, w.size(), digest(hash.Sum(nil))), 0)
	return err
}

// cut takes away what an older message has left behind the end of this one.
func (w *Writer) cut(size int64) error {
	if w.stale <= size {
		return nil
	}
	return w.file.Truncate(size)
}

// sync makes the content durable.
func (w *Writer) sync() error {
	// Once only: after a failed fsync the next one may say yes to lost data.
	if err := w.file.Sync(); err != nil {
		return err
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// publish gives the file its place and makes that durable.
func (w *Writer) publish(state State, size int64) error {
	s, place := w.s, w.s.queuePath(w.entry.ID, state)
	if err := s.fs.Rename(w.place, place); err != nil {
		return err
	}
	w.place, w.queued = place, true
	s.group.change()
	if err := s.group.wait(context.Background()); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.setStale(w.record, 0)
	s.index.resize(w.record, size)
	s.index.setState(w.record, state)
	w.record.tail = w.head + w.size()
	w.place, w.record = "", nil // they are the spool's now
	return nil
}

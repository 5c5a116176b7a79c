package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
)

// Activate says that a message will be tried. It is durable once Sync
// returns nil, which must be before the relay gets the end of data: a message
// that is active after a crash is marked as a possible duplicate. It fails with
// ErrUnknown if there is no such message.
//
// Custody: ours, unchanged.
func (s *Spool) Activate(id string) error {
	r, err := s.claim(id, queued...)
	if err != nil {
		return err
	}
	defer r.mu.Unlock()
	return s.rename(id, r, Active)
}

// Settle writes down what a try has come to, or what a person has ordered, and
// gives the message its next state: Deferred, Hold or Active. Progress is
// appended and synced before the state changes; a zero Time is now. It fails
// with ErrUnknown if there is no such message.
//
// Custody: ours, all the while. When it returns nil both are durable. After an
// error, and after a crash before it returns, each is the old one or the new one,
// and the new state never goes with the old progress.
func (s *Spool) Settle(id string, p Progress, to State) error {
	if !to.inQueue() {
		return fmt.Errorf("settling message %s: %q is no state for it", id, to)
	}
	if err := s.settle(id, p, to); err != nil {
		return err
	}
	if err := s.group.wait(context.Background()); err != nil {
		return fmt.Errorf("settling message %s: %w", id, err)
	}
	return nil
}

// settle is Settle but for the sync.
func (s *Spool) settle(id string, p Progress, to State) error {
	r, err := s.claim(id, queued...)
	if err != nil {
		return err
	}
	defer r.mu.Unlock()
	if p.Time.IsZero() {
		p.Time = s.now().UTC()
	}
	p.PossibleDuplicate = p.PossibleDuplicate || r.interrupted
	if err := s.appendProgress(id, r, p); err != nil {
		return full(fmt.Errorf("settling message %s: %w", id, err))
	}
	return s.rename(id, r, to)
}

// claim returns the record of a message in one of these states, locked.
func (s *Spool) claim(id string, states ...State) (*record, error) {
	s.mu.Lock()
	r := s.index.records[id]
	s.mu.Unlock()
	if r == nil {
		return nil, ErrUnknown
	}
	r.mu.Lock()
	if !slices.Contains(states, r.state) {
		r.mu.Unlock()
		return nil, ErrUnknown
	}
	return r, nil
}

// appendProgress adds a line to a message's file, durably. The caller holds the
// record. The limits do not apply, since the message is ours.
func (s *Spool) appendProgress(id string, r *record, p Progress) error {
	line, err := p.encode()
	if err != nil {
		return err
	}
	f, err := s.fs.OpenFile(s.queuePath(id, r.fileState()), os.O_RDWR, 0)
	if err != nil {
		return s.gone(id, r, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	from, err := s.tailOf(f, id, r)
	if err != nil {
		return err
	}
	size, err := addLine(f, from, st.Size(), line)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.resize(r, size)
	return nil
}

// tailOf is where the tail of a message's file begins.
func (s *Spool) tailOf(f durable.File, id string, r *record) (int64, error) {
	s.mu.Lock()
	tail := r.tail
	s.mu.Unlock()
	if tail > 0 {
		return tail, nil
	}
	h, err := readHead(f, id)
	return h.end(), err
}

// rename gives a message its next state. The caller holds the record.
func (s *Spool) rename(id string, r *record, to State) error {
	if from := r.fileState(); from != to {
		if err := s.fs.Rename(s.queuePath(id, from), s.queuePath(id, to)); err != nil {
			return fmt.Errorf("making message %s %s: %w", id, to, s.gone(id, r, err))
		}
		s.group.change()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.setState(r, to)
	r.interrupted = false
	return nil
}

// gone turns an error that says that somebody took the file away into an
// ErrUnknown. The caller holds the record.
func (s *Spool) gone(id string, r *record, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.log.Error("message is not there any more", zap.String(logfields.Txn, id), zap.Error(err))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.forget(id, r)
	return ErrUnknown
}

// Remove ends our custody of a message in the queue: call it when somebody else
// has the message for every recipient. It returns without waiting for the disk;
// the directory is synced soon. It fails with ErrUnknown if there is none.
//
// Custody: given up when it returns nil. After power loss the message may be
// back, as it was: if it was active, as a possible duplicate.
func (s *Spool) Remove(id string) error { return s.removeFrom(id, queued...) }

// Discard is Remove, of a message that is in this state now: one that somebody
// has given another one meanwhile stays, and is an ErrUnknown.
//
// Custody: as Remove.
func (s *Spool) Discard(id string, state State) error {
	if !state.inQueue() {
		return ErrUnknown
	}
	return s.removeFrom(id, state)
}

// removeFrom removes a message in one of these states.
func (s *Spool) removeFrom(id string, states ...State) error {
	f, err := s.unlink(id, s.takeOut, states...)
	if err != nil {
		return err
	}
	s.group.changeSoon()
	s.keepLeft(f)
	return nil
}

// Drop ends our custody of a message because a person wants it so, also of a
// corrupt one. It fails with ErrUnknown if there is none.
//
// Custody: given up for good when it returns nil. After an error, and after a
// crash before it returns, the message may still be there.
func (s *Spool) Drop(id string) error {
	_, err := s.unlink(id, s.erase, queued...)
	if errors.Is(err, ErrUnknown) {
		return s.dropCorrupt(id)
	}
	if err != nil {
		return err
	}
	s.group.change()
	if err := s.group.wait(context.Background()); err != nil {
		return fmt.Errorf("dropping message %s: %w", id, err)
	}
	return nil
}

// unlink removes a message that is in one of these states of the queue, in this
// way.
func (s *Spool) unlink(id string, remove func(string, *record) (left, error), states ...State) (left, error) {
	r, err := s.claim(id, states...)
	if err != nil {
		return left{}, err
	}
	defer r.mu.Unlock()
	f, err := remove(id, r)
	if err != nil {
		return left{}, fmt.Errorf("removing message %s: %w", id, s.gone(id, r, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.forget(id, r)
	return f, nil
}

func (s *Spool) dropCorrupt(id string) error {
	s.mu.Lock()
	known := s.index.corrupt[id] > 0
	s.mu.Unlock()
	if !known {
		return ErrUnknown
	}
	if err := s.fs.Remove(s.path(corruptDir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dropping message %s: %w", id, err)
	}
	s.mu.Lock()
	s.index.dropCorrupt(id)
	s.mu.Unlock()
	return s.syncDir(corruptDir)
}

// Corrupt is the ids of the messages that were put aside because their files are
// not what was written. Their files are in corrupt/; only Drop takes them away.
func (s *Spool) Corrupt() (ids []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.index.corrupt {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// aside reports a damaged message and moves it to corrupt/, durably.
func (s *Spool) aside(id string, damage error) error {
	r, err := s.claim(id, queued...)
	if err != nil {
		return nil // another reader was faster
	}
	defer r.mu.Unlock()
	s.log.Error("damaged message put aside", zap.String(logfields.Txn, id), zap.String(logfields.Path, s.path(corruptDir, id)), zap.Error(damage))
	if err := s.moveAside(s.queuePath(id, r.fileState()), id); err != nil {
		return s.gone(id, r, err)
	}
	s.mu.Lock()
	size := r.blocks
	s.index.forget(id, r)
	s.index.aside(id, size)
	s.mu.Unlock()
	s.group.change()
	return s.group.wait(context.Background())
}

// moveAside takes a file to corrupt/.
func (s *Spool) moveAside(from, id string) error {
	s.moving.Lock()
	defer s.moving.Unlock()
	s.moved = true
	if err := s.fs.Rename(from, s.path(corruptDir, id)); err != nil {
		return fmt.Errorf("moving message %s to %s: %w", id, corruptDir, err)
	}
	// If a crash has left both names of one file, the rename has done nothing.
	if err := s.fs.Remove(from); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("moving message %s to %s: %w", id, corruptDir, err)
	}
	return nil
}

// syncQueue syncs queue/. What was moved to corrupt/ must have its new name
// before it loses the old one.
func (s *Spool) syncQueue() error {
	s.moving.Lock()
	defer s.moving.Unlock()
	if s.moved {
		if err := s.syncDir(corruptDir); err != nil {
			return err
		}
		s.moved = false
	}
	return s.syncDir(queueDir)
}

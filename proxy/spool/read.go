package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
)

// Message is a message that was verified. Reading gives its text; close it.
type Message struct {
	Entry
	io.ReadCloser
}

// All goes through the held messages in no order, reading only their heads and
// keeping none in memory. A message that cannot be read comes as an Entry with
// nothing but an ID, and an error; a damaged one (ErrDamaged) has been moved to
// corrupt/. A message that comes or goes meanwhile may be among them or not.
//
// Custody: ours, unchanged.
func (s *Spool) All() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		stopped := errors.New("stopped")
		err := s.eachFile(holdDir, func(file fs.DirEntry) error {
			e, err := s.entry(file.Name())
			if errors.Is(err, ErrUnknown) {
				return nil
			}
			if !yield(e, err) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(Entry{}, fmt.Errorf("listing the spool: %w", err))
		}
	}
}

// List is all held messages, the oldest first. The error names each message
// that could not be read; the others are listed all the same.
//
// Custody: ours, unchanged.
func (s *Spool) List() ([]Entry, error) {
	var entries []Entry
	var errs []error
	for e, err := range s.All() {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return entries, errors.Join(errs...)
}

// entry reads the head of one message.
func (s *Spool) entry(id string) (Entry, error) {
	f, err := s.open(id)
	if err != nil {
		return Entry{ID: id}, err
	}
	defer f.Close()
	h, err := readHead(f, id)
	if err != nil {
		return Entry{ID: id}, s.failed(id, err)
	}
	return h.entry, nil
}

// Read opens a held message, after having read and verified all of it, so that
// no damaged message is begun to be delivered. It fails with ErrUnknown if there
// is none, and with ErrDamaged if it was moved to corrupt/ for that.
//
// Custody: ours, unchanged.
func (s *Spool) Read(id string) (*Message, error) {
	f, h, err := s.openVerified(id)
	if err != nil {
		return nil, err
	}
	return &Message{Entry: h.entry, ReadCloser: f}, nil
}

// openVerified opens a message's file at the beginning of the message.
func (s *Spool) openVerified(id string) (durable.File, head, error) {
	f, err := s.open(id)
	if err != nil {
		return nil, head{}, err
	}
	h, err := verify(f, id)
	if err != nil {
		f.Close()
		return nil, head{}, s.failed(id, err)
	}
	return f, h, nil
}

// verify reads the whole file and leaves it at the beginning of the message.
func verify(f durable.File, id string) (head, error) {
	h, err := readHead(f, id)
	if err != nil {
		return head{}, err
	}
	if _, err := f.Seek(h.len, io.SeekStart); err != nil {
		return head{}, err
	}
	if err := verifyMessage(f, h); err != nil {
		return head{}, err
	}
	_, err = f.Seek(h.len, io.SeekStart)
	return h, err
}

// open opens the file of a held message.
func (s *Spool) open(id string) (durable.File, error) {
	if !validID(id) {
		return nil, ErrUnknown
	}
	f, err := s.fs.OpenFile(s.path(holdDir, id), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("reading message %s: %w", id, err)
	}
	return f, nil
}

// failed reports a message that could not be read, and puts it aside if it is
// damaged. It stays where it is if only the reading failed: that may pass.
func (s *Spool) failed(id string, err error) error {
	err = fmt.Errorf("reading message %s: %w", id, err)
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	s.log.Error("damaged message put aside", zap.String(logfields.Txn, id), zap.String(logfields.Path, s.path(corruptDir, id)), zap.Error(err))
	return errors.Join(err, s.move(id, holdDir, corruptDir))
}

// move takes a message from one state to another, durably. The old place is
// synced only after the new one: it must not be gone without a new one.
func (s *Spool) move(id, from, to string) error {
	err := s.fs.Rename(s.path(from, id), s.path(to, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another reader was faster
	}
	if err != nil {
		return fmt.Errorf("moving message %s to %s: %w", id, to, err)
	}
	if err := s.sync(to); err != nil {
		return err
	}
	return s.sync(from)
}

// Remove ends our custody of a held message: call it when somebody else has the
// message for every recipient, or when a person has dropped it. It fails with
// ErrUnknown if there is none.
//
// Custody: given up when it returns nil. After an error, and after a crash
// before it returns, the message may still be there and be delivered again.
func (s *Spool) Remove(id string) error {
	f, err := s.open(id)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	f.Close()
	if err != nil {
		return fmt.Errorf("removing message %s: %w", id, err)
	}
	err = s.fs.Remove(s.path(holdDir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrUnknown
	}
	if err != nil {
		return fmt.Errorf("removing message %s: %w", id, err)
	}
	s.release(st.Size())
	if err := s.sync(holdDir); err != nil {
		return fmt.Errorf("removing message %s: %w", id, err)
	}
	return nil
}

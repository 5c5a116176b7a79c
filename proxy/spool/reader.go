package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// Reader looks at a spool without taking it and without changing anything, for
// the command line while no daemon runs. Beside one that does run it is of less
// use: a message may then be missed that changes its state.
type Reader struct{ store }

// OpenReadOnly looks at the spool in dir. It fails with fs.ErrNotExist if there
// is none, and with fs.ErrPermission if it is not ours to read.
func OpenReadOnly(dir string) (*Reader, error) {
	r := &Reader{store{dir: dir, fs: durable.OS{}}}
	f, err := r.fs.OpenFile(dir, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the spool: %w", err)
	}
	return r, f.Close()
}

// All is as Spool.All; a damaged message stays where it is. What was active when
// the daemon ended is active here.
func (r *Reader) All(states ...State) iter.Seq2[Item, error] {
	if len(states) == 0 {
		states = queued
	}
	return func(yield func(Item, error) bool) {
		ids, err := r.ids(states)
		if err != nil {
			yield(Item{}, fmt.Errorf("listing the spool: %w", err))
			return
		}
		readAhead(ids, states, r.Show, yield)
	}
}

// ids are the messages in these states.
func (r *Reader) ids(states []State) (ids []string, err error) {
	err = r.eachIn(queueDir, func(e fs.DirEntry) error {
		if id, state, ok := parseQueueName(e.Name()); ok && slices.Contains(states, state) {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil || !slices.Contains(states, Hold) {
		return ids, err
	}
	old, err := r.names(holdDir)
	return append(ids, old...), err
}

// names are the messages in a directory where files are named by the id alone.
func (r *Reader) names(dir string) (ids []string, err error) {
	err = r.eachIn(dir, func(e fs.DirEntry) error {
		if validID(e.Name()) {
			ids = append(ids, e.Name())
		}
		return nil
	})
	return ids, err
}

// eachIn is eachFile for a directory that may not be there.
func (r *Reader) eachIn(dir string, fn func(fs.DirEntry) error) error {
	if err := r.eachFile(dir, fn); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Show is as Spool.Show.
func (r *Reader) Show(id string) (Item, error) {
	o, err := r.open(id)
	if err != nil {
		return Item{}, err
	}
	defer o.close()
	item, _, err := o.item()
	if err != nil {
		return Item{}, fmt.Errorf("reading message %s: %w", id, err)
	}
	return item, nil
}

// Read is as Spool.Read.
func (r *Reader) Read(id string) (*Message, error) {
	o, err := r.open(id)
	if err != nil {
		return nil, err
	}
	m, _, err := o.message()
	if err != nil {
		o.close()
		return nil, fmt.Errorf("reading message %s: %w", id, err)
	}
	return m, nil
}

// Corrupt is as Spool.Corrupt.
func (r *Reader) Corrupt() (ids []string, err error) {
	ids, err = r.names(corruptDir)
	slices.Sort(ids)
	return ids, err
}

// open opens the file of a message, wherever it is.
func (r *Reader) open(id string) (*opened, error) {
	if !validID(id) {
		return nil, ErrUnknown
	}
	for _, place := range []struct {
		state State
		path  string
	}{
		{Deferred, r.queuePath(id, Deferred)}, {Active, r.queuePath(id, Active)}, {Hold, r.queuePath(id, Hold)}, {Hold, r.path(holdDir, id)},
	} {
		f, err := r.fs.OpenFile(place.path, os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading message %s: %w", id, err)
		}
		return &opened{ReadSeeker: f, file: f, id: id, state: place.state}, nil
	}
	return nil, ErrUnknown
}

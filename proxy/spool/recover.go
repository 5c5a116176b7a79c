package spool

import (
	"errors"
	"io/fs"
	"os"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
)

// recover brings the spool to a known state after whatever ended the last
// process. It reads the names and lengths of all files, and the content only of
// those that were active.
func (s *Spool) recover() error {
	for _, step := range []func() error{s.removeIncoming, s.countCorrupt, s.countQueue} {
		if err := step(); err != nil {
			return err
		}
	}
	adopted, err := s.adoptHold()
	if err != nil {
		return err
	}
	s.resumeActive()
	// A message may have been renamed by a process that was killed before it
	// could sync, and is listed from now on: make sure that it stays.
	s.moved = true
	if err := s.syncQueue(); err != nil || !adopted {
		return err
	}
	return s.removeHold()
}

func (s *Spool) removeIncoming() error {
	n := 0
	err := s.eachFile(incomingDir, func(e fs.DirEntry) error {
		if !isIncoming(e.Name()) {
			return s.leave(incomingDir, e)
		}
		n++
		return s.fs.Remove(s.path(incomingDir, e.Name()))
	})
	if n > 0 {
		s.log.Info("unfinished messages removed", zap.Int(logfields.Count, n))
	}
	return err
}

// leave says that a file is none of ours.
func (s *Spool) leave(dir string, e fs.DirEntry) error {
	s.log.Warn("not a message, left alone", zap.String(logfields.Path, s.path(dir, e.Name())))
	return nil
}

func (s *Spool) countCorrupt() error {
	return s.eachFile(corruptDir, func(e fs.DirEntry) error {
		if !validID(e.Name()) {
			return s.leave(corruptDir, e)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.index.aside(e.Name(), info.Size())
		return nil
	})
}

func (s *Spool) countQueue() error {
	return s.eachFile(queueDir, func(e fs.DirEntry) error {
		id, state, ok := parseQueueName(e.Name())
		if !ok {
			return s.leave(queueDir, e)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if twin := s.index.records[id]; twin != nil {
			return s.separate(id, twin, state, info.Size())
		}
		r := &record{}
		s.index.records[id] = r
		s.index.resize(r, info.Size())
		s.index.setState(r, state)
		return nil
	})
}

// separate puts one of two files of the same message aside. We never make two,
// so somebody has copied one; the active one stays, as it says the most.
func (s *Spool) separate(id string, twin *record, state State, size int64) error {
	if state == Active {
		state = twin.state
		s.index.setState(twin, Active)
	}
	s.log.Error("second file of a message put aside", zap.String(logfields.Txn, id), zap.String(logfields.Path, s.path(corruptDir, id)))
	s.index.aside(id, size)
	return s.moveAside(s.queuePath(id, state), id)
}

// adoptHold moves the messages of format 1 to queue/, if there is a hold/.
func (s *Spool) adoptHold() (there bool, err error) {
	err = s.eachFile(holdDir, func(e fs.DirEntry) error {
		id := e.Name()
		if !validID(id) {
			return s.leave(holdDir, e)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if s.index.records[id] != nil {
			return s.adoptAgain(id, info.Size())
		}
		if err := s.fs.Rename(s.path(holdDir, id), s.queuePath(id, Hold)); err != nil {
			return err
		}
		r := &record{}
		s.index.records[id] = r
		s.index.resize(r, info.Size())
		s.index.setState(r, Hold)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, err
}

// adoptAgain is for a message that is in queue/ too: a crash between the syncs
// of the two directories may leave both names of one file.
func (s *Spool) adoptAgain(id string, size int64) error {
	same, err := s.sameHead(s.path(holdDir, id), s.queuePath(id, s.index.records[id].state), id)
	if err != nil {
		return err
	}
	if same {
		// The other name must be durable before this one goes.
		if err := s.syncQueue(); err != nil {
			return err
		}
		return s.fs.Remove(s.path(holdDir, id))
	}
	s.log.Error("second file of a message put aside", zap.String(logfields.Txn, id), zap.String(logfields.Path, s.path(corruptDir, id)))
	s.index.aside(id, size)
	return s.moveAside(s.path(holdDir, id), id)
}

// sameHead reports whether two files are of one message.
func (s *Spool) sameHead(a, b, id string) (bool, error) {
	var heads [2]head
	for i, name := range []string{a, b} {
		f, err := s.fs.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			return false, err
		}
		heads[i], err = readHead(f, id)
		f.Close()
		if errors.Is(err, ErrDamaged) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return heads[0].own == heads[1].own, nil
}

// removeHold ends the adoption.
func (s *Spool) removeHold() error {
	if err := s.fs.Remove(s.path(holdDir)); err != nil { // something that is none of ours is there
		return s.syncDir(holdDir)
	}
	return s.syncDir("")
}

// resumeActive makes every active message deferred: whoever tried it is gone.
func (s *Spool) resumeActive() {
	for _, id := range s.index.ids([]State{Active}) {
		r := s.index.records[id]
		s.index.setState(r, Deferred)
		r.interrupted = true
		if err := s.resume(id, r); err != nil {
			// It will be tried and marked all the same, as long as we live,
			// and at the next start it will be found like this again.
			s.log.Error("interrupted try not written down", zap.String(logfields.Txn, id), zap.Error(err))
		}
	}
}

// resume writes down that a try was cut short.
func (s *Spool) resume(id string, r *record) error {
	item, err := s.Show(id)
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnknown) {
		return nil // was reported
	}
	if err != nil {
		return err
	}
	item.Progress.Time = s.now().UTC()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := s.appendProgress(id, r, item.Progress); err != nil {
		return err
	}
	return s.rename(id, r, Deferred)
}

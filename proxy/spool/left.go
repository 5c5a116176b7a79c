package spool

import (
	"errors"
	"slices"
	"sort"
	"time"
)

// To make files and to take them away can cost more than to write to them: a file
// system may look at every file that was removed of late before it makes another.
// So the files of short messages that were removed wait in incoming/ too, for the
// next short messages.
//
// Such a file may not be overwritten before its message can come back no more:
// the sync of queue/ that follows its renaming must have ended well, and none may
// have failed since, as that one may have lost the renaming. Nobody may be
// reading it either.
const (
	maxLeft      = 1000
	maxLeftBytes = 16 << 20 // of all of them
	maxLeftSize  = bufferSize
	leftStep     = 50 // are removed at a time, and then no more for a while
	leftPause    = 100 * time.Millisecond
)

// left is the file of a message that was removed.
type left struct {
	spare
	mark mark // the renaming
}

// mayLeave reports whether the file of a message may be kept when the message is
// removed. The caller holds the record.
func (s *Spool) mayLeave(r *record) bool {
	if r.readers.Load() > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := &s.spares
	return !sp.closed && r.blocks <= maxLeftSize && len(sp.left) < maxLeft && sp.leftBytes+r.blocks <= maxLeftBytes && s.index.affords(r, r.blocks)
}

// keepLeft keeps the file of a message that was removed, once its renaming is
// counted as a change.
func (s *Spool) keepLeft(f left) {
	if f.place == "" {
		return
	}
	f.mark.changed = s.group.mark().changed
	s.mu.Lock()
	defer s.mu.Unlock()
	f.since = time.Now()
	s.spares.left = append(s.spares.left, f)
	s.spares.leftBytes += f.size
	s.index.spare += f.size
	s.scheduleSpares()
}

// takeLeft returns the file for the message of a record that was left last of
// those that may be overwritten, if there is one.
func (s *Spool) takeLeft(r *record) (f spare, ok bool) {
	now := s.group.durable()
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.spares.left
	i := sort.Search(len(all), func(i int) bool { return all[i].mark.changed > now.changed }) - 1
	if i < 0 || all[i].mark.failures != now.failures {
		return spare{}, false
	}
	f = all[i].spare
	s.spares.left = slices.Delete(all, i, i+1)
	s.spares.leftBytes -= f.size
	s.index.lend(r, f.size)
	return f, true
}

// takeOut takes a message out of queue/ and returns its file, if that was kept.
// The caller holds the record.
func (s *Spool) takeOut(id string, r *record) (left, error) {
	if !s.mayLeave(r) {
		return s.erase(id, r)
	}
	f := left{mark: s.group.mark()} // a sync that fails from here on may lose the renaming
	f.place, f.size = s.incomingPath(id, s.files.Add(1)), r.blocks
	err := s.fs.Rename(s.queuePath(id, r.fileState()), f.place)
	if errors.Is(full(err), ErrFull) { // a new name needs room, and none does not
		return s.erase(id, r)
	}
	if err != nil {
		return left{}, err
	}
	return f, nil
}

// erase removes the file of a message. The caller holds the record.
func (s *Spool) erase(id string, r *record) (left, error) {
	return left{}, s.fs.Remove(s.queuePath(id, r.fileState()))
}

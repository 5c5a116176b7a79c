package spool

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
)

// Most messages that outgrow a Writer's buffer are given up, since a relay has
// taken them. To make a file for each, to give it pages and to take all of that
// away again costs several times what writing to a file does that is there. So
// some such files stay in incoming/ for the next Writers to overwrite.
//
// What is left in them of older messages never gets into another one: Commit cuts
// the file off where its own message ends, before the sync. A file with which
// anything has gone wrong is not kept.
const (
	maxSpares    = 32
	maxSpareSize = 32 << 20 // of one
	spareShare   = 2        // all take at most this part of Options.MaxBytes
	// spareRest is how long one is kept that nobody takes: shorter than it
	// takes the kernel to write its pages to the disk, which is 30 s.
	spareRest = 5 * time.Second
)

// spare is a file in incoming/ that belongs to no message.
type spare struct {
	file  durable.File
	place string
	size  int64 // its length
	since time.Time
}

// spares are such files. Beside the messages' files they take what room is left:
// whoever finds none has them removed.
type spares struct {
	// Under the spool's lock:

	free []spare // as they came; the last one's pages are nearest
	left []left  // as they came, of removed messages; not open

	leftBytes int64

	timer  *time.Timer
	closed bool
	rest   time.Duration // tests only: negative is for ever

	removing sync.Mutex // held while some are removed
}

// takeSpare returns a file for the message of a record, if there is one.
func (s *Spool) takeSpare(r *record) (f spare, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.spares.free) - 1
	if last < 0 {
		return spare{}, false
	}
	f = s.spares.free[last]
	s.spares.free = slices.Delete(s.spares.free, last, last+1)
	s.index.lend(r, f.size)
	return f, true
}

// keepSpare keeps the file of a message that is given up, and forgets the
// message, unless there are enough of them.
func (s *Spool) keepSpare(id string, r *record, f spare) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := &s.spares
	if sp.closed || len(sp.free) == maxSpares || f.size > maxSpareSize || !s.index.affords(r, f.size) {
		return false
	}
	s.index.forget(id, r)
	s.index.spare += blocks(f.size)
	f.since = time.Now()
	sp.free = append(sp.free, f)
	s.scheduleSpares()
	return true
}

// scheduleSpares makes sure that the oldest is removed in time. The caller holds
// the lock.
func (s *Spool) scheduleSpares() {
	sp := &s.spares
	if sp.timer != nil || sp.closed || sp.rest < 0 || len(sp.free)+len(sp.left) == 0 {
		return
	}
	oldest := time.Now()
	if len(sp.free) > 0 {
		oldest = sp.free[0].since
	}
	if len(sp.left) > 0 && sp.left[0].since.Before(oldest) {
		oldest = sp.left[0].since
	}
	wait := max(time.Until(oldest.Add(sp.rest)), leftPause)
	sp.timer = time.AfterFunc(wait, func() { // closeSpares waits for it
		s.removeSpares(time.Now().Add(-sp.rest), leftStep)
		s.mu.Lock()
		defer s.mu.Unlock()
		sp.timer = nil
		s.scheduleSpares()
	})
}

// removeSpares removes the files that nobody has taken since then, of those of
// removed messages so many at most.
func (s *Spool) removeSpares(since time.Time, atMost int) {
	s.spares.removing.Lock()
	defer s.spares.removing.Unlock()
	var size int64
	for _, f := range s.oldSpares(since, atMost) {
		size += blocks(f.size)
		var err error
		if f.file != nil {
			err = f.file.Close()
		}
		if err := errors.Join(err, s.fs.Remove(f.place)); err != nil { // the next start does it
			s.log.Warn("spare file not removed", zap.String(logfields.Path, f.place), zap.Error(err))
		}
	}
	s.mu.Lock()
	s.index.spare -= size
	s.mu.Unlock()
}

// oldSpares takes them off the lists, so that nobody else does.
func (s *Spool) oldSpares(since time.Time, atMost int) (old []spare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := &s.spares
	for len(sp.free) > len(old) && !sp.free[len(old)].since.After(since) {
		old = append(old, sp.free[len(old)])
	}
	sp.free = slices.Delete(sp.free, 0, len(old))
	n := 0
	for n < min(len(sp.left), atMost) && !sp.left[n].since.After(since) {
		old = append(old, sp.left[n].spare)
		sp.leftBytes -= sp.left[n].size
		n++
	}
	sp.left = slices.Delete(sp.left, 0, n)
	return old
}

// closeSpares removes all, and keeps none from now on.
func (s *Spool) closeSpares() {
	s.mu.Lock()
	s.spares.closed = true
	if s.spares.timer != nil {
		s.spares.timer.Stop()
	}
	s.mu.Unlock()
	s.removeSpares(time.Now(), maxLeft)
}

// makeRoom removes all and reports whether there were any.
func (s *Spool) makeRoom() bool {
	s.mu.Lock()
	some := s.index.spare > 0
	s.mu.Unlock()
	if some {
		s.removeSpares(time.Now(), maxLeft)
	}
	return some
}

// admitted takes room under the lock, at the cost of the spares if there is none
// beside them.
func (s *Spool) admitted(take func() error) error {
	try := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return take()
	}
	err := try()
	if !errors.Is(err, ErrFull) || errors.Is(err, ErrIdentityFull) || !s.makeRoom() {
		return err
	}
	return try()
}

// checkFree makes sure that a file of n bytes leaves MinFree of the disk to others.
func (s *Spool) checkFree(n int64) error {
	free, err := s.fs.Free(s.dir)
	if err == nil && n > free-s.minFree && s.makeRoom() {
		free, err = s.fs.Free(s.dir)
	}
	if err == nil && n > free-s.minFree {
		err = fmt.Errorf("%w: %d bytes are free on the disk", ErrFull, free)
	}
	return err
}

package limit

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// keeper is the Limiter's part that saves.
type keeper struct {
	store Store

	notesMu sync.Mutex
	notes   map[string][]byte // records besides entries and rings that changed; nil deletes

	saveMu  sync.Mutex        // one Save at a time; taken before any other lock
	unsaved map[string][]byte // what the last Save could not
	sweeps  int               // the shard to sweep next
	pause   int               // how many flushes to leave out, while the store cannot be written
	wait    int               // the last pause

	condMu sync.Mutex
	aside  string    // where a damaged store lies
	found  time.Time // when it was found
	failed time.Time // since when it cannot be written; zero: it can
	why    error
}

// note has a record saved.
func (k *keeper) note(key string, value []byte) {
	if k.store == nil {
		return
	}
	k.notesMu.Lock()
	defer k.notesMu.Unlock()
	if k.notes == nil {
		k.notes = map[string][]byte{}
	}
	k.notes[key] = value
}

// forget has a record deleted.
func (k *keeper) forget(key string) { k.note(key, nil) }

// takeNotes gives the notes, and what counts for a key that was dropped: it may
// be back since.
func (l *Limiter) takeNotes() map[string][]byte {
	l.notesMu.Lock()
	notes := l.notes
	l.notes = nil
	l.notesMu.Unlock()
	for key := range notes {
		if name, ok := strings.CutPrefix(key, counterRecord); ok {
			notes[key] = l.current(name)
		}
	}
	return notes
}

func (l *Limiter) flushEach(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
		}
		l.sweep()
		if l.due() {
			_ = l.flush() // it is logged, and Condition tells
		}
	}
}

// longestPause is how many flushes are left out at most between two attempts to
// write a store that cannot be written: ten minutes.
const longestPause = 600

// due tells whether it is time to save: always, and ever more seldom while the
// store cannot be written.
func (l *Limiter) due() bool {
	l.saveMu.Lock()
	defer l.saveMu.Unlock()
	l.pause--
	return l.pause < 0
}

// flush saves all that changed.
func (l *Limiter) flush() error {
	l.saveMu.Lock()
	defer l.saveMu.Unlock()
	return l.save(l.changed())
}

// flushNotes saves the notes alone.
func (l *Limiter) flushNotes() error {
	if l.store == nil {
		return nil
	}
	l.saveMu.Lock()
	defer l.saveMu.Unlock()
	return l.save(l.takeNotes())
}

// changed takes all that waits to be saved.
func (l *Limiter) changed() map[string][]byte {
	batch := map[string][]byte{}
	for i := range l.shards {
		s := &l.shards[i]
		s.dirtyMu.Lock()
		entries, circles := s.entry, s.circle
		s.entry, s.circle = nil, nil
		s.dirtyMu.Unlock()
		for _, e := range entries {
			e.collect(batch)
		}
		for _, c := range circles {
			c.collect(batch)
		}
	}
	maps.Copy(batch, l.takeNotes()) // after the entries, of which one may have been dropped since
	if len(batch) > 0 {
		batch[clockRecord] = encodeNumber(l.clock.last.Load())
	}
	return batch
}

// collect adds the entry's record, which is as of now.
func (e *entry) collect(batch map[string][]byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dirty = false
	if !e.gone {
		e.stored = true
		batch[counterRecord+e.key] = e.encode()
	}
}

// collect adds the rings that changed.
func (c *circle) collect(batch map[string][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queued = false
	for i := range c.rings {
		if r := &c.rings[i]; r.dirty {
			r.dirty = false
			batch[ringKey(c.identity, i)] = r.encode()
		}
	}
}

// current gives the record of a key as it is now; nil if there is none.
func (l *Limiter) current(key string) []byte {
	s := l.shard(key)
	s.mu.RLock()
	e := s.entries[key]
	s.mu.RUnlock()
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stored = true
	return e.encode()
}

// save writes a batch and what the last could not. saveMu is held.
func (l *Limiter) save(batch map[string][]byte) error {
	if l.unsaved != nil {
		maps.Copy(l.unsaved, batch)
		batch, l.unsaved = l.unsaved, nil
	}
	if l.store == nil || len(batch) == 0 {
		return nil
	}
	err := l.store.Save(batch)
	if errors.Is(err, ErrDamaged) || errors.Is(err, errNotOpen) {
		err = l.replace(err)
	}
	if l.outcome(err); err != nil {
		l.unsaved = batch
		return fmt.Errorf("saving limits: %w", err)
	}
	return nil
}

// outcome remembers whether the store can be written; saveMu is held.
func (l *Limiter) outcome(err error) {
	if err == nil {
		l.wait = 0
	} else {
		l.wait = min(max(2*l.wait, 1), longestPause)
	}
	l.pause = l.wait
	l.condMu.Lock()
	defer l.condMu.Unlock()
	switch {
	case err == nil && !l.failed.IsZero():
		l.failed = time.Time{}
		l.logger.Info("limits are saved again")
	case err != nil && l.failed.IsZero():
		l.failed = time.Now()
		l.logger.Error("limits cannot be saved", zap.Error(err))
	}
	l.why = err
}

// replace writes the whole store anew from memory, which knows all: when it was
// loaded, and when it gave a cause.
func (l *Limiter) replace(cause error) error {
	r, ok := l.store.(replacer)
	if !ok {
		return cause
	}
	aside, err := r.Replace(l.everything())
	if err != nil {
		return errors.Join(cause, err)
	}
	if errors.Is(cause, ErrDamaged) {
		l.logger.Error("the limits store was damaged and is written anew", zap.String("aside", aside), zap.Error(cause))
		l.condMu.Lock()
		l.aside, l.found = aside, time.Now()
		l.condMu.Unlock()
	}
	return nil
}

// everything gives all records, as they are now.
func (l *Limiter) everything() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		batch := l.settings()
		for i := -1; i < shardCount; i++ {
			if i >= 0 {
				l.shards[i].everything(batch)
			}
			for key, value := range batch {
				if value != nil && !yield(key, value) {
					return
				}
			}
			clear(batch)
		}
	}
}

// settings gives the records that are neither counts nor recipients.
func (l *Limiter) settings() map[string][]byte {
	batch := map[string][]byte{
		clockRecord: encodeNumber(l.clock.last.Load()),
		seedRecord:  encodeNumber(int64(l.seed)),
	}
	if since := l.tight.since.Load(); since != 0 {
		batch[tightRecord] = encodeNumber(since)
	}
	for key, r := range l.raises.all() {
		batch[raiseRecord+key] = encodeJSON(r)
	}
	for key, s := range l.suspensions.all() {
		batch[suspensionRecord+key] = encodeJSON(s)
	}
	return batch
}

func (s *shard) everything(batch map[string][]byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for key, e := range s.entries {
		e.mu.Lock()
		e.stored = true
		batch[counterRecord+key] = e.encode()
		e.mu.Unlock()
	}
	for identity, c := range s.seen {
		c.mu.Lock()
		for i := range c.rings {
			batch[ringKey(identity, i)] = c.rings[i].encode()
		}
		c.mu.Unlock()
	}
}

// sweepParts is how many sweeps go through the whole table.
const sweepParts = 64

// sweep drops what says nothing any more, from a few shards at a time.
func (l *Limiter) sweep() {
	t := l.clock.last.Load()
	l.endTight(t)
	for range shardCount / sweepParts {
		s := &l.shards[l.sweeps%shardCount]
		l.sweeps++
		s.mu.Lock()
		for _, e := range s.entries {
			l.drop(s, e, func(e *entry) bool { return e.idle(t) })
		}
		s.mu.Unlock()
		l.sweepSeen(s, t)
	}
}

package limit

import (
	"errors"
	"fmt"
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

func (k *keeper) takeNotes() map[string][]byte {
	k.notesMu.Lock()
	defer k.notesMu.Unlock()
	notes := k.notes
	k.notes = nil
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

// due tells whether it is time to save: always, but while the store cannot be written
// ever more seldom, up to ten minutes.
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
	for key, value := range l.takeNotes() {
		if name, ok := strings.CutPrefix(key, counterRecord); ok {
			value = l.current(name) // it may be back since it was dropped
		}
		batch[key] = value
	}
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
	if errors.Is(err, ErrDamaged) {
		err = l.replace(err)
	}
	if err != nil {
		l.unsaved = batch
		l.wait = min(max(2*l.wait, 1), 600)
		l.pause = l.wait
		l.fail(err)
		return fmt.Errorf("saving limits: %w", err)
	}
	l.wait, l.pause = 0, 0
	l.fail(nil)
	return nil
}

// fail remembers whether the store can be written.
func (l *Limiter) fail(err error) {
	l.condMu.Lock()
	defer l.condMu.Unlock()
	switch {
	case err == nil && !l.failed.IsZero():
		l.failed, l.why = time.Time{}, nil
		l.logger.Info("limits are saved again")
	case err != nil && l.failed.IsZero():
		l.failed = time.Now()
		l.logger.Error("limits cannot be saved", zap.Error(err))
		l.why = err
	case err != nil:
		l.why = err
	}
}

// replace sets a store that was damaged while we ran aside and writes a new one from memory,
// which knows all.
func (l *Limiter) replace(cause error) error {
	r, ok := l.store.(replacer)
	if !ok {
		return cause
	}
	aside, err := r.SetAside()
	if err != nil {
		return errors.Join(cause, err)
	}
	l.logger.Error("the limits store was damaged; it is set aside and written anew", zap.String("aside", aside), zap.Error(cause))
	if err := l.store.Save(l.everything()); err != nil {
		return err
	}
	return nil
}

// everything gives all records, as they are now.
func (l *Limiter) everything() map[string][]byte {
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
	for i := range l.shards {
		l.shards[i].everything(batch)
	}
	return batch
}

func (s *shard) everything(batch map[string][]byte) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for key, e := range s.entries {
		e.mu.Lock()
		batch[counterRecord+key] = e.encode()
		e.mu.Unlock()
	}
	for identity, c := range s.seen {
		c.mu.Lock()
		for i := range c.rings {
			if len(c.rings[i].members) > 0 {
				batch[ringKey(identity, i)] = c.rings[i].encode()
			}
		}
		c.mu.Unlock()
	}
}

// sweep drops what says nothing any more, from a few shards at a time.
func (l *Limiter) sweep() {
	t := l.clock.last.Load()
	for range shardCount / 64 {
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

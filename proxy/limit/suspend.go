package limit

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Suspension is an identity, or a unit with all that runs in it, that may not
// send.
type Suspension struct {
	Key    string    `json:"key"`              // "uid:33", "account:webshop", "container:ID", "unit:NAME"
	Reason string    `json:"reason,omitempty"` // what to tell the administrator
	By     string    `json:"by,omitempty"`     // who did it
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is resumed
}

// over tells whether its end has come.
func (s *Suspension) over(now time.Time) bool { return !s.Until.IsZero() && !now.Before(s.Until) }

// Suspend suspends a key, or changes its suspension. It is in force and in the
// store when Suspend returns; with an error it is in force, and lost if the process
// ends before the store can be written again.
func (l *Limiter) Suspend(s Suspension) error {
	if s.Key == "" {
		return errors.New("suspending: no key")
	}
	l.suspensions.change(func(m map[string]Suspension) {
		m[s.Key] = s
		l.note(suspensionRecord+s.Key, encodeJSON(s))
	})
	if err := l.flushNotes(); err != nil {
		return fmt.Errorf("suspending %s: it is suspended, but not on disk: %w", s.Key, err)
	}
	return nil
}

// Resume ends a suspension and tells whether there was one. The key's raises
// and the demand that was refused to it are forgotten too, or its next message would find
// the rung on which it was suspended.
func (l *Limiter) Resume(key string) (bool, error) {
	was := false
	l.suspensions.change(func(m map[string]Suspension) {
		if _, was = m[key]; was {
			delete(m, key)
			l.note(suspensionRecord+key, nil)
		}
	})
	if !was {
		return false, nil
	}
	l.lower(key)
	l.forgive(key)
	if err := l.flushNotes(); err != nil {
		return true, fmt.Errorf("resuming %s: it is resumed, but not on disk: %w", key, err)
	}
	return true, nil
}

// Suspended gives the first suspension in force among these keys.
func (l *Limiter) Suspended(now time.Time, keys ...string) (Suspension, bool) {
	all := l.suspensions.all()
	if all == nil {
		return Suspension{}, false
	}
	for _, key := range keys {
		if s, ok := all[key]; ok && !s.over(now) {
			return s, true
		}
	}
	return Suspension{}, false
}

// Suspensions gives all by key, those too whose end has come, until they are
// resumed.
func (l *Limiter) Suspensions() []Suspension {
	var list []Suspension
	for _, s := range l.suspensions.all() {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Suspension) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

// forgive forgets what was refused to a key, to its user and to its senders.
func (l *Limiter) forgive(key string) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.RLock()
		var found []*entry
		for name, e := range s.entries {
			if name == key || name == "user:"+key || strings.HasPrefix(name, "sender:"+key+":") {
				found = append(found, e)
			}
		}
		s.mu.RUnlock()
		for _, e := range found {
			l.forgiveEntry(e)
		}
	}
}

func (l *Limiter) forgiveEntry(e *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.series {
		e.series[i].forgive()
	}
	l.touch(e)
}

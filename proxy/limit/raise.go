package limit

import (
	"encoding/json"
	"time"
)

// raise is how many rungs higher an identity's ladder begins.
type raise struct {
	Times int       `json:"times"`
	Why   string    `json:"why"`
	Until time.Time `json:"until"`
}

// mostRaises is as many as a ladder has rungs.
const mostRaises = 4

// Raise lets an identity's ladder begin one rung higher until a time, and tells
// how many rungs that makes; an earlier raise that has not ended lasts as long as the
// new one, if that is longer.
func (l *Limiter) Raise(identity, why string, until, now time.Time) int {
	raised := 0
	l.raises.change(func(m map[string]raise) {
		for key, r := range m {
			if !now.Before(r.Until) {
				delete(m, key)
				l.note(raiseRecord+key, nil)
			}
		}
		r := m[identity]
		r.Times, r.Why = min(r.Times+1, mostRaises), why
		if until.After(r.Until) {
			r.Until = until
		}
		m[identity], raised = r, r.Times
		l.note(raiseRecord+identity, encodeJSON(r))
	})
	return raised
}

// Raised gives by how many rungs an identity is raised, why the last time, and
// until when.
func (l *Limiter) Raised(identity string, now time.Time) (int, string, time.Time) {
	r, ok := l.raises.all()[identity]
	if !ok || !now.Before(r.Until) {
		return 0, "", time.Time{}
	}
	return r.Times, r.Why, r.Until
}

// lower takes back all raises of an identity, and tells whether there were any.
func (l *Limiter) lower(identity string) bool {
	if _, ok := l.raises.all()[identity]; !ok {
		return false
	}
	was := false
	l.raises.change(func(m map[string]raise) {
		if _, was = m[identity]; was {
			delete(m, identity)
			l.note(raiseRecord+identity, nil)
		}
	})
	return was
}

// encodeJSON is for types that cannot fail to be written.
func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

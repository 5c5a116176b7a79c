package spool

import (
	"slices"
	"strings"
	"time"
)

// Usage is what the spool holds.
type Usage struct {
	Bytes, MaxBytes int64 // what counts towards Options.MaxBytes, and that
	Messages        int   // that we have custody of and can deliver
	ByState         map[State]int
	Corrupt         int
	Oldest          time.Time // when the oldest of those that wait for a relay was taken, to the millisecond; zero: none, or unknown
}

// IDs are the messages in these states, in no order, without reading files.
func (s *Spool) IDs(states ...State) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.ids(states)
}

// TakenBefore are the messages in these states that were taken before then, and
// those of which that is not known, in no order, without reading files.
func (s *Spool) TakenBefore(then time.Time, states ...State) []string {
	return slices.DeleteFunc(s.IDs(states...), func(id string) bool { return !timeOf(id).Before(then) })
}

// Usage tells what the spool holds, without reading files.
func (s *Spool) Usage() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.index
	u := Usage{Bytes: x.used, MaxBytes: x.maxBytes, ByState: map[State]int{}, Corrupt: len(x.corrupt)}
	for id, r := range x.records {
		if !r.state.inQueue() {
			continue
		}
		u.Messages++
		u.ByState[r.state]++
		if r.state == Hold {
			continue // it waits for a person
		}
		if taken := timeOf(id); !taken.IsZero() && (u.Oldest.IsZero() || taken.Before(u.Oldest)) {
			u.Oldest = taken
		}
	}
	return u
}

// timeOf is when an id was made, if it is one of ours: the first 48 of its 130
// bits are milliseconds (NewID).
func timeOf(id string) time.Time {
	if len(id) != idLength {
		return time.Time{}
	}
	var ms int64
	for _, c := range id[:10] {
		digit := strings.IndexRune(idDigits, c)
		if digit < 0 {
			return time.Time{}
		}
		ms = ms<<5 | int64(digit)
	}
	return time.UnixMilli(ms).UTC()
}

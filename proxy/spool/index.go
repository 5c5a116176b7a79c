package spool

import (
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
)

// record is what is known of a message without reading its file. Its fields
// change under both its own lock and the spool's, so that either is enough to
// read them.
type record struct {
	// mu is held by who works on the file: one at a time.
	mu sync.Mutex
	// readers have the file open. There are more of them only under mu.
	readers atomic.Int32

	state State // "" once the message is gone
	// interrupted says that the file is still named as active, since a try
	// that a crash has cut short could not be written down.
	interrupted bool
	blocks      int64  // bytes that it counts for
	stale       int64  // that its file takes at least, which was a longer one's before
	tail        int64  // where the tail of the file begins; 0 until the head was read
	who         *tally // nil until the head was read
}

// takes is the room of the file.
func (r *record) takes() int64 { return max(r.blocks, r.stale) }

// fileState is what the file's name says.
func (r *record) fileState() State {
	if r.interrupted {
		return Active
	}
	return r.state
}

// tally is what one identity takes.
type tally struct {
	key     string
	bytes   int64
	records int
}

// index is every message of the spool, and what they take together.
type index struct {
	records map[string]*record
	corrupt map[string]int64 // id → bytes that it counts for
	tallies map[string]*tally
	counts  map[State]int
	used    int64 // that they take
	spare   int64 // that files take which belong to none
	lent    int64 // that such files took before they belonged to those being written

	maxBytes, maxIdentityBytes int64
}

func newIndex(maxBytes, maxIdentityBytes int64) index {
	return index{
		records: map[string]*record{}, corrupt: map[string]int64{}, tallies: map[string]*tally{}, counts: map[State]int{},
		maxBytes: maxBytes, maxIdentityBytes: maxIdentityBytes,
	}
}

// noticeShare is the part of maxBytes that our own notices may take besides.
const noticeShare = 16

// blockSize is what a file takes at least.
const blockSize = 4 << 10

// blocks is what a file of n bytes counts for.
func blocks(n int64) int64 { return max(n+blockSize-1, blockSize) / blockSize * blockSize }

// admit adds a message that is being written, if there is room.
func (x *index) admit(id, identity string, size int64) (*record, error) {
	if x.records[id] != nil || x.corrupt[id] > 0 {
		return nil, fmt.Errorf("creating message %s: %w", id, fs.ErrExist)
	}
	r := &record{}
	x.attribute(r, identity)
	if err := x.grow(r, size); err != nil {
		x.disown(r)
		return nil, err
	}
	x.records[id] = r
	x.setState(r, Incoming)
	return r, nil
}

// grow makes room for a message of size bytes that is being written.
func (x *index) grow(r *record, size int64) error {
	more := blocks(size) - r.blocks
	total, own := x.limits(r.who)
	switch {
	case more <= 0:
		return nil
	case max(blocks(size), r.stale)-r.takes() > total-x.used-x.spare:
		return ErrFull
	case more > own-r.who.bytes:
		return ErrIdentityFull
	}
	x.resize(r, size)
	return nil
}

// limits bound what all messages take if one of this identity comes, and what its
// own take. Notices find room where nobody else does, or nobody could be told
// that what fills the spool cannot be delivered.
func (x *index) limits(t *tally) (total, own int64) {
	if t.key == noticeKey {
		own = x.maxBytes / noticeShare
		return x.maxBytes + own, own
	}
	return x.maxBytes, x.maxIdentityBytes
}

// resize counts a message with what its file takes.
func (x *index) resize(r *record, size int64) {
	more := blocks(size) - r.blocks
	x.used -= r.takes()
	r.blocks += more
	x.used += r.takes()
	if r.who != nil {
		r.who.bytes += more
	}
}

// lend counts a spare file of this length as the message's.
func (x *index) lend(r *record, size int64) {
	x.spare -= blocks(size)
	x.setStale(r, blocks(size))
}

// setStale counts what the message's file takes at least, zero once it is cut off.
func (x *index) setStale(r *record, size int64) {
	x.used -= r.takes()
	x.lent += size - r.stale
	r.stale = size
	x.used += r.takes()
}

// affords reports whether the file of a message, of this length, may be a spare.
func (x *index) affords(r *record, size int64) bool {
	return blocks(size) <= x.maxBytes/spareShare-x.spare-(x.lent-r.stale)
}

// attribute says whose a message is.
func (x *index) attribute(r *record, identity string) {
	if r.who != nil {
		return
	}
	t := x.tallies[identity]
	if t == nil {
		t = &tally{key: identity}
		x.tallies[identity] = t
	}
	r.who = t
	t.records++
	t.bytes += r.blocks
}

// disown is the inverse of attribute.
func (x *index) disown(r *record) {
	if r.who == nil {
		return
	}
	r.who.bytes -= r.blocks
	if r.who.records--; r.who.records == 0 {
		delete(x.tallies, r.who.key)
	}
	r.who = nil
}

// setState counts a message in its new state.
func (x *index) setState(r *record, state State) {
	if r.state != "" {
		x.counts[r.state]--
	}
	if state != "" {
		x.counts[state]++
	}
	r.state = state
}

// forget takes a message out.
func (x *index) forget(id string, r *record) {
	x.disown(r)
	x.setStale(r, 0)
	x.used -= r.blocks
	x.setState(r, "")
	delete(x.records, id)
}

// aside counts a message as corrupt.
func (x *index) aside(id string, size int64) {
	x.used += blocks(size) - x.corrupt[id]
	x.corrupt[id] = blocks(size)
}

// dropCorrupt takes a corrupt message out.
func (x *index) dropCorrupt(id string) {
	x.used -= x.corrupt[id]
	delete(x.corrupt, id)
}

// ids are the messages in these states.
func (x *index) ids(states []State) []string {
	ids := make([]string, 0, len(x.records))
	for id, r := range x.records {
		if slices.Contains(states, r.state) {
			ids = append(ids, id)
		}
	}
	return ids
}

package nft

import (
	"cmp"
	"context"
	"maps"
	"time"

	"github.com/smtpwall/smtpwall/rules"
)

// direction is what has been read of local or of forwarded attempts.
type direction struct {
	sets  []string
	seen  []seenSet // for each set
	round uint64

	last    uint64    // the counter as it stood
	calm    time.Time // when it last stood there still
	total   uint64    // packets that it counted
	sum     uint64    // packets that the sets counted
	other   uint64    // packets reported beyond sum
	pending uint64    // packets beyond both, to be seen once more
}

// seenSet has the elements as they stood.
type seenSet map[elementKey]seenElement

type seenElement struct {
	packets uint64
	round   uint64    // when it was read
	until   time.Time // when it expires without another packet
}

const (
	// keepRounds is for how many readings an absent element is remembered: a dump
	// of a set that grows may miss an element, and its count must not be taken for
	// new when it is back.
	keepRounds = 4
	// clockMargin is more than our clock and the kernel's differ by.
	clockMargin = 100 * time.Millisecond
)

func newDirection(sets ...string) direction {
	d := direction{sets: sets}
	for range sets {
		d.seen = append(d.seen, seenSet{})
	}
	return d
}

// changed reports whether the sets have to be read, given the counter as it
// stood at a time or later.
func (d *direction) changed(at time.Time, counter uint64) bool {
	if counter == d.last {
		d.calm = at
	}
	return counter != d.last || d.pending > 0
}

// read takes the deltas of all sets. The packets beyond them are known only
// when the sets are read after the counter: the difference is a lower bound
// then, and exact in a calm moment.
func (d *direction) read(ctx context.Context, s *socket, counter uint64, take func(Count)) (other uint64, err error) {
	d.begin()
	for i, name := range d.sets {
		if err := dumpElements(ctx, s, name, func(e element) {
			if n := d.element(d.seen[i], e); n > 0 {
				count := countOf(name, e.key)
				count.Packets = n
				take(count)
			}
		}); err != nil {
			return 0, err
		}
		d.forget(d.seen[i])
	}
	return d.excess(counter), nil
}

// begin starts a round of reading. Elements that expired while nothing was
// counted are forgotten: one that is there again counts from zero, and might
// have reached the old count by now.
func (d *direction) begin() {
	for _, seen := range d.seen {
		maps.DeleteFunc(seen, func(_ elementKey, e seenElement) bool {
			return e.round == d.round && d.calm.After(e.until.Add(clockMargin))
		})
	}
	d.round++
}

// element returns by how much an element has grown.
func (d *direction) element(seen seenSet, e element) uint64 {
	was := seen[e.key]
	grown := e.packets - was.packets
	if e.packets < was.packets {
		if was.round == d.round {
			return 0 // given twice
		}
		grown = e.packets // it expired and came again
	}
	expires := cmp.Or(e.expires, rules.AttemptTimeout)
	seen[e.key] = seenElement{packets: e.packets, round: d.round, until: time.Now().Add(expires)}
	d.sum += grown
	return grown
}

func (d *direction) forget(seen seenSet) {
	maps.DeleteFunc(seen, func(_ elementKey, e seenElement) bool { return e.round+keepRounds <= d.round })
}

// excess returns the packets that are in no set and have not been returned yet.
// They must have been missing twice in a row: a dump of a set that grows may
// miss elements.
func (d *direction) excess(counter uint64) uint64 {
	grown := counter - d.last
	if counter < d.last {
		grown = counter // somebody reset the counter
	}
	d.last = counter
	d.total += grown
	missing := d.total - min(d.total, d.sum+d.other)
	sure := min(missing, d.pending)
	d.other += sure
	d.pending = missing - sure
	return sure
}

// forgive makes the state read so far the zero.
func (d *direction) forgive() { d.total, d.sum, d.other, d.pending = 0, 0, 0, 0 }

package breaker

import "fmt"

// maxBodies is how many bodies of an identity are counted at a time: one that
// goes to more than a twelfth of its recipients is surely among them.
const maxBodies = 12

// body is one digest and its recipients.
type body struct {
	digest    uint32
	weight    uint32 // who has least of it makes place, and leaves it to whom comes: the count of Space-Saving
	now, last uint32 // recipients since it came to the table: in this half of a window, and in the one before
}

// bodies are the frequent bodies of an identity, counted in halves of the
// window: nothing older than the window counts, and whatever lies within half
// of it counts together. A count may be too small, for a body that had to make
// place for another, and never too large.
type bodies struct {
	half  uint32 // number of this half
	table []body
}

// trip counts, and returns how many recipients one body has, with the reason,
// if the breaker trips.
func (b *bodies) trip(now round, digest uint64, recipients uint32) (int64, string) {
	b.move(now.moment.slot(now.Window / 2))
	found := b.find(fold(digest))
	found.weight = plus(found.weight, recipients)
	found.now = plus(found.now, recipients)
	count := int64(found.now) + int64(found.last)
	if now.quiet || count <= now.Least {
		return 0, ""
	}
	found.now, found.last = 0, 0
	return count, fmt.Sprintf("one body to %d recipients within %s, more than %d", count, span(now.Window), now.Least)
}

// move ages the counts. Weights fade with them, so that what was frequent once
// does not keep its place.
func (b *bodies) move(half uint32) {
	if half <= b.half {
		return
	}
	next := half == b.half+1
	b.half = half
	kept := b.table[:0]
	for _, one := range b.table {
		one.last, one.now = one.now, 0
		one.weight /= 2
		if next && one.last > 0 {
			kept = append(kept, one)
		}
	}
	b.table = kept
}

// find returns the place of a digest: its own, a new one, or that of the body
// with the least weight.
func (b *bodies) find(digest uint32) *body {
	least := 0
	for i := range b.table {
		if b.table[i].digest == digest {
			return &b.table[i]
		}
		if b.table[i].weight < b.table[least].weight {
			least = i
		}
	}
	if len(b.table) == maxBodies {
		b.table[least] = body{digest: digest, weight: b.table[least].weight}
		return &b.table[least]
	}
	if len(b.table) == cap(b.table) {
		room := min(max(2*len(b.table), 1), maxBodies)
		b.table = append(make([]body, 0, room), b.table...)
	}
	b.table = append(b.table, body{digest: digest})
	return &b.table[len(b.table)-1]
}

// fold makes 32 bits of a digest: of the few bodies in a table two are taken for
// one once in 100 million.
func fold(digest uint64) uint32 { return uint32(digest ^ digest>>32) }

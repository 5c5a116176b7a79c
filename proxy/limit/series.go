package limit

import (
	"slices"
	"time"
)

// slots is how many parts of a window are counted apart. With the one that is
// being filled, counts of slots+1 are alive.
const slots = 64

// cell is the count of one slot: the slot's number modulo 128 in the top 7
// bits, whether it was refused, whether it is in units of 1<<cellBits, and the
// count. Four octets, since an identity that sends all day has 64 of them.
type cell uint32

const (
	cellBits = 23
	cellMask = 1<<cellBits - 1
	highCell = cell(1) << cellBits
	lostCell = cell(2) << cellBits // refused

	// most is what one slot can count; more is cut off. It is 64 TiB.
	most = int64(1)<<(2*cellBits) - 1
)

// fullCells is as many as a window has where each slot has one, and a few more,
// as memory is given out.
const fullCells = 72

func makeCell(slot int64, kind cell, count int64) cell {
	return cell(slot&127)<<(cellBits+2) | kind | cell(count)
}

// age is how many slots before head this one is; it must be less than 128.
func (c cell) age(head int64) int64 { return (head - int64(c>>(cellBits+2))) & 127 }
func (c cell) kind() cell           { return c & (highCell | lostCell) }
func (c cell) refused() bool        { return c&lostCell != 0 }

func (c cell) count() int64 {
	if c&highCell != 0 {
		return int64(c&cellMask) << cellBits
	}
	return int64(c & cellMask)
}

// series is what was counted of one thing in the last window, and what is
// claimed of it. Its entry's lock guards it.
type series struct {
	counted Counted
	window  time.Duration
	head    int64  // number of the slot that is being filled
	end     int64  // when that ends; 0 before the first use
	used    int64  // sum of the cells that were not refused
	refused int64  // sum of those that were
	pending int64  // claimed, and neither committed nor given back
	cells   []cell // oldest first
}

func slotLength(window time.Duration) int64 { return max((int64(window)+slots-1)/slots, 1) }

// advance goes on to the slot of the time t, and forgets what left the window. A
// time before the slot is taken for one in it.
func (s *series) advance(t int64) {
	if t < s.end {
		return
	}
	length := slotLength(s.window)
	head := t / length
	passed := head - s.head
	s.head, s.end = head, (head+1)*length
	if len(s.cells) == 0 {
		return
	}
	if passed > slots {
		s.cells, s.used, s.refused = s.cells[:0], 0, 0
		return
	}
	gone := 0
	for _, c := range s.cells {
		if c.age(head-passed)+passed <= slots {
			break
		}
		if c.refused() {
			s.refused -= c.count()
		} else {
			s.used -= c.count()
		}
		gone++
	}
	if gone > 0 {
		s.cells = append(s.cells[:0], s.cells[gone:]...)
	}
}

// add counts n in the slot that is being filled.
func (s *series) add(kind cell, n int64) {
	if n <= 0 {
		return
	}
	low, high := s.cell(kind), s.cell(kind|highCell)
	had := int64(0)
	for _, i := range [...]int{low, high} {
		if i >= 0 {
			had += s.cells[i].count()
		}
	}
	n = min(n, most-had)
	s.put(low, kind, (had+n)&cellMask)
	s.put(high, kind|highCell, (had+n)>>cellBits)
	if kind == lostCell {
		s.refused += n
	} else {
		s.used += n
	}
}

// cell gives the index of this kind's cell in the slot that is being filled, or -1.
func (s *series) cell(kind cell) int {
	for i := len(s.cells) - 1; i >= 0 && s.cells[i].age(s.head) == 0; i-- {
		if s.cells[i].kind() == kind {
			return i
		}
	}
	return -1
}

func (s *series) put(i int, kind cell, count int64) {
	switch {
	case i >= 0:
		s.cells[i] = makeCell(s.head, kind, count)
	case count > 0:
		if len(s.cells) == cap(s.cells) {
			s.grow()
		}
		s.cells = append(s.cells, makeCell(s.head, kind, count))
	}
}

// grow makes room for more cells, and not for many more than a window has.
func (s *series) grow() {
	n := max(2*len(s.cells), 4)
	if len(s.cells) < fullCells {
		n = min(n, fullCells)
	}
	s.cells = append(make([]cell, 0, n), s.cells...)
}

// opens gives the time at which the used part has come down so far that there
// is room for n, if nothing else is counted until then and all that is pending
// is; 0 if that never comes.
func (s *series) opens(limit Limit, n int64, spent func(head int64) int64) int64 {
	if n > limit.Max {
		return 0
	}
	length, left, next := slotLength(s.window), s.used, 0
	for age := int64(slots); age >= 0; age-- {
		for ; next < len(s.cells) && s.cells[next].age(s.head) >= age; next++ {
			if !s.cells[next].refused() {
				left -= s.cells[next].count()
			}
		}
		head := s.head - age + slots + 1
		if left+s.pending+spent(head)+n <= limit.Max {
			return head * length
		}
	}
	return (s.head + slots + 1) * length
}

// idle tells whether it says nothing at the time t.
func (s *series) idle(t int64) bool {
	s.advance(t)
	return s.pending == 0 && len(s.cells) == 0
}

// forgive forgets what was refused.
func (s *series) forgive() {
	s.cells = slices.DeleteFunc(s.cells, cell.refused)
	s.refused = 0
}

// inherit takes over what another window over the same knows. What is known of
// a slot of the other counts as of its last moment.
func (s *series) inherit(from *series, t int64) {
	from.advance(t)
	s.advance(t)
	now := s.head
	length, theirs := slotLength(s.window), slotLength(from.window)
	for _, c := range from.cells {
		slot := ((from.head-c.age(from.head)+1)*theirs - 1) / length
		if slot = min(slot, now); slot < now-slots {
			continue
		}
		s.head = slot // cells come in the order of time
		s.add(c.kind()&lostCell, c.count())
	}
	s.head = now
}

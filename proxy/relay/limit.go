package relay

import "time"

// How the limit grows again after the relay said that there were too many
// connections.
const (
	growAfter    = 20          // messages taken
	growInterval = time.Minute // or this time, whichever comes first
)

// limit is how many connections the relay lets us have, as far as it has said.
// It falls at once to what the relay did let us have, and grows by one at a
// time. It knows no lock and no clock: slots guards it.
type limit struct {
	most    int // by configuration
	now     int
	refused int       // the least number that the relay refused; 0: none known
	since   time.Time // when it fell, or grew by time
	taken   int       // messages since it last changed
}

// lower makes the limit what is left of open connections, one of which the
// relay refused or closed for their number.
func (l *limit) lower(open int, now time.Time) bool {
	level := max(1, open-1)
	l.since, l.taken = now, 0
	if level >= l.now {
		return false
	}
	l.now, l.refused = level, level+1
	return true
}

// succeed counts a message that the relay took, and grows. The number that the
// relay refused is not tried again for that, but for time alone.
func (l *limit) succeed() bool {
	if l.now >= l.most || l.now+1 == l.refused {
		return false
	}
	if l.taken++; l.taken < growAfter {
		return false
	}
	l.grow()
	return true
}

// look grows for the time that passed, and says whether it did.
func (l *limit) look(now time.Time) bool {
	grew := false
	for l.now < l.most && now.Sub(l.since) >= growInterval {
		l.since = l.since.Add(growInterval)
		l.grow()
		grew = true
	}
	return grew
}

func (l *limit) grow() {
	l.now++
	l.taken = 0
	if l.now >= l.refused {
		l.refused = 0 // which was long ago: the relay may have room now
	}
}

// reset forgets what the relay said about the number of connections.
func (l *limit) reset() { *l = limit{most: l.most, now: l.most} }

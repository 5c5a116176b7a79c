package relay

import "time"

// How a holder's pace is learnt.
const (
	firstPace   = 100 * time.Millisecond
	fastestPace = 10 * time.Millisecond // below that there is none
	// slowestPace is not long, since one holder may be a web server with many
	// tenants, of whom the relay refuses one.
	slowestPace = 5 * time.Second

	mostSlowed = 256              // that are remembered; of more, the latest
	forgetPace = 10 * time.Minute // of who sends nothing
	lately     = time.Minute      // who sent since then counts as sending now
)

// slowed is a holder about whose MAIL the relay complained. Its pace doubles with
// each complaint and falls by a fifth with each message that the relay takes.
type slowed struct {
	interval time.Duration
	next     time.Time // no MAIL of it before
	raises   uint32    // of anybody's pace, up to the last one of this
	seen     time.Time // when it sent MAIL
	denied   denial
}

// denial says what is known of a holder that the relay did not let send, though
// we had logged in.
type denial uint8

const (
	never   denial = iota
	denied         // and nobody was served since who had never been
	excused        // others were: it is about this holder
)

// raise slows a holder down after a complaint about a MAIL of it, which was begun
// after so many raises. It is the raises-th; false if that was known already, since
// one burst of complaints is one.
func (p *pace) raise(name string, begun, raises uint32, now time.Time) bool {
	s := p.slowed[name]
	switch {
	case s == nil:
		p.forgetOne(now)
		s = &slowed{}
		p.slowed[name] = s
	case begun < s.raises:
		return false
	}
	s.interval = min(max(firstPace, 2*s.interval, 2*p.least), slowestPace)
	s.next, s.seen, s.raises = now.Add(s.interval), now, raises
	if p.whose == name {
		p.served = time.Time{} // it is no example of who gets on better
	}
	return true
}

// succeed speeds a holder up after the relay took a message of it.
func (p *pace) succeed(name string, now time.Time) {
	s := p.slowed[name]
	if s == nil {
		p.served, p.whose = now, name
		p.excuse()
		p.sweep(now)
		return
	}
	if s.interval = s.interval * 4 / 5; s.interval < fastestPace {
		delete(p.slowed, name)
	}
}

// deny notes that the relay did not let a holder send. It says whether that is
// not about this one: then several were denied in a row, and nobody is served.
func (p *pace) deny(name string, now time.Time) bool {
	if s := p.slowed[name]; s != nil && s.denied == never {
		s.denied = denied
	}
	if p.othersServed(now) {
		return false
	}
	n := 0
	for _, s := range p.slowed {
		if s.denied == denied {
			n++
		}
	}
	return n >= breakerFailures
}

// excuse says that nobody's denial so far was about us.
func (p *pace) excuse() {
	for _, s := range p.slowed {
		if s.denied == denied {
			s.denied = excused
		}
	}
}

// sweep forgets those who have sent nothing for long.
func (p *pace) sweep(now time.Time) {
	if now.Sub(p.swept) < lately {
		return
	}
	p.swept = now
	for name, s := range p.slowed {
		if now.Sub(s.seen) >= forgetPace {
			delete(p.slowed, name)
		}
	}
}

// forgetOne makes room for one more.
func (p *pace) forgetOne(now time.Time) {
	p.sweep(now)
	if len(p.slowed) < mostSlowed {
		return
	}
	oldest, at := "", now
	for name, s := range p.slowed {
		if !s.seen.After(at) {
			oldest, at = name, s.seen
		}
	}
	delete(p.slowed, oldest)
}

// othersServed says that the relay takes messages of holders about whom it does
// not complain: then it is not the relay that is slow.
func (p *pace) othersServed(now time.Time) bool { return now.Sub(p.served) < lately }

// everybodys is the least time between two messages of the holder that gets on
// best, of all that send now.
func (p *pace) everybodys(now time.Time) time.Duration {
	fastest := time.Duration(0)
	if p.othersServed(now) {
		return p.least
	}
	for _, s := range p.slowed {
		if now.Sub(s.seen) < lately && (fastest == 0 || s.interval < fastest) {
			fastest = s.interval
		}
	}
	return max(p.least, fastest)
}

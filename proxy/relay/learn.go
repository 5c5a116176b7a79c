package relay

import "time"

// What slots learn from the relay, besides how many are lent: each of these is
// rare, or does nothing while all is well.

// settle says anew whether there is anything to watch.
func (s *slots) settle() {
	learning := !s.breaker.quiet() || s.limit.now < s.limit.most || len(s.pace.slowed) > 0
	s.timed = learning || !s.pace.rests()
	s.learning.Store(learning)
}

// connected says that a connection could be had. It tells whether that closed
// the breaker.
func (s *slots) connected() (closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	closed = s.breaker.succeed()
	s.settle()
	return closed
}

// answered says that the relay replied to a message of holder, and took it. It
// tells whether that closed the breaker.
func (s *slots) answered(holder string, took bool) (closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	closed = s.breaker.succeed()
	if took {
		now := time.Now()
		s.pace.succeed(holder, now)
		if s.limit.succeed() {
			s.resize(1)
		}
		s.serve(now)
	}
	s.settle()
	return closed
}

// failed counts a failure to get a connection, and tells whether the breaker
// opened with it. Then nobody waits any longer, and what the relay said about
// the number of connections is forgotten: it refused all of them.
func (s *slots) failed(cause *Error, probing bool) (opened bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if opened = s.breaker.fail(time.Now(), probing, cause, s.random()); opened {
		s.resize(s.limit.most - s.limit.now)
		s.limit.reset()
		s.dismissAll(errAlone)
	}
	s.settle()
	return opened
}

// lastFailure is why the breaker is not closed; nil if it is.
func (s *slots) lastFailure() *Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.breaker.cause
}

// gaveUp says that a probe came to nothing.
func (s *slots) gaveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaker.giveUp(time.Now())
}

// crowded lowers the limit after the relay refused one connection for their
// number, and tells the limit and how many may stay idle. Beside the lent ones
// there are idle ones. With no other connection the relay cannot have meant
// ours, and nothing changes.
func (s *slots) crowded(idle int) (limit, spare int, meant bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.limit.now
	open := before - s.free + idle
	if open <= 1 {
		return before, idle, false
	}
	s.limit.lower(open, time.Now())
	s.resize(s.limit.now - before)
	s.settle()
	return s.limit.now, max(0, s.free), true
}

// slowDown heeds the relay's complaint about a MAIL of a holder, which was sent
// after so many raises of the pace. It tells the holder's pace if that changed it.
func (s *slots) slowDown(begun uint32, name string) (interval time.Duration, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	raises := s.raises.Load() + 1
	if !s.pace.raise(name, begun, raises, now) {
		return 0, false
	}
	s.raises.Store(raises)
	s.settle()
	if h := s.holders[name]; h != nil {
		s.shedOf(h, now)
	}
	s.tick(now)
	return s.pace.slowed[name].interval, true
}

// denied says whether the relay lets nobody send, as it did not let this holder.
func (s *slots) denied(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pace.deny(name, time.Now())
}

// shed sends away those for whom there is no turn within patience after one of h
// came: of all that wait always the last one of the holder with the most of them.
func (s *slots) shed(h *holder, now time.Time) {
	for s.pace.least > 0 && wait(s.pace.next, now, s.pace.least, s.waiting()-1) > s.patience {
		longest := s.turn[0]
		for _, h := range s.turn {
			if len(h.waiting) >= len(longest.waiting) {
				longest = h
			}
		}
		s.dismiss(longest, len(longest.waiting)-1, errPaced)
	}
	s.shedOf(h, now)
}

// shedOf is shed for the pace of one holder. While others have turns the reason
// is one that concerns this holder alone.
func (s *slots) shedOf(h *holder, now time.Time) {
	own := s.pace.slowed[h.name]
	if own == nil || h.name == prober {
		return
	}
	why := errPaced
	if ok, _ := s.turnOfSlowed(now); ok {
		why = errSlowed
	}
	for len(h.waiting) > 0 && wait(own.next, now, own.interval, len(h.waiting)-1) > s.patience {
		s.dismiss(h, len(h.waiting)-1, why)
	}
}

func (s *slots) waiting() int {
	n := 0
	for _, h := range s.turn {
		n += len(h.waiting)
	}
	return n
}

// dismiss answers a request with an error.
func (s *slots) dismiss(h *holder, i int, err error) {
	h.waiting[i] <- err
	s.remove(h, i)
	s.forget(h)
}

func (s *slots) dismissAll(err error) {
	for len(s.turn) > 0 {
		s.dismiss(s.turn[0], 0, err)
	}
}

// tick has the next turn of a pace served when it comes, if somebody waits for
// it. The timer belongs to slots; it serves once and ends.
func (s *slots) tick(now time.Time) {
	if s.pace.rests() || s.free <= 0 {
		return
	}
	var next time.Time
	for _, h := range s.turn {
		if at := s.pace.when(h.name); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() || !s.ticks.IsZero() && !next.Before(s.ticks) {
		return
	}
	s.ticks = next
	time.AfterFunc(next.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.ticks.Equal(next) {
			s.ticks = time.Time{}
		}
		s.serve(time.Now())
	})
}

// ready says whether a request would be let in now, and otherwise when.
func (s *slots) ready(now time.Time) (bool, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok, at := s.breaker.ready(now); !ok {
		return false, at
	}
	if s.pace.least > 0 {
		if late := wait(s.pace.next, now, s.pace.least, s.waiting()) - s.patience; late > 0 {
			return false, now.Add(late)
		}
	}
	return s.turnOfSlowed(now)
}

// turnOfSlowed says whether anybody's own pace lets one more in, and otherwise
// when. Whoever is not slowed has a turn; but if all that send now are slowed
// then it is the relay that is slow.
func (s *slots) turnOfSlowed(now time.Time) (bool, time.Time) {
	if s.pace.othersServed(now) {
		return true, now
	}
	var first time.Time
	for name, own := range s.pace.slowed {
		if now.Sub(own.seen) >= lately {
			continue
		}
		turns := 0
		if h := s.holders[name]; h != nil {
			turns = len(h.waiting)
		}
		late := wait(own.next, now, own.interval, turns) - s.patience
		if late <= 0 {
			return true, now
		}
		if at := now.Add(late); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first.IsZero(), first
}

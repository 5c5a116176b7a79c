package relay

import "time"

// What slots learn from the relay, besides how many are lent: each of these is
// rare, or does nothing while all is well.

// settle says anew whether there is anything to watch.
func (s *slots) settle() {
	learning := !s.breaker.quiet() || s.limit.now < s.limit.most || s.pace.learnt > 0
	s.timed = learning || s.pace.interval() > 0
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
		s.pace.succeed(holder)
		if s.limit.succeed() {
			s.resize(1)
		}
		s.serve(time.Now())
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

// slowDown heeds the relay's complaint about a MAIL of holder, which was sent
// after so many raises of the pace. It tells the pace if that changed it.
func (s *slots) slowDown(raises uint32, holder string) (interval time.Duration, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if raises != s.raises.Load() || !s.pace.raise(holder, now) {
		return 0, false // one burst of complaints is one
	}
	s.raises.Add(1)
	s.settle()
	s.shed(now)
	s.tick(now)
	return s.pace.interval(), true
}

// shed sends away those for whom there is no turn of the pace within patience:
// always the last one of the holder with the most of them.
func (s *slots) shed(now time.Time) {
	if s.pace.interval() == 0 {
		return
	}
	for s.waiting() > s.pace.room(now, s.patience) {
		longest := s.turn[0]
		for _, h := range s.turn {
			if len(h.waiting) >= len(longest.waiting) {
				longest = h
			}
		}
		s.dismiss(longest, len(longest.waiting)-1, errPaced)
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

// tick has the next turn of the pace served when it comes, if somebody waits for
// it. The timer belongs to slots; it serves once and ends.
func (s *slots) tick(now time.Time) {
	if s.ticking || len(s.turn) == 0 || s.free <= 0 || s.pace.due(now) {
		return
	}
	s.ticking = true
	time.AfterFunc(s.pace.next.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ticking = false
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
	interval, waiting := s.pace.interval(), s.waiting()
	if interval == 0 || waiting < s.pace.room(now, s.patience) {
		return true, now
	}
	wait := max(0, s.pace.next.Sub(now)) + time.Duration(waiting)*interval
	return false, now.Add(wait - s.patience)
}

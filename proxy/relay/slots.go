package relay

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// share is how many times as many connections one holder may have as stay free
// behind it.
const share = 16

// slots are the right to a connection, of which there is a number that the
// relay's replies change (limit). A holder gets another one as long as it would
// hold at most share times as many as stay free: alone it may have nearly all,
// and however many it opens and stalls, somebody else still finds one. Who has
// none needs only a free one. The threshold is that of Choudhury and Hahne,
// "Dynamic queue length thresholds for shared-memory packet switches" (1998): no
// fixed parts that lie idle, and greedy holders come to equal parts as slots are
// given back.
//
// Holders that wait are served in turn, each one's requests in order; that holds
// for a free connection and for a turn of the pace alike. An open breaker sends
// everybody away.
type slots struct {
	patience time.Duration // for a turn of the pace
	random   func() float64

	mu      sync.Mutex
	free    int // below 0 while more are lent than the limit, which fell
	holders map[string]*holder
	turn    []*holder // those that wait, the next to be served first
	limit   limit
	pace    pace
	breaker breaker
	ticks   time.Time // when a timer serves the next turn of a pace; zero: none
	timed   bool      // the time matters: breaker, limit or pace are not at rest

	learning atomic.Bool   // successes matter, for the same reason
	surplus  atomic.Bool   // free is below 0
	raises   atomic.Uint32 // of the pace so far
}

type holder struct {
	name    string
	held    int
	waiting []chan error // each gets one answer; nil grants
}

func newSlots(n int, rate float64, patience time.Duration) *slots {
	s := &slots{
		patience: patience, random: rand.Float64, free: n, holders: map[string]*holder{},
		limit: limit{most: n, now: n}, pace: newPace(rate), breaker: breaker{state: BreakerClosed},
	}
	s.settle()
	return s
}

// acquire takes a slot, and waits for one until patience or ctx ends. With
// probing the caller tries an open breaker out, and tells how it went.
func (s *slots) acquire(ctx context.Context, name string, patience time.Duration) (probing bool, err error) {
	answer, h, probing, err := s.request(name)
	if answer == nil {
		return probing, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
		s.withdraw(h, answer)
	case <-timer.C:
		err = errBusy
		s.withdraw(h, answer)
	}
	if err != nil && probing {
		s.gaveUp()
	}
	return probing, err
}

// request takes a slot, or gives the channel to wait on.
func (s *slots) request(name string) (answer chan error, h *holder, probing bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.look()
	ok, probing := s.breaker.ask(now, name == prober)
	if !ok {
		return nil, nil, false, errAlone
	}
	h = s.holder(name)
	if s.fits(h, now) { // whoever waits does not fit, so nobody is overtaken
		s.take(h, now)
		return nil, h, probing, nil
	}
	if len(h.waiting) == 0 {
		s.turn = append(s.turn, h)
	}
	answer = make(chan error, 1)
	h.waiting = append(h.waiting, answer)
	s.shed(h, now)
	s.tick(now)
	return answer, h, probing, nil
}

// look gives the time, and serves those whose turn came with it. It is zero
// while time does not matter.
func (s *slots) look() time.Time {
	if !s.timed {
		return time.Time{}
	}
	now := time.Now()
	if before := s.limit.now; s.limit.look(now) {
		s.resize(s.limit.now - before)
		s.settle()
	}
	s.serve(now)
	return now
}

// withdraw takes a request back that waited in vain. If it was granted
// meanwhile the slot goes to the next.
func (s *slots) withdraw(h *holder, answer chan error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(h.waiting, answer); i >= 0 {
		s.remove(h, i)
		s.forget(h)
		return
	}
	if err := <-answer; err == nil {
		s.put(h)
	}
}

// release gives a slot back, and to those who wait for it.
func (s *slots) release(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(s.holders[name])
}

func (s *slots) put(h *holder) {
	h.held--
	s.resize(1)
	now := time.Time{}
	if s.timed {
		now = time.Now()
	}
	s.serve(now)
	s.forget(h)
}

// resize changes how many are free.
func (s *slots) resize(by int) {
	s.free += by
	s.surplus.Store(s.free < 0)
}

// serve grants what can be granted now.
func (s *slots) serve(now time.Time) {
	for s.free > 0 && s.grant(now) {
	}
	s.tick(now)
}

// grant serves the first holder in turn that fits, which then goes to the end.
func (s *slots) grant(now time.Time) bool {
	i := slices.IndexFunc(s.turn, func(h *holder) bool { return s.fits(h, now) })
	if i < 0 {
		return false
	}
	h := s.turn[i]
	s.turn = slices.Delete(s.turn, i, i+1)
	h.waiting[0] <- nil
	if h.waiting = h.waiting[1:]; len(h.waiting) > 0 {
		s.turn = append(s.turn, h)
	}
	s.take(h, now)
	return true
}

// fits says that a holder may have one more now.
func (s *slots) fits(h *holder, now time.Time) bool {
	return s.free > 0 && (h.held == 0 || h.held+1 <= share*(s.free-1)) && (h.name == prober || s.pace.due(h.name, now))
}

func (s *slots) take(h *holder, now time.Time) {
	s.resize(-1)
	h.held++
	if h.name != prober { // who sends no MAIL
		s.pace.take(h.name, now)
	}
}

// remove takes the i-th request of a holder out.
func (s *slots) remove(h *holder, i int) {
	h.waiting = slices.Delete(h.waiting, i, i+1)
	if len(h.waiting) == 0 {
		at := slices.Index(s.turn, h)
		s.turn = slices.Delete(s.turn, at, at+1)
	}
}

func (s *slots) holder(name string) *holder {
	h := s.holders[name]
	if h == nil {
		h = &holder{name: name}
		s.holders[name] = h
	}
	return h
}

// forget keeps the map no larger than what is in use.
func (s *slots) forget(h *holder) {
	if h.held == 0 && len(h.waiting) == 0 {
		delete(s.holders, h.name)
	}
}

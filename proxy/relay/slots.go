package relay

import (
	"context"
	"slices"
	"sync"
	"time"
)

// share is how many times as many connections one holder may have as stay free
// behind it.
const share = 16

// slots are the right to a connection, of which there is a fixed number. A
// holder gets another one as long as it would hold at most share times as many
// as stay free: alone it may have nearly all, and however many it opens and
// stalls, somebody else still finds one. Who has none needs only a free one.
// The threshold is that of Choudhury and Hahne, "Dynamic queue length
// thresholds for shared-memory packet switches" (1998): no fixed parts that lie
// idle, and greedy holders come to equal parts as slots are given back.
//
// Holders that wait are served in turn, each one's requests in order.
type slots struct {
	mu      sync.Mutex
	free    int
	holders map[string]*holder
	turn    []*holder // those that wait, the next to be served first
}

type holder struct {
	name    string
	held    int
	waiting []chan struct{} // closed when granted
}

func newSlots(n int) *slots { return &slots{free: n, holders: map[string]*holder{}} }

// acquire takes a slot, and waits for one until patience or ctx ends.
func (s *slots) acquire(ctx context.Context, name string, patience time.Duration) error {
	granted, h := s.request(name)
	if granted == nil {
		return nil
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	err := errBusy
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
	}
	if !s.withdraw(h, granted) {
		s.release(name) // it was granted meanwhile
	}
	return err
}

// request takes a slot, or gives the channel to wait on.
func (s *slots) request(name string) (chan struct{}, *holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holder(name)
	if s.fits(h) { // whoever waits does not fit, so nobody is overtaken
		s.take(h)
		return nil, h
	}
	if len(h.waiting) == 0 {
		s.turn = append(s.turn, h)
	}
	granted := make(chan struct{})
	h.waiting = append(h.waiting, granted)
	return granted, h
}

// withdraw takes a request back; false if it was granted.
func (s *slots) withdraw(h *holder, granted chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(h.waiting, granted)
	if i < 0 {
		return false
	}
	h.waiting = slices.Delete(h.waiting, i, i+1)
	if len(h.waiting) == 0 {
		at := slices.Index(s.turn, h)
		s.turn = slices.Delete(s.turn, at, at+1)
	}
	s.forget(h)
	return true
}

// release gives a slot back, and to those who wait for it.
func (s *slots) release(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holders[name]
	h.held--
	s.free++
	for s.free > 0 && s.grant() {
	}
	s.forget(h)
}

// grant serves the first holder in turn that fits, which then goes to the end.
func (s *slots) grant() bool {
	i := slices.IndexFunc(s.turn, s.fits)
	if i < 0 {
		return false
	}
	h := s.turn[i]
	s.turn = slices.Delete(s.turn, i, i+1)
	close(h.waiting[0])
	if h.waiting = h.waiting[1:]; len(h.waiting) > 0 {
		s.turn = append(s.turn, h)
	}
	s.take(h)
	return true
}

func (s *slots) fits(h *holder) bool {
	return s.free > 0 && (h.held == 0 || h.held+1 <= share*(s.free-1))
}

func (s *slots) take(h *holder) {
	s.free--
	h.held++
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

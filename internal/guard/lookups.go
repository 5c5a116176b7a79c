package guard

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxUnheard bounds the answers that wait for one who listens.
const maxUnheard = 256

// lookups passes answers of name servers on to those who listen, as they are. It
// takes them from the kernel only while somebody does.
type lookups struct {
	open       func() (answerLog, error)
	conditions *conditions

	came   chan struct{} // somebody listens
	lost   atomic.Uint64 // answers that the kernel's log lost
	missed atomic.Uint64 // that somebody who listens was too slow for

	mu  sync.Mutex
	all map[*hearer]struct{}
	end context.CancelFunc // of the reading under way; nil if nobody needs one
}

// hearer is one who listens.
type hearer struct{ answers chan []byte }

func newLookups(open func() (answerLog, error), c *conditions) *lookups {
	return &lookups{open: open, conditions: c, came: make(chan struct{}, 1), all: map[*hearer]struct{}{}}
}

func (l *lookups) join() *hearer {
	one := &hearer{answers: make(chan []byte, maxUnheard)}
	l.mu.Lock()
	l.all[one] = struct{}{}
	l.mu.Unlock()
	select {
	case l.came <- struct{}{}:
	default: // run has not heard of the one before yet
	}
	return one
}

// leave ends the reading with the last who listened.
func (l *lookups) leave(one *hearer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, one)
	if len(l.all) == 0 && l.end != nil {
		l.end()
		l.end = nil
	}
}

// begin notes how a reading ends, unless nobody wants it.
func (l *lookups) begin(end context.CancelFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return false
	}
	l.end = end
	return true
}

// tell waits for nobody: who has no room for an answer misses it.
func (l *lookups) tell(answer []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for one := range l.all {
		select {
		case one.answers <- answer:
		default:
			l.missed.Add(1)
		}
	}
}

// run reads whenever somebody listens, until ctx is done.
func (l *lookups) run(ctx context.Context) error {
	for {
		if err := l.read(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.came:
		}
	}
}

// read passes answers on until nobody listens any more.
func (l *lookups) read(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	if !l.begin(end) {
		l.conditions.set("lookups", nil) // it is in nobody's way
		return nil
	}
	log, err := l.open()
	if err != nil {
		return err
	}
	defer log.Close()
	l.conditions.set("lookups", nil)
	before := l.lost.Load()
	for {
		answers, err := log.Read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		l.lost.Store(before + log.Lost())
		for _, answer := range answers {
			l.tell(answer)
		}
	}
}

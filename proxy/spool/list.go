package spool

import (
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// All goes through the messages in these states, or in every state of the queue
// if none is named, in no order. It reads heads and tails only, some ahead, and
// keeps none in memory. A message that cannot be read comes as an Item with
// nothing but an ID, and an error; a damaged one (ErrDamaged) has been moved to
// corrupt/. A message that comes, goes or changes its state meanwhile may be
// among them or not.
//
// Custody: ours, unchanged.
func (s *Spool) All(states ...State) iter.Seq2[Item, error] {
	if len(states) == 0 {
		states = queued
	}
	return func(yield func(Item, error) bool) {
		s.mu.Lock()
		ids := s.index.ids(states)
		s.mu.Unlock()
		readAhead(ids, states, s.Show, yield)
	}
}

// result is one message that was read ahead.
type result struct {
	item Item
	err  error
}

// readAhead shows messages by several goroutines, which have ended when it
// returns.
func readAhead(ids []string, states []State, show func(string) (Item, error), yield func(Item, error) bool) {
	workers := 2 * runtime.GOMAXPROCS(0)
	results := make(chan result, 16*workers)
	stop := make(chan struct{})
	var all sync.WaitGroup
	var next atomic.Int64
	for range min(workers, len(ids)) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(ids)); i = next.Add(1) - 1 {
				item, err := show(ids[i])
				if err != nil {
					item.ID = ids[i]
				}
				select {
				case results <- result{item, err}:
				case <-stop:
					return
				}
			}
		})
	}
	go func() { // ends with the workers, which are waited for below
		all.Wait()
		close(results)
	}()
	defer all.Wait()
	defer close(stop)
	for r := range results {
		if errors.Is(r.err, ErrUnknown) || r.err == nil && !slices.Contains(states, r.item.State) {
			continue
		}
		if !yield(r.item, r.err) {
			return
		}
	}
}

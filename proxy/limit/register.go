package limit

import (
	"maps"
	"sync"
	"sync/atomic"
)

// register is a small table that is read all the time and changed seldom: a
// reader loads one pointer, a writer makes a new map.
type register[T any] struct {
	mu  sync.Mutex
	now atomic.Pointer[map[string]T] // nil where it is empty
}

func (r *register[T]) all() map[string]T {
	if now := r.now.Load(); now != nil {
		return *now
	}
	return nil
}

// change calls edit with a copy that then takes the register's place.
func (r *register[T]) change(edit func(map[string]T)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := maps.Clone(r.all())
	if next == nil {
		next = map[string]T{}
	}
	edit(next)
	if len(next) == 0 {
		r.now.Store(nil)
		return
	}
	r.now.Store(&next)
}

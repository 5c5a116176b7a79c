package queue

import "container/heap"

// pile is a heap whose elements know their place in it, so that any of them can
// be taken out.
type pile[T any] struct {
	all    []T
	before func(a, b T) bool
	place  func(T) *int
}

func (p *pile[T]) add(x T) { heap.Push(p, x) }

// remove takes x out. What x is ordered by may have changed before.
func (p *pile[T]) remove(x T) { heap.Remove(p, *p.place(x)) }

// first is the zero value of T when the pile is empty.
func (p *pile[T]) first() (x T) {
	if len(p.all) > 0 {
		x = p.all[0]
	}
	return x
}

// Len, Less, Swap, Push and Pop are what container/heap works with.

func (p *pile[T]) Len() int           { return len(p.all) }
func (p *pile[T]) Less(i, j int) bool { return p.before(p.all[i], p.all[j]) }

func (p *pile[T]) Swap(i, j int) {
	p.all[i], p.all[j] = p.all[j], p.all[i]
	*p.place(p.all[i]) = i
	*p.place(p.all[j]) = j
}

func (p *pile[T]) Push(x any) {
	*p.place(x.(T)) = len(p.all)
	p.all = append(p.all, x.(T))
}

func (p *pile[T]) Pop() any {
	var none T
	last := len(p.all) - 1
	x := p.all[last]
	p.all[last] = none // nothing is kept alive by the unused end of the slice
	p.all = p.all[:last]
	return x
}

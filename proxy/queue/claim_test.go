package queue

import (
	"testing"
	"time"
)

// A claimed item is with nobody else, though its route is paused and it is not
// due, and it comes back as after Take.
func TestClaim(t *testing.T) {
	now := time.Now()
	q := New(func(string) int { return 1 })
	q.Add(Item{ID: "a", Route: "main", Next: now.Add(time.Hour)})
	q.Add(Item{ID: "b", Route: "main"})
	q.Pause("main", now.Add(time.Minute))
	item, ok := q.Claim("a")
	if !ok || item.ID != "a" || !item.Next.Equal(now.Add(time.Hour)) {
		t.Fatalf("%+v, %v", item, ok)
	}
	if !q.Active("a") || q.Active("b") || q.Active("nobody") {
		t.Error("a alone is active")
	}
	if _, ok := q.Claim("a"); ok {
		t.Error("it was claimed twice")
	}
	if ok, active := q.Remove("a"); ok || !active {
		t.Errorf("removed %v, active %v", ok, active)
	}
	if _, ok := q.Claim("nobody"); ok {
		t.Error("an unknown item was claimed")
	}
	q.Resume("main")
	if _, ok := q.Take(now); ok {
		t.Error("the worker of the claimed item was given away")
	}
	q.Done("a")
	q.Add(item)
	if first, ok := q.Take(now); !ok || first.ID != "b" {
		t.Errorf("%+v, %v", first, ok)
	}
	q.Done("b")
	if _, ok := q.Take(now); ok {
		t.Error("an item came before its time")
	}
	if last, ok := q.Take(now.Add(time.Hour)); !ok || last.ID != "a" {
		t.Errorf("%+v, %v", last, ok)
	}
}

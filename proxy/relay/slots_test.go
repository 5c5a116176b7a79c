package relay

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// take acquires n slots that must be free at once.
func take(t *testing.T, s *slots, name string, n int) {
	t.Helper()
	for i := range n {
		if _, err := s.acquire(t.Context(), name, 0); err != nil {
			t.Fatalf("%s could not have slot %d of %d: %v", name, i+1, n, err)
		}
	}
}

func refused(t *testing.T, s *slots, name string) {
	t.Helper()
	if _, err := s.acquire(t.Context(), name, 0); !errors.Is(err, errBusy) {
		t.Fatalf("%s had one more: %v", name, err)
	}
}

// One holder has nearly all, and however many hold what they can there is one
// for the next.
func TestSlotsLeaveSomeForOthers(t *testing.T) {
	for _, test := range []struct {
		slots int
		most  []int // of each holder that comes and takes all it can
	}{
		{1, []int{1}},
		{2, []int{1, 1}},
		{4, []int{3, 1}},
		{50, []int{47, 2, 1}},
		{200, []int{188, 11, 1}},
	} {
		t.Run(fmt.Sprint(test.slots), func(t *testing.T) {
			s := newSlots(test.slots, 0, 0)
			for i, most := range test.most {
				take(t, s, fmt.Sprint("holder ", i), most)
				refused(t, s, fmt.Sprint("holder ", i))
			}
			refused(t, s, "late")
			for i, most := range test.most {
				for range most {
					s.release(fmt.Sprint("holder ", i))
				}
			}
			if s.free != test.slots || len(s.holders) != 0 || len(s.turn) != 0 {
				t.Fatalf("all were given back, but %d of %d are free, %d holders are known", s.free, test.slots, len(s.holders))
			}
		})
	}
}

// Who waits is served in turn: a crowd of one holder's is not before others.
func TestSlotsAreGrantedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2, 0, 0)
		take(t, s, "crowd", 1)
		take(t, s, "other", 1)
		granted := make(chan string, 10)
		for _, name := range []string{"crowd", "crowd", "crowd", "third", "fourth"} {
			go func() {
				if _, err := s.acquire(t.Context(), name, time.Hour); err == nil {
					granted <- name
				}
			}()
			synctest.Wait()
		}
		for _, step := range []struct{ release, next string }{
			{"other", "third"}, {"third", "fourth"}, {"fourth", ""}, {"crowd", "crowd"}, {"crowd", "crowd"},
		} {
			s.release(step.release)
			synctest.Wait()
			next := ""
			select {
			case next = <-granted:
			default:
			}
			if next != step.next {
				t.Fatalf("%s gave a slot back, %q had it, want %q", step.release, next, step.next)
			}
		}
		s.release("crowd")
	})
}

func TestSlotsWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, 0, 0)
		take(t, s, "a", 1)
		began := time.Now()
		if _, err := s.acquire(t.Context(), "b", time.Minute); !errors.Is(err, errBusy) || time.Since(began) != time.Minute {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := s.acquire(ctx, "b", time.Minute); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		s.release("a")
		take(t, s, "b", 1)
		if len(s.turn) != 0 || len(s.holders) != 1 {
			t.Fatalf("%d wait, %d are known", len(s.turn), len(s.holders))
		}
	})
}

// A slot that was granted to somebody in the moment when he went away goes to
// the next.
func TestSlotGrantedToWhoWentAway(t *testing.T) {
	s := newSlots(1, 0, 0)
	take(t, s, "a", 1)
	first, h, _, _ := s.request("b")
	second, _, _, _ := s.request("c")
	s.release("a")
	if len(first) != 1 || len(second) != 0 {
		t.Fatal("not granted in turn")
	}
	s.withdraw(h, first)
	if len(second) != 1 {
		t.Fatal("the slot is lost")
	}
	s.release("c")
	if s.free != 1 || len(s.holders) != 0 {
		t.Fatalf("%d free, %d holders", s.free, len(s.holders))
	}
}

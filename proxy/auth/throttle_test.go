package auth

import (
	"fmt"
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	start := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	throttle := NewThrottle()
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 30, 30, 30} {
		if got := throttle.Delay("peer", start); got != want*time.Second {
			t.Errorf("after %d failures: %v, want %vs", i, got, int(want))
		}
		throttle.Fail("peer", start)
	}
	if got := throttle.Delay("other", start); got != 0 {
		t.Errorf("another peer waits %v", got)
	}
	for after, want := range map[time.Duration]time.Duration{
		forgive - 1: 30, forgive: 16, 2 * forgive: 8, 5*forgive + 1: 1, -time.Hour: 30,
	} {
		if got := throttle.Delay("peer", start.Add(after)); got != want*time.Second {
			t.Errorf("%v after the last failure: %v, want %vs", after, got, int(want))
		}
	}
	if got := throttle.Delay("peer", start.Add(6*forgive)); got != 0 || throttle.peers.Len() != 0 {
		t.Errorf("after all is forgiven: %v, %d peers kept", got, throttle.peers.Len())
	}
}

func TestThrottleIsBounded(t *testing.T) {
	now := time.Now()
	throttle := NewThrottle()
	throttle.Fail("first", now)
	for i := range throttleKeys {
		throttle.Fail(fmt.Sprint("peer", i), now)
		if i%1000 == 0 {
			throttle.Delay("first", now) // seen again, so not the oldest
		}
	}
	if n := throttle.peers.Len(); n != throttleKeys {
		t.Errorf("%d peers are kept, want %d", n, throttleKeys)
	}
	if throttle.Delay("first", now) == 0 || throttle.Delay("peer0", now) != 0 {
		t.Error("the peer not seen for longest is not the one forgotten")
	}
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The breaker's every course of a few steps: it is closed only with fewer
// failures in a row than it takes to open, while it is open nobody gets through
// before the pause ends, then exactly one until it told how it went or took too
// long, and pauses double and stay bounded.
func TestBreakerModel(t *testing.T) {
	type step struct {
		name string
		do   func(b *breaker, now *time.Time, probes *int)
	}
	probe := func(b *breaker, now *time.Time, probes *int, force bool) {
		early := now.Before(b.until)
		switch ok, probing := b.ask(*now, force); {
		case probing && early && !force:
			t.Fatalf("a probe before %v", b.until)
		case ok && !probing && b.state != BreakerClosed:
			t.Fatalf("let through while %s", b.state)
		case probing: // in the place of one that has not told by now
			*probes = 1
		}
	}
	settle := func(do func(b *breaker, now time.Time)) func(*breaker, *time.Time, *int) {
		return func(b *breaker, now *time.Time, probes *int) {
			if *probes == 1 { // only who probes
				do(b, *now)
				*probes = 0
			}
		}
	}
	steps := []step{
		{"ask", func(b *breaker, now *time.Time, probes *int) { probe(b, now, probes, false) }},
		{"force", func(b *breaker, now *time.Time, probes *int) { probe(b, now, probes, true) }},
		{"wait", func(_ *breaker, now *time.Time, _ *int) { *now = now.Add(longestPause * 2) }},
		{"fail", func(b *breaker, now *time.Time, _ *int) { b.fail(*now, false, &Error{}, 0.5) }},
		{"succeed", func(b *breaker, _ *time.Time, probes *int) { b.succeed(); *probes = 0 }},
		{"probe fails", settle(func(b *breaker, now time.Time) { b.fail(now, true, &Error{}, 0.5) })},
		{"probe gives up", settle(func(b *breaker, now time.Time) { b.giveUp(now) })},
	}
	var walk func(b breaker, now time.Time, probes int, path []string)
	walk = func(b breaker, now time.Time, probes int, path []string) {
		switch {
		case (b.state == BreakerHalfOpen) != (probes == 1):
			t.Fatalf("%s with %d probes: %v", b.state, probes, path)
		case b.state == BreakerClosed && b.failures >= breakerFailures:
			t.Fatalf("closed after %d failures: %v", b.failures, path)
		case b.state != BreakerClosed && (b.pause < firstPause || b.pause > longestPause || b.cause == nil):
			t.Fatalf("%s for %v: %v", b.state, b.pause, path)
		}
		if ok, at := b.ready(now); ok != (b.state == BreakerClosed || !now.Before(b.until)) || !ok && !at.After(now) {
			t.Fatalf("ready %v at %v: %v", ok, at, path)
		}
		if len(path) == 7 {
			return
		}
		for _, s := range steps {
			next, later, n := b, now, probes
			s.do(&next, &later, &n)
			walk(next, later, n, append(path, s.name))
		}
	}
	walk(breaker{state: BreakerClosed}, time.Unix(0, 0), 0, nil)
}

// A relay that flaps in every way for an hour: whatever it did, all slots come
// back, what Ready says holds, and once it is sound it is used to the full again.
func TestFlappingRelay(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { flap(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func flap(t *testing.T, random *rand.Rand) {
	relay := &fakeRelay{}
	pool := relay.pool(t, func(o *Options) {
		withPorts(one587, one2525)(o)
		o.Connections = 8
	})
	var clients sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for i := range 30 {
		seed := random.Uint64()
		clients.Go(func() { flapClient(ctx, t, pool, fmt.Sprint("uid:", i%7), rand.New(rand.NewPCG(seed, 2))) })
	}
	for began := time.Now(); time.Since(began) < time.Hour; time.Sleep(time.Duration(random.Int64N(int64(20 * time.Second)))) {
		misbehave(relay, random)
	}
	misbehaveNot(relay)
	time.Sleep(10 * time.Minute)
	stop()
	clients.Wait()
	if status := pool.Status(time.Now()); status.Lent != 0 || status.Cap != 8 || status.Pace != 0 || status.Breaker != BreakerClosed || status.Error != "" {
		t.Fatalf("%+v", status)
	}
	if s := pool.slots; s.free != 8 || len(s.holders) != 0 || len(s.turn) != 0 || s.timed || s.learning.Load() || s.surplus.Load() {
		t.Fatalf("%d free, %d holders, %d wait", s.free, len(s.holders), len(s.turn))
	}
	deliverAll(t, pool, 30)
}

func misbehaveNot(relay *fakeRelay) {
	relay.set(nil)
	relay.fail(one587, nil)
	relay.fail(one2525, nil)
	relay.makeRoom(0)
}

func misbehave(relay *fakeRelay, random *rand.Rand) {
	misbehaveNot(relay)
	steps := []string{"CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."}
	replies := []string{"421 4.7.0 no", "450 4.7.1 slowly", "452 4.5.3 enough", "raw:", "550 5.7.1 no", "250 2.0.0 ok\r\n250 2.0.0 ok", "354 what", "535 5.7.8 who"}
	switch random.IntN(4) {
	case 0:
		relay.fail(one587, []error{refusedTCP, errHang}[random.IntN(2)])
	case 1:
		relay.fail(one587, errHang)
		relay.fail(one2525, refusedTCP)
	case 2:
		relay.makeRoom(1 + random.IntN(6))
	case 3:
		relay.set(replying(steps[random.IntN(len(steps))], replies[random.IntN(len(replies))]))
	}
}

// flapClient sends messages as a worker of the queue does: not while the relay
// is not ready. Some clients go away in the middle.
func flapClient(ctx context.Context, t *testing.T, pool *Pool, holder string, random *rand.Rand) {
	for ctx.Err() == nil {
		if ok, at := pool.Ready(time.Now()); !ok {
			if !at.After(time.Now()) {
				t.Errorf("not ready, but to be asked again at once")
				return
			}
			time.Sleep(time.Until(at))
		}
		patience, cancel := context.WithTimeout(ctx, time.Duration(random.Int64N(int64(5*time.Minute))))
		err := deliver(patience, pool, holder)
		cancel()
		var failure *Error
		if err != nil && !errors.As(err, &failure) && !strings.Contains(err.Error(), "refused: ") {
			t.Error(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(3 * time.Second))))
	}
}

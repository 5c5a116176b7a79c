// Under random faults of relays and kills of the proxy, with 200 clients at
// once, nothing is lost and nothing altered, and nothing arrives twice but what
// the audit says may.

package fault_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

var soakTime = flag.Duration("soak", 20*time.Second, "how long TestSoak sends mail under faults")

const (
	soakClients = 200
	// soakBacklog is how many messages may wait for a relay: a soak is about those
	// that pass through, and faults let fewer pass than so many clients can send.
	soakBacklog = 2000
)

func TestSoak(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			h := newHost(t, setup{mode: mode, relays: []string{"main", "second"}, session: "max_sessions_per_peer = 1000"})
			ctx, cancel := context.WithTimeout(t.Context(), *soakTime/2)
			defer cancel()
			var working sync.WaitGroup
			for range soakClients {
				working.Go(func() { h.chatter(ctx) })
			}
			for _, relay := range h.relays {
				working.Go(func() { trouble(ctx, relay) })
			}
			working.Go(func() { h.collectRegularly(ctx) })
			kills := h.killRegularly(ctx)
			working.Wait()
			h.restart()
			h.settle(t)
			t.Logf("%d kills; %d letters, of which %d had 250 and %d had no reply; %d arrived, %d of them more than once; %d are marked",
				kills, len(h.ledger.entries), h.ledger.heard(250), h.ledger.heard(0), h.ledger.arrived(), h.ledger.repeated(), len(h.marked(t)))
			if h.ledger.heard(250) < soakClients {
				t.Errorf("only %d messages had a 250: nothing is shown by that", h.ledger.heard(250))
			}
		})
	}
}

// chatter is one client's life: it connects, sends a few letters, leaves or is
// left, and comes again.
func (h *host) chatter(ctx context.Context) {
	for ctx.Err() == nil {
		if h.ledger.outstanding() > soakBacklog {
			pause(ctx, 200*time.Millisecond)
			continue
		}
		c, err := dial(h.socket())
		if err != nil {
			pause(ctx, 20*time.Millisecond) // between two lives of the proxy
			continue
		}
		for range 1 + rand.IntN(10) {
			l := newLetter(fmt.Sprintf("customer%d@example.net", rand.IntN(1000)))
			if rand.IntN(20) == 0 {
				l.size = 1 + rand.IntN(200<<10)
			}
			h.ledger.begin(l)
			last, rcpts := c.send(l)
			h.ledger.end(l, last, rcpts)
			if last.code == 0 || ctx.Err() != nil {
				break
			}
			pause(ctx, time.Duration(rand.IntN(int(100*time.Millisecond))))
		}
		c.close()
	}
}

// trouble gives a relay one kind of bad moment after the other, and good ones
// in between.
func trouble(ctx context.Context, relay *testkit.Relay) {
	steps := []testkit.RelayStep{
		testkit.StepGreeting, testkit.StepHello, testkit.StepHandshake, testkit.StepAuth, testkit.StepMail, testkit.StepRcpt,
		testkit.StepContent, testkit.StepEnd,
	}
	faults := []testkit.Fault{
		{Act: testkit.Hangup}, {Act: testkit.Reset}, {Act: testkit.Garbage}, {Text: "451 4.3.0 not now"}, {Text: "421 4.3.2 shutting down"},
		{Act: testkit.Stall, For: 200 * time.Millisecond}, {Act: testkit.Reset, Taken: true}, {Act: testkit.Hangup, Taken: true},
	}
	for ctx.Err() == nil {
		switch rand.IntN(8) {
		case 0:
			_ = relay.Down()
		case 1:
			relay.DropConnections()
		case 2:
		default:
			fault := faults[rand.IntN(len(faults))]
			fault.Chance = 0.02 + 0.3*rand.Float64()
			relay.On(steps[rand.IntN(len(steps))], fault)
		}
		pause(ctx, time.Duration(100+rand.IntN(600))*time.Millisecond)
		relay.ClearFaults()
		_ = relay.Up()
		pause(ctx, time.Duration(rand.IntN(300))*time.Millisecond)
	}
}

// killRegularly ends the proxy every now and then, mostly by a kill, and starts
// it again.
func (h *host) killRegularly(ctx context.Context) (kills int) {
	for ctx.Err() == nil {
		for range rand.IntN(12) {
			pause(ctx, 200*time.Millisecond)
			h.retry()
		}
		if rand.IntN(4) == 0 {
			h.stop()
		}
		h.restart()
		kills++
	}
	return kills
}

func (h *host) collectRegularly(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, 200*time.Millisecond)
		h.collect()
	}
}

// pause waits, no longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

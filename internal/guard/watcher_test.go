package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// watching waits until so many clients watch.
func (b *socketBed) watching(n int) {
	b.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		b.guard.watchers.mu.Lock()
		now := len(b.guard.watchers.all)
		b.guard.watchers.mu.Unlock()
		if now == n {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%d watch, want %d", now, n)
		}
	}
}

func TestWatch(t *testing.T) {
	b := newSocketBed(t)
	b.uid.Store(proxyUID)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan *audit.Event, 10)
	ended := make(chan error, 1)
	c := NewClient(b.path, nil)
	go func() { ended <- c.Watch(ctx, func(e *audit.Event) { got <- e }) }()
	b.watching(1)
	sent := audit.Event{Kind: audit.KindAttempt, PeerUID: audit.KnownUID(33), Destination: target, Outcome: audit.OutcomeBlocked, Count: 1, Time: time.Now().UTC()}
	b.guard.announce(&sent)
	b.guard.write(&audit.Event{Kind: audit.KindAttempt, Count: 7}) // not the first of its kind
	b.guard.announce(&audit.Event{Kind: audit.KindMode, Outcome: audit.OutcomeEnforce})
	first, second := <-got, <-got
	if first.Kind != audit.KindAttempt || first.PeerUID != sent.PeerUID || first.Destination != target || first.Outcome != sent.Outcome {
		t.Errorf("got %+v", first)
	}
	if second.Kind != audit.KindMode || second.Outcome != audit.OutcomeEnforce {
		t.Errorf("got %+v", second)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	b.watching(0)
}

func TestWatchEndsWithTheGuard(t *testing.T) {
	b := newSocketBed(t)
	c := NewClient(b.path, nil)
	ended := make(chan error, 1)
	go func() { ended <- c.Watch(t.Context(), func(*audit.Event) {}) }()
	b.watching(1)
	b.stop()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
}

func TestWatchIsRefused(t *testing.T) {
	b := newSocketBed(t)
	b.uid.Store(1000)
	err := NewClient(b.path, nil).Watch(t.Context(), func(*audit.Event) {})
	if err == nil || !strings.Contains(err.Error(), "not permitted") {
		t.Errorf("got %v", err)
	}
}

// Who does not read costs the guard a bounded memory and no time, and hears in
// the end how much was missed.
func TestAWatcherThatDoesNotRead(t *testing.T) {
	b := newSocketBed(t)
	stuck := b.dial()
	fmt.Fprintln(stuck, `{"op":"watch"}`)
	b.watching(1)
	one := b.guard.watchers.join()
	defer b.guard.watchers.leave(one)
	const events = 100_000
	begun := time.Now()
	for range events {
		b.guard.watchers.tell(&audit.Event{Kind: audit.KindDrift, Reason: "x"})
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("telling took %s", took)
	}
	if n := len(one.events); n != maxUnseen {
		t.Errorf("%d events wait", n)
	}
	for range maxUnseen {
		<-one.events
	}
	b.guard.watchers.tell(&audit.Event{Kind: audit.KindDrift, Reason: "x"})
	if e := <-one.events; e.Reason != fmt.Sprintf("x; %d events before it were too fast to be told", events-maxUnseen) {
		t.Errorf("got %q", e.Reason)
	}
	b.watching(2)
	stuck.Close()
	b.watching(1)
}

func TestAWatcherThatTalksIsLeft(t *testing.T) {
	b := newSocketBed(t)
	conn := b.dial()
	fmt.Fprintln(conn, `{"op":"watch"}`)
	b.watching(1)
	fmt.Fprintln(conn, `{"op":"release"}`)
	b.watching(0)
	if b.removed != 0 {
		t.Error("what came during a watch was done")
	}
}

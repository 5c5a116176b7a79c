package proxy

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// A relay that takes for ever to answer delays only what goes to it, and an
// identity with many messages only its own.
func TestRunnerDelaysNobodyElse(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "routes"})
	slow := b.relay
	first := b.settings.Relays.ByName["main"]
	b.startRelay(t, nil, b.settings)
	b.settings.Relays.ByName["second"], b.settings.Relays.ByName["main"] = b.settings.Relays.ByName["main"], first
	b.settings.Relays.Order = []*relay.Pool{first}
	slow.On(testkit.StepEnd, testkit.Fault{Act: testkit.Stall})
	for range 100 {
		b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	}
	r := NewRunner(RunnerOptions{Spool: b.spool, Events: b.events, Logger: zaptest.NewLogger(t)})
	before := slow.Counters().Flights
	r.Apply(b.settings)
	for slow.Counters().Flights == before { // it hears of the first messages
		time.Sleep(time.Millisecond)
	}
	b.user, b.uid = "shop", 34
	began := time.Now()
	id := b.keep(t, spool.Deferred, spool.Progress{}, "b@example.net")
	item, err := b.spool.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	r.Add(item)
	for { // until the relay's reply was read: what is stopped before that is kept
		if _, err := b.spool.Show(id); errors.Is(err, spool.ErrUnknown) {
			break
		}
		if time.Since(began) > 5*time.Second {
			t.Fatal("the message to the other relay waits")
		}
		time.Sleep(time.Millisecond)
	}
	if n := len(b.relay.Messages()); n != 1 {
		t.Errorf("the other relay has %d messages, want 1", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Stop(ctx); err != nil {
		t.Error(err)
	}
	if kept := b.kept(t); len(kept) != 100 {
		t.Errorf("%d messages are kept, want 100", len(kept))
	}
}

// A message whose relay left the configuration takes the way that policy says
// now.
func TestRunnerAfterAReload(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "routes"})
	b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	pool := b.settings.Relays.ByName["main"]
	r := NewRunner(RunnerOptions{Spool: b.spool, Events: b.events, Logger: zaptest.NewLogger(t)})
	without := *b.settings
	without.Relays = Relays{ByName: map[string]*relay.Pool{"other": pool}, Order: []*relay.Pool{pool}}
	r.Apply(&without)
	for waiting, _ := r.queue.Len(); waiting == 0; waiting, _ = r.queue.Len() {
		time.Sleep(time.Millisecond)
	}
	next := without
	next.Policy = testPolicy(t, "")
	r.Apply(&next)
	for deadline := time.Now().Add(5 * time.Second); len(b.relay.Messages()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the message waits for a relay that is not there any more")
		}
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// A message that the relay has and that cannot be removed from the spool is not
// sent again, whoever asks for it; the removal is tried again.
func TestRunnerRemovesLater(t *testing.T) {
	b := newStand(t, nil)
	disk := simdisk.New()
	var broken atomic.Bool
	disk.Fail = func(step simdisk.Step) error {
		if (step.Op == "remove" || step.Op == "rename") && strings.HasSuffix(step.Name, ".active") && broken.Load() {
			return syscall.EIO
		}
		return nil
	}
	b.useSpoolOn(t, disk)
	id := b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	broken.Store(true)
	r := b.newRunner(t)
	r.pass(time.Now())
	if _, due := r.unsettled.Load(id); !due || len(b.delivered(t)) != 1 {
		t.Fatalf("the relay has %v, the runner forgot that", b.delivered(t))
	}
	r.pass(time.Now().Add(2 * time.Hour))
	broken.Store(false)
	r.pass(time.Now().Add(4 * time.Hour))
	if kept := b.kept(t); len(kept) > 0 || len(b.delivered(t)) != 1 {
		t.Errorf("kept %v, delivered %v", kept, b.delivered(t))
	}
}

// useSpoolOn gives the stand another spool, on a disk that can fail.
func (b *stand) useSpoolOn(t *testing.T, disk *simdisk.Disk) {
	t.Helper()
	var err error
	if b.spool, err = spool.Open("/var/spool", spool.Options{FS: disk, Logger: zaptest.NewLogger(t)}); err != nil {
		t.Fatal(err)
	}
	b.settings.Spool = b.spool
}

// A message that a session has in the spool, while its relay has not answered
// yet, is nobody else's.
func TestRetryOfASessionsMessage(t *testing.T) {
	b := newStand(t, nil)
	id := b.keep(t, spool.Active, spool.Progress{}, "a@example.net")
	r := b.newRunner(t)
	if err := r.Retry(id); !errors.Is(err, ErrBusy) {
		t.Errorf("retry: %v", err)
	}
	item, err := b.spool.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Drop(item); !errors.Is(err, ErrBusy) {
		t.Errorf("drop: %v", err)
	}
	if r.pass(time.Now()); len(b.delivered(t)) != 0 || len(b.kept(t, spool.Active)) != 1 {
		t.Errorf("delivered %v, active %v", b.delivered(t), b.kept(t, spool.Active))
	}
}

package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/queue"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// DefaultBackoff is how long a message waits after a try: a minute, then twice
// as long each time, up to an hour, and up to a fifth more or less.
func DefaultBackoff() queue.Backoff {
	return queue.Backoff{First: time.Minute, Max: time.Hour, Jitter: 0.2}
}

// The schedule of what is not tried.
const (
	// restTime is how long a route rests at most before its relays are asked
	// again, and a message that could not be read.
	restTime = time.Minute
	// delayTold is how old a message is when its sender is told of the delay,
	// if that was asked for (RFC 3461 section 4.1).
	delayTold = 4 * time.Hour
	// sweepInterval is how often messages that wait for a relay are looked at
	// for their age.
	sweepInterval = 15 * time.Minute
	// maxWorkers is how many messages of one route are on their way at a time.
	maxWorkers = 20
	// stopGrace is how long a delivery under way may take to end when the
	// Runner is stopped: sessions, which are stopped after it, need time too.
	stopGrace = 3 * time.Second
)

// retryAfter is how long a message waits after so many tries.
func (r *Runner) retryAfter(tries int) time.Duration { return r.backoff.After(tries, rand.Float64()) }

// Runner delivers what is in the spool: one try after the other for each
// message, fairly among the identities and relays, until a relay has it for
// each recipient or somebody was told that none will.
//
// A message leaves the spool only then, or when a person drops it.
type Runner struct {
	spool    *spool.Spool
	events   EventLog
	warden   *Warden
	backoff  queue.Backoff
	log      *zap.Logger
	settings atomic.Pointer[Settings]
	queue    *queue.Queue
	calendar *calendar
	wake     chan struct{}

	stopping context.Context // ends when nothing more shall be begun
	stop     context.CancelFunc
	working  context.Context // ends when deliveries under way are cut off
	cut      context.CancelFunc
	running  sync.WaitGroup // the goroutines of run, load, sweep and tries
	ordering sync.RWMutex   // persons order about what is held, or the calendar does
	ending   sync.RWMutex   // Stop begins while nobody begins anything else
	loading  sync.Mutex     // one scan of the spool at a time
	hastened sync.Map       // ids of messages that a person wants tried again after the try under way
	// unsettled has, by id, a settlement that could not be written yet.
	unsettled sync.Map

	lastDigest time.Time // of the goroutine that sweeps
}

// RunnerOptions are what a Runner is made of.
type RunnerOptions struct {
	Spool   *spool.Spool
	Events  EventLog
	Warden  *Warden       // says who is suspended, and hears what relays say; may be nil
	Backoff queue.Backoff // between two tries of a message; zero is DefaultBackoff
	Logger  *zap.Logger
}

// NewRunner makes a runner, which does nothing before Apply.
func NewRunner(o RunnerOptions) *Runner {
	if o.Backoff == (queue.Backoff{}) {
		o.Backoff = DefaultBackoff()
	}
	r := &Runner{spool: o.Spool, events: o.Events, warden: o.Warden, backoff: o.Backoff, log: o.Logger.Named("queue"), wake: make(chan struct{}, 1)}
	r.queue, r.calendar = queue.New(r.workers), newCalendar(time.Now(), r.log)
	r.stopping, r.stop = context.WithCancel(context.Background())
	r.working, r.cut = context.WithCancel(context.Background())
	r.warden.oversee(nil, r)
	return r
}

// workers is how many messages may be on their way by a route.
func (r *Runner) workers(route string) int {
	settings := r.settings.Load()
	if settings == nil {
		return 0
	}
	n := 0
	for _, pool := range settings.Relays.route(route) {
		n = max(n, pool.Cap())
	}
	return min(n, maxWorkers)
}

// Apply puts new settings in force. The first ones begin the work. Each time the
// spool is read in the background: messages may take another route now, and those
// that were held for want of a relay, or by the policy of before, may go.
func (r *Runner) Apply(settings *Settings) {
	if r.settings.Swap(settings) == nil {
		r.running.Go(r.run)
		r.running.Go(r.sweepRegularly)
	}
	for _, route := range r.queue.Stats() {
		r.queue.Resume(route.Route)
	}
	r.reload()
}

// reload looks through the spool in the background for what may go by now.
func (r *Runner) reload() {
	r.inBackground(r.load)
}

// inBackground does something that Stop waits for, unless it was called already.
func (r *Runner) inBackground(do func()) {
	r.ending.RLock()
	defer r.ending.RUnlock()
	if r.stopping.Err() == nil {
		r.running.Go(func() {
			defer r.survive("")
			do()
		})
	}
}

// holdSuspended puts the messages of a suspended sender into hold, in the
// background. One that is on its way at this moment is looked at before its next
// try.
func (r *Runner) holdSuspended(key string) {
	r.inBackground(func() {
		for item, err := range r.spool.All(spool.Deferred) {
			if r.stopping.Err() != nil {
				return
			}
			if err != nil || !slices.Contains(KeysOf(item.Identity).Suspendable, key) {
				continue
			}
			if claimed, ok := r.queue.Claim(item.ID); ok {
				r.look(claimed, holdIfSuspended)
			}
		}
	})
}

// holdIfSuspended does it with one message; true if that goes back into the queue.
func holdIfSuspended(a *attempt) (again bool) {
	if !a.suspended() {
		return true
	}
	a.decision = policy.Decision{Result: policy.Hold, Reason: textSuspended}
	return a.hold(spool.HoldSuspended, textSuspended)
}

// look opens a message that was claimed from the queue, for something else than a
// try, and ends the claim; do says whether the message goes back.
func (r *Runner) look(claimed queue.Item, do func(*attempt) (again bool)) {
	a := newAttempt(r, claimed)
	again := true
	defer func() { r.done(a.next, again) }()
	if ready, _ := a.settleFirst(); !ready {
		return
	}
	message, err := r.spool.Read(claimed.ID)
	if err != nil {
		again = a.unreadable(err)
		return
	}
	defer func() { _ = message.Close() }()
	a.open(message)
	again = do(a)
}

// load puts the messages of the spool that wait into the queue.
func (r *Runner) load() {
	r.loading.Lock()
	defer r.loading.Unlock()
	for item, err := range r.spool.All(spool.Deferred, spool.Hold) {
		switch {
		case r.stopping.Err() != nil:
			return
		case err != nil:
			r.log.Error("message of the spool cannot be read", zap.String(logfields.Txn, item.ID), zap.Error(err))
			if item.ID != "" && !errors.Is(err, spool.ErrDamaged) { // it may be readable later
				r.queue.Add(queue.Item{ID: item.ID, Next: time.Now().Add(restTime)})
			}
		default:
			r.Add(item)
		}
	}
}

// waitsForSettings says that a held message may go now that settings changed.
func (r *Runner) waitsForSettings(item spool.Item) bool {
	settings := r.settings.Load()
	if settings == nil || settings.Relays.empty() {
		return false
	}
	switch item.Progress.Hold {
	case spool.HoldNoRelay, spool.HoldPolicy:
		return true
	case spool.HoldSuspended:
		_, still := r.warden.suspension(KeysOf(item.Identity), time.Now())
		return !still
	}
	return false
}

// Add hands over a message that the spool has taken. What is held is left to the
// settings that will let it go.
func (r *Runner) Add(item spool.Item) {
	if item.State == spool.Hold && !r.waitsForSettings(item) {
		return
	}
	var next time.Time // at once
	now := time.Now()
	// What lies further ahead was written by a clock that was wrong.
	if wait := item.Progress.Next.Sub(now); wait > 0 && wait <= 2*r.backoff.Max {
		next = now.Add(wait) // by the monotonic clock, which does not jump
	}
	r.queue.Add(queue.Item{
		ID: item.ID, Identity: item.Identity.Key(), Route: r.route(item), Next: next, Attempts: item.Progress.Attempts,
	})
	r.signal()
}

// route is the relay that policy names for a message. Policy is asked again at
// each try; this is for the queue, where one relay must not hold up another.
func (r *Runner) route(item spool.Item) string {
	settings := r.settings.Load()
	if settings == nil {
		return ""
	}
	return settings.judgeSender(item).Relay
}

func (r *Runner) signal() {
	select {
	case r.wake <- struct{}{}:
	default: // a wake-up is waiting already
	}
}

// Stop waits for the deliveries under way, a few seconds and no longer than
// ctx, and then cuts them off: their messages stay.
func (r *Runner) Stop(ctx context.Context) error {
	r.ending.Lock()
	r.stop()
	r.ending.Unlock()
	defer r.cut()
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	context.AfterFunc(ctx, r.cut)
	r.running.Wait()
	r.settleAll()
	return nil
}

// run gives each message that is due a goroutine of its own, as many as there
// are workers.
func (r *Runner) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for r.stopping.Err() == nil {
		now := time.Now()
		if item, ok := r.queue.Take(now); ok {
			r.running.Go(func() { r.try(item) })
			continue
		}
		if next, ok := r.queue.Next(now); ok {
			timer.Reset(max(time.Until(next), 0))
		} else {
			timer.Reset(time.Hour)
		}
		select {
		case <-r.stopping.Done():
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// try makes one try to deliver a message, and puts it back into the queue if it
// stays. A panic is a programmer's error: the message is left alone until the
// next start.
func (r *Runner) try(item queue.Item) {
	again := false
	defer func() { r.done(item, again) }()
	defer r.survive(item.ID)
	a := newAttempt(r, item)
	again = a.run()
	if item = a.next; a.settings != r.settings.Load() && a.message != nil {
		item.Route = r.route(a.item) // the old one may lead nowhere by now
	}
}

// done ends what Take or Claim began; again puts the message back, at once if a
// person has asked for that meanwhile.
func (r *Runner) done(item queue.Item, again bool) {
	r.queue.Done(item.ID)
	if _, hastened := r.hastened.LoadAndDelete(item.ID); hastened {
		item.Next = time.Time{}
	}
	if again {
		r.queue.Add(item)
	}
	r.signal()
}

// survive ends a panic, which is a programmer's error, in what was done with a
// message or, where id is empty, with all of them.
func (r *Runner) survive(id string) {
	if failure := recover(); failure != nil {
		r.log.Error("delivery panicked", zap.String(logfields.Txn, id),
			zap.String("panic", fmt.Sprint(failure)), zap.ByteString("stack", debug.Stack()))
	}
}

// sweepRegularly looks at what waits without being tried.
func (r *Runner) sweepRegularly() {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		r.sweepOnce()
		select {
		case <-r.stopping.Done():
			return
		case <-ticker.C:
		}
	}
}

func (r *Runner) sweepOnce() {
	defer r.survive("")
	r.sweep(time.Now())
}

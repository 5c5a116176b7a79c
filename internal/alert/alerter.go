package alert

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Options are what New needs.
type Options struct {
	Host    string // who tells: stands in each alert
	Targets []Target
	Logger  *zap.Logger
}

// Alerter tells all targets.
type Alerter struct {
	host   string
	logger *zap.Logger
	turn   chan struct{}  // of programs
	abort  chan struct{}  // closed when deliveries are to be cut off
	group  sync.WaitGroup // of lanes' goroutines

	mu     sync.RWMutex
	lanes  []*lane
	closed bool
}

// New starts a goroutine for each target. Close ends them.
func New(options Options) *Alerter {
	logger := options.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	a := &Alerter{host: options.Host, logger: logger, turn: make(chan struct{}, 1), abort: make(chan struct{})}
	a.Apply(options.Targets)
	return a
}

// Raise tells of an event: now, or with others of its like in a while. It never
// waits for a delivery. After Close it does nothing.
//
// Of each kind and identity the first event is one alert at once; those of the
// ten minutes after it are one alert at their end, with a count, and so on. More
// than 20 alerts within ten minutes become one of the kind Storm, with counts
// and the first identities by kind. Of events "blocked", "limit" and "login" there
// may be so many, and of all others: a flood of the former hides none of the latter.
func (a *Alerter) Raise(event Event) {
	now := time.Now()
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, lane := range a.lanes {
		lane.raise(now, event)
	}
}

// Apply changes the targets. One that stays (the same program or URL, and the
// same events) goes on with what it has to deliver, also with another secret;
// one that goes gets what waits for it, with one try each.
func (a *Alerter) Apply(targets []Target) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	before := map[string]*lane{}
	for _, lane := range a.lanes {
		before[lane.target.id()] = lane
	}
	lanes := make([]*lane, 0, len(targets))
	applied := map[string]bool{}
	for _, target := range targets {
		id := target.id()
		if applied[id] {
			continue
		}
		applied[id] = true
		lanes = append(lanes, a.lane(before[id], target))
		delete(before, id)
	}
	a.lanes = lanes
	for _, gone := range before {
		gone.finish()
	}
}

// lane changes the one that there is, or starts one.
func (a *Alerter) lane(known *lane, target Target) *lane {
	if known != nil {
		known.change(target, a.sender(target))
		return known
	}
	return a.start(target, a.sender(target))
}

func (a *Alerter) start(target Target, sender sender) *lane {
	started := &lane{
		name: target.name(), host: a.host, logger: a.logger, target: target, sender: sender,
		ranks: newRanks(), wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	a.group.Go(func() { started.run(a.abort) })
	return started
}

func (a *Alerter) sender(target Target) sender {
	if len(target.Exec) > 0 {
		return newCommand(target, a.turn)
	}
	return newWebhook(target)
}

// Condition is "" while alerts reach their targets, else which do not, since
// when and why.
func (a *Alerter) Condition() string {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var wrong []string
	for _, lane := range a.lanes {
		if condition := lane.condition(); condition != "" {
			wrong = append(wrong, condition)
		}
	}
	return strings.Join(wrong, "; ")
}

// Close delivers what there is, counts included, each alert with one try more
// at most. When the context ends, what is left is dropped, and that is the
// error. It is called once.
func (a *Alerter) Close(ctx context.Context) error {
	a.mu.Lock()
	lanes := a.lanes
	a.lanes, a.closed = nil, true
	a.mu.Unlock()
	for _, lane := range lanes {
		lane.finish()
	}
	done := make(chan struct{})
	go func() { // ends with the lanes: soon after the deliveries are cut off
		a.group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	close(a.abort)
	<-done
	return fmt.Errorf("delivering the last alerts: %w", ctx.Err())
}

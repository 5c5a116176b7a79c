package guard

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/smtpwall/smtpwall/rules/nft"
)

const (
	// pollInterval is how often the kernel's counters are read when the log is
	// silent.
	pollInterval = time.Second
	// minPause is kept between two readings, or more if they take long: a flood
	// to tens of thousands of destinations makes big sets, which take 20 µs an
	// element and more.
	minPause   = 20 * time.Millisecond
	maxPause   = 10 * time.Second
	pauseShare = 20 // pause at least so many times as long as a reading took
	// logDelay is how much later than the counters the log may tell of an
	// attempt: 10 ms, and what a busy host adds.
	logDelay = 60 * time.Millisecond
	// maxAwaited is how many attempts at once make a flood, of which the log does
	// not tell each.
	maxAwaited = 16
)

// collector makes events of attempts. The kernel's counters say how many there
// were, by whom and to where; the log says only that it is time to read them,
// and adds details.
type collector struct {
	guard *Guard
	who   *attributor   // nil until open
	wake  chan struct{} // the log has told of attempts: to run
	noted chan struct{} // the same, to tell
	seen  recentAttempts

	log   attemptLog    // until readLog takes it
	total atomic.Uint64 // attempts told since the start
	lost  atomic.Uint64 // packets whose details were lost

	mu     sync.Mutex
	counts attemptCounts // nil until opened
	agg    *aggregator
	begun  time.Time     // the last reading that did not fail
	cost   time.Duration // of the last reading
	loud   loudness
}

func newCollector(g *Guard) *collector {
	return &collector{
		guard: g,
		wake:  make(chan struct{}, 1),
		noted: make(chan struct{}, 1),
		agg:   newAggregator(),
	}
}

// open begins to count. It may fail: run tries again.
func (c *collector) open(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.who == nil {
		c.who = newAttributor(c.guard.log)
	}
	if err := c.openCounts(ctx); err != nil {
		c.guard.log.Warn("attempts are not counted yet", zap.Error(err))
	}
	sockets, err := c.guard.kernel.sockets(c.who.processes())
	if err != nil {
		c.guard.log.Warn("processes will be guessed only", zap.Error(err))
		return
	}
	c.who.sockets = sockets
}

// openLog opens the log before somebody waits for what it says. If that fails,
// readLog tries again.
func (c *collector) openLog() {
	log, err := c.guard.kernel.log()
	if err != nil {
		c.guard.log.Warn("attempts have no details yet", zap.Error(err))
		return
	}
	c.log = log
}

func (c *collector) openCounts(ctx context.Context) error {
	if c.counts != nil {
		return nil
	}
	counts, err := c.guard.kernel.counts(ctx)
	if err != nil {
		return err
	}
	c.counts = counts
	return nil
}

// run reads the counters until ctx is done: at once when the log has something,
// else each second.
func (c *collector) run(ctx context.Context) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		if err := c.collect(ctx); err != nil {
			return err
		}
		c.guard.conditions.set("attempts", nil)
		if !sleep(ctx, c.pause()) {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake:
		case <-poll.C:
		}
	}
}

func (c *collector) pause() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(max(minPause, pauseShare*c.cost), maxPause)
}

// collect reads the counters once and tells what is due.
func (c *collector) collect(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.openCounts(ctx); err != nil {
		return err
	}
	begun := time.Now()
	counts, err := c.counts.Read(ctx)
	c.cost = time.Since(begun)
	if err != nil {
		return err // what it has read, the next reading returns
	}
	counts = c.seen.complete(counts, c.agg.open, c.begun)
	c.begun = begun
	c.tell(ctx, c.agg.add(time.Now(), counts))
	return nil
}

// close tells what is still gathered.
func (c *collector) close(ctx context.Context) {
	for range 2 { // the first time, what is in no set is not yet sure
		if err := c.collect(ctx); err != nil {
			c.guard.log.Warn("the last attempts were not read", zap.Error(err))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(ctx, c.agg.drain(time.Now()))
	if c.counts != nil {
		c.counts.Close()
		c.counts = nil
	}
	if c.log != nil {
		c.log.Close() // ended before readLog began
	}
	c.who.close()
}

// tell makes the events.
func (c *collector) tell(ctx context.Context, reports []report) {
	details := c.awaitDetails(ctx, reports)
	o := c.guard.options()
	for i, r := range reports {
		c.total.Add(r.count)
		e := c.who.event(r, details[i], o)
		if r.first {
			c.guard.announce(e)
		} else {
			c.guard.write(e)
		}
		c.guard.log.Log(c.loud.level(time.Now(), r.first), "attempt", eventFields(e)...)
	}
}

// loudness keeps attempts from filling the program log: the audit log has them
// all.
type loudness struct {
	until time.Time // of the window
	told  int       // within it
}

// maxLoud is how many attempts of a window the program log has at level info.
const maxLoud = 20

// level is info for the first attempt of a kind, as long as there are few.
func (l *loudness) level(now time.Time, first bool) zapcore.Level {
	if !now.Before(l.until) {
		*l = loudness{until: now.Add(window)}
	}
	if !first || l.told >= maxLoud {
		return zap.DebugLevel
	}
	l.told++
	return zap.InfoLevel
}

// awaitDetails returns what the log says of first attempts. The counters may
// have been faster.
func (c *collector) awaitDetails(ctx context.Context, reports []report) []nft.Attempt {
	details := make([]nft.Attempt, len(reports))
	timeout := time.NewTimer(logDelay)
	defer timeout.Stop()
	for {
		missing := c.findDetails(reports, details)
		if missing == 0 || missing > maxAwaited {
			return details
		}
		select {
		case <-c.noted:
		case <-timeout.C:
			return details
		case <-ctx.Done():
			return details
		}
	}
}

// findDetails fills in what the log has said, and returns how many are missing.
func (c *collector) findDetails(reports []report, details []nft.Attempt) (missing int) {
	for i, r := range reports {
		if !r.first || !r.known || !r.destination.IsValid() || !details[i].Time.IsZero() {
			continue
		}
		if details[i] = c.seen.take(r.kindOfAttempt); details[i].Time.IsZero() {
			missing++
		}
	}
	return missing
}

// readLog reads details of attempts, and wakes run.
func (c *collector) readLog(ctx context.Context) error {
	log := c.log
	c.log = nil
	if log == nil {
		var err error
		if log, err = c.guard.kernel.log(); err != nil {
			return err
		}
	}
	defer log.Close()
	c.guard.conditions.set("log", nil)
	before := c.lost.Load()
	for {
		attempts, err := log.Read(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		c.lost.Store(before + log.Lost())
		for _, a := range attempts {
			c.seen.note(a)
		}
		for _, waiting := range []chan struct{}{c.wake, c.noted} {
			select {
			case waiting <- struct{}{}:
			default: // the last one has not been taken yet
			}
		}
	}
}

// sleep waits, and returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

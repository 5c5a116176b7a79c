package spool

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"go.uber.org/zap"
)

// When a directory that nobody waits for is synced.
const (
	syncSoon  = 50 * time.Millisecond
	syncAgain = time.Second // after one that failed
)

// group lets all who need a directory synced share the syncs. Whoever comes
// while one is under way waits for the next, since that one may have begun before
// his change.
type group struct {
	sync func() error
	log  *zap.Logger
	soon time.Duration // tests only: negative is never

	mu      sync.Mutex
	next    *round // whom the next sync is for; nil is nobody
	running bool   // the goroutine is there
	closed  bool
	timer   *time.Timer // starts a sync that nobody waits for
	changed uint64      // changes made so far
	synced  uint64      // those that are durable
	failing bool        // the last sync has failed
	failed  uint64      // syncs that have

	all sync.WaitGroup // the goroutine
}

// round is one sync and those who wait for it.
type round struct {
	done chan struct{}
	err  error // once done is closed
}

func newGroup(sync func() error, log *zap.Logger) *group {
	return &group{sync: sync, log: log, soon: syncSoon}
}

// change says that something was done to the directory.
func (g *group) change() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed++
}

// changeSoon is change, for what is to be synced though nobody waits for it.
func (g *group) changeSoon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed++
	g.schedule(g.soon)
}

// mark is how much was done to the directory, and how many syncs had failed.
type mark struct{ changed, failures uint64 }

// mark is what was done by now.
func (g *group) mark() mark {
	g.mu.Lock()
	defer g.mu.Unlock()
	return mark{g.changed, g.failed}
}

// durable is what is durable by now.
func (g *group) durable() mark {
	g.mu.Lock()
	defer g.mu.Unlock()
	return mark{g.synced, g.failed}
}

// schedule makes sure that a sync will begin. The caller holds the lock.
func (g *group) schedule(after time.Duration) {
	if g.timer != nil || g.closed || g.soon < 0 {
		return
	}
	g.timer = time.AfterFunc(after, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.timer = nil
		if g.synced < g.changed && !g.closed {
			g.join()
		}
	})
}

// wait returns nil when all changes before the call are durable.
func (g *group) wait(ctx context.Context) error {
	r, err := g.enter()
	if r == nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter returns the round that a caller of wait needs, if he needs one.
func (g *group) enter() (*round, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.synced == g.changed && !g.failing {
		return nil, nil
	}
	if g.closed {
		return nil, fmt.Errorf("syncing the spool: %w", fs.ErrClosed)
	}
	return g.join(), nil
}

// healthy returns nil if the last sync has worked, or another try does.
func (g *group) healthy() error {
	g.mu.Lock()
	failing := g.failing
	g.mu.Unlock()
	if !failing {
		return nil
	}
	return g.wait(context.Background())
}

// join returns the next round, which will begin by itself. The caller holds the
// lock.
func (g *group) join() *round {
	if g.next == nil {
		g.next = &round{done: make(chan struct{})}
	}
	if !g.running {
		g.running = true
		g.all.Go(g.run) // close waits for it
	}
	return g.next
}

// run makes rounds until nobody wants another.
func (g *group) run() {
	for {
		g.mu.Lock()
		r, upTo := g.next, g.changed
		g.next = nil
		if g.running = r != nil; !g.running {
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		r.err = g.sync()
		g.note(upTo, r.err)
		close(r.done)
	}
}

// note keeps what a sync came to.
func (g *group) note(upTo uint64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil {
		g.synced = upTo
	} else {
		g.failed++
	}
	if failing := err != nil; failing != g.failing {
		g.failing = failing
		if failing {
			g.log.Error("spool directory cannot be synced, no message is taken", zap.Error(err))
		} else {
			g.log.Info("spool directory can be synced again")
		}
	}
	if err != nil {
		g.schedule(syncAgain)
	}
}

// close makes a last sync if one is needed, and waits for it. Its failure was
// logged, and nobody was promised anything that needs it.
func (g *group) close() {
	if err := g.wait(context.Background()); err != nil {
		g.log.Warn("spool directory not synced at the end", zap.Error(err))
	}
	g.mu.Lock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
	g.all.Wait()
}

package spool

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// slowDisk is a directory whose sync takes a second of a test's time.
type slowDisk struct {
	mu       sync.Mutex
	made     int // changes
	durable  int // those that a sync covered
	syncs    int
	fail     error
	duration time.Duration
}

func (d *slowDisk) sync() error {
	d.mu.Lock()
	covered, err := d.made, d.fail // what comes while it runs is not covered
	d.syncs++
	d.mu.Unlock()
	time.Sleep(d.duration)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.durable = covered
	}
	return err
}

// change makes a change and returns its number.
func (d *slowDisk) change(g *group) int {
	d.mu.Lock()
	d.made++
	n := d.made
	d.mu.Unlock()
	g.change()
	return n
}

// changeSoon makes a change that nobody waits for.
func (d *slowDisk) changeSoon(g *group) {
	d.mu.Lock()
	d.made++
	d.mu.Unlock()
	g.changeSoon()
}

// TestGroupCommit: a hundred who come at different times need few syncs, and each
// is told nil only once a sync that began after his change has ended.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &slowDisk{duration: time.Second}
		g := newGroup(disk.sync, zap.NewNop())
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 30 * time.Millisecond)
				n := disk.change(g)
				if err := g.wait(t.Context()); err != nil {
					t.Error(err)
				}
				disk.mu.Lock()
				defer disk.mu.Unlock()
				if disk.durable < n {
					t.Errorf("change %d is not durable", n)
				}
			})
		}
		all.Wait()
		if disk.syncs > 6 {
			t.Errorf("%d syncs within four seconds", disk.syncs)
		}
		syncs := disk.syncs
		if err := g.wait(t.Context()); err != nil || disk.syncs != syncs {
			t.Errorf("nothing to do: %d more syncs, %v", disk.syncs-syncs, err)
		}
		g.close()
	})
}

// TestGroupFails: nobody who shares a failed sync is told nil, and everybody
// hears of it until a sync has worked.
func TestGroupFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		disk := &slowDisk{duration: time.Second, fail: errors.New("the disk is gone")}
		g := newGroup(disk.sync, zap.New(core))
		defer g.close()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				disk.change(g)
				if err := g.wait(t.Context()); !errors.Is(err, disk.fail) {
					t.Errorf("got %v", err)
				}
			})
		}
		all.Wait()
		if err := g.healthy(); !errors.Is(err, disk.fail) {
			t.Errorf("healthy: %v", err)
		}
		if err := g.wait(t.Context()); !errors.Is(err, disk.fail) {
			t.Errorf("wait: %v", err)
		}
		if n := logs.FilterMessage("spool directory cannot be synced, no message is taken").Len(); n != 1 {
			t.Errorf("logged %d times", n)
		}
		disk.mu.Lock()
		disk.fail = nil
		disk.mu.Unlock()
		if err := g.healthy(); err != nil {
			t.Errorf("still not healthy: %v", err)
		}
		disk.mu.Lock()
		defer disk.mu.Unlock()
		if disk.durable != disk.made || logs.FilterMessage("spool directory can be synced again").Len() != 1 {
			t.Errorf("%d of %d durable, %v", disk.durable, disk.made, logs.All())
		}
	})
}

// TestGroupSoon: what nobody waits for is synced soon, and again if that fails.
func TestGroupSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &slowDisk{fail: errors.New("not now")}
		g := newGroup(disk.sync, zap.NewNop())
		check := func(after time.Duration, syncs, durable int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			disk.mu.Lock()
			defer disk.mu.Unlock()
			if disk.syncs != syncs || disk.durable != durable {
				t.Errorf("%d syncs, %d durable, want %d and %d", disk.syncs, disk.durable, syncs, durable)
			}
			disk.fail = nil
		}
		for range 5 {
			disk.changeSoon(g)
		}
		check(syncSoon+time.Millisecond, 1, 0)
		check(syncAgain, 2, 5)
		check(time.Hour, 2, 5) // nothing to do
		disk.changeSoon(g)
		g.close()
		check(0, 3, 6)
		g.change()
		if err := g.wait(t.Context()); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestGroupContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &slowDisk{duration: time.Minute}
		g := newGroup(disk.sync, zap.NewNop())
		disk.change(g)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		g.close()
	})
}

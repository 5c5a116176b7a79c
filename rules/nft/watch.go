package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

const (
	// compareEvery is how often the tables are compared without an event.
	compareEvery = 5 * time.Second
	// retryAfter is when a failed repair is tried again.
	retryAfter = 200 * time.Millisecond
)

// Change is a change of our tables that we did not make.
type Change struct {
	Time time.Time
	// PID and Process are the process that made it, as the kernel told with the
	// change; 0 and empty if the periodic comparison found it.
	PID     int
	Process string
	// Drifts is what differed. It is empty if the change left no difference, or
	// was undone together with an earlier one.
	Drifts []rules.Drift
	// Err is why the rules could not be put back; nil if they were. It is tried
	// again until it works.
	Err error
}

// Watch puts the rules last applied back whenever somebody changes them, and
// reports each change, on the calling goroutine, until ctx is done. It hears of
// changes from the kernel and also compares every few seconds. Only one Watch
// may run on a Conn. The error is never nil.
func (c *Conn) Watch(ctx context.Context, report func(Change)) error {
	if err := c.events.join(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watching nftables: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { c.events.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	w := watcher{conn: c, report: report}
	next := time.Now() // what happened before we listened
	for {
		c.events.file.SetReadDeadline(next)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		messages, err := c.events.receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ENOBUFS):
			w.changed = Change{}
			next = w.repair(ctx)
		case err != nil:
			return fmt.Errorf("watching nftables: %w", err)
		}
		for _, m := range messages {
			if w.take(m) {
				next = w.repair(ctx)
			}
		}
	}
}

// watcher follows the transactions of others.
type watcher struct {
	conn    *Conn
	report  func(Change)
	touched bool // the transaction being read changes a table of ours
	changed Change
}

// take reads one event. It returns true at the end of a transaction that
// touched a table of ours and was not made by us.
func (w *watcher) take(m netlink.Message) bool {
	a := messageAttrs(m)
	if kind(m) != unix.NFT_MSG_NEWGEN {
		// In all other messages the first attribute is the table's name.
		name := a.text(1)
		w.touched = w.touched || name == rules.Table || name == rules.LockTable
		return false
	}
	touched := w.touched
	w.touched = false
	w.changed = Change{PID: int(a.number(unix.NFTA_GEN_PROC_PID)), Process: a.text(unix.NFTA_GEN_PROC_NAME)}
	return touched && m.Header.PID != w.conn.sock.port
}

// repair puts the rules back and returns when to look again.
func (w *watcher) repair(ctx context.Context) time.Time {
	change := w.changed
	change.Time = time.Now()
	change.Drifts, change.Err = w.conn.restore(ctx)
	event := change.PID != 0
	if ctx.Err() == nil && (event || len(change.Drifts) > 0 || change.Err != nil) {
		w.conn.logger.Debug("tables changed", zap.Int("pid", change.PID), zap.String("process", change.Process),
			zap.Int("drifts", len(change.Drifts)), zap.Duration("took", time.Since(change.Time)), zap.Error(change.Err))
		w.report(change)
	}
	if change.Err != nil {
		return time.Now().Add(retryAfter)
	}
	return time.Now().Add(compareEvery)
}

// restore makes the kernel equal to the rules last applied and returns how it
// differed.
func (c *Conn) restore(ctx context.Context) ([]rules.Drift, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var drifts []rules.Drift
	err := c.transact(ctx, func(r reader) ([]netlink.Message, error) {
		b, err := newBatch()
		if err != nil {
			return nil, err
		}
		drifts = nil
		for _, w := range c.want {
			have, err := r.table(w)
			if err != nil {
				return nil, err
			}
			found := rules.Diff(have.Ruleset, w)
			drifts = append(drifts, found...)
			if len(found) == 0 {
				continue
			}
			if err := c.mayChange(have); err != nil {
				return nil, err
			}
			if err := b.replace(have, w); err != nil {
				return nil, err
			}
		}
		return b.messages, nil
	})
	if err != nil {
		return drifts, fmt.Errorf("putting the rules back: %w", err)
	}
	return drifts, nil
}

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
	// was undone together with a later one.
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
	w := watcher{conn: c, report: report, next: time.Now()} // what happened before we listened
	for {
		c.events.file.SetReadDeadline(w.next)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		messages, err := c.events.receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ENOBUFS):
			if !w.restore(ctx) {
				w.flush() // no event will come for what may still be pending
			}
		case err != nil:
			return fmt.Errorf("watching nftables: %w", err)
		}
		for _, m := range messages {
			w.take(ctx, m)
		}
	}
}

// watcher follows the transactions of others and repairs what they did.
//
// A difference may be the work of any transaction up to the generation at which
// it was read, and the event of that transaction may still be on its way. So
// repairs are made at once, and reported when the events have caught up.
type watcher struct {
	conn    *Conn
	report  func(Change)
	next    time.Time // when to compare without an event
	touched bool      // the transaction being read changes a table of ours
	read    uint32    // generation at which the tables were last read
	pending []Change  // transactions not yet reported
	drifts  []rules.Drift
}

// take reads one event; at the end of a transaction it acts.
func (w *watcher) take(ctx context.Context, m netlink.Message) {
	a := messageAttrs(m)
	if kind(m) != unix.NFT_MSG_NEWGEN {
		// In all other messages the first attribute is the table's name.
		name := a.text(1)
		w.touched = w.touched || name == rules.Table || name == rules.LockTable
		return
	}
	generation := a.number(unix.NFTA_GEN_ID)
	foreign := w.touched && m.Header.PID != w.conn.sock.port
	w.touched = false
	if foreign {
		w.pending = append(w.pending, Change{
			Time:    time.Now(),
			PID:     int(a.number(unix.NFTA_GEN_PROC_PID)),
			Process: a.text(unix.NFTA_GEN_PROC_NAME),
		})
		if !reached(w.read, generation) {
			w.restore(ctx)
		}
	}
	if reached(generation, w.read) {
		w.flush()
	}
}

// reached compares generations, which may wrap around.
func reached(generation, other uint32) bool { return int32(generation-other) >= 0 }

// restore puts the rules back and says whether it had to. Its own transaction
// makes an event then, which flushes the report.
func (w *watcher) restore(ctx context.Context) (acted bool) {
	drifts, generation, err := w.conn.restore(ctx)
	w.drifts = append(w.drifts, drifts...)
	w.read = generation
	w.next = time.Now().Add(compareEvery)
	if err == nil || ctx.Err() != nil {
		return len(drifts) > 0
	}
	if len(w.pending) == 0 {
		w.pending = []Change{{Time: time.Now()}}
	}
	w.pending[len(w.pending)-1].Err = err
	w.next = time.Now().Add(retryAfter)
	w.flush()
	return false
}

// flush reports the transactions that have been seen. What differed is the work
// of the last of them, as far as anybody can tell.
func (w *watcher) flush() {
	if len(w.drifts) > 0 && len(w.pending) == 0 {
		w.pending = []Change{{Time: time.Now()}}
	}
	for i, change := range w.pending {
		if i == len(w.pending)-1 {
			change.Drifts = w.drifts
		}
		w.conn.logger.Debug("tables changed", zap.Int("pid", change.PID), zap.String("process", change.Process),
			zap.Int("drifts", len(change.Drifts)), zap.Error(change.Err))
		w.report(change)
	}
	w.pending, w.drifts = nil, nil
}

// restore makes the kernel equal to the rules last applied and returns how it
// differed at which generation.
func (c *Conn) restore(ctx context.Context) (drifts []rules.Drift, generation uint32, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.transact(ctx, func(r reader) ([]netlink.Message, error) {
		b, err := newBatch()
		if err != nil {
			return nil, err
		}
		drifts, generation = nil, r.at
		for _, w := range c.want {
			have, err := r.table(ctx, w)
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
		return drifts, generation, fmt.Errorf("putting the rules back: %w", err)
	}
	return drifts, generation, nil
}

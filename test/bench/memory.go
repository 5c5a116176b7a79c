package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/load"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// Targets of the memory scenario, in bytes.
const (
	idleLimit    = 25 * mebibyte
	sessionLimit = 35 * kibibyte
	busyLimit    = 64 * mebibyte
)

// settle is how long sessions rest before the memory is read. A peer that
// gives memory back late does so within this time, or is measured without.
const settle = 5 * time.Second

// footprint is one peer's memory in bytes.
type footprint struct {
	idle    int64 // resident, started and never used
	session int64 // a session at rest after STARTTLS and AUTH; PSS
	busy    int64 // the highest resident with 200 sessions of big messages
}

func runMemory(ctx context.Context, b *bench) error {
	table := tabwriter.NewWriter(b.report.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "peer\tidle MiB\tsession at rest KiB\t200 × 25 MiB, peak MiB\t")
	var subjectPrint footprint
	for _, name := range b.opts.peers {
		if name == "direct" {
			continue
		}
		p, err := b.start(ctx, name)
		if err != nil {
			return err
		}
		f, err := b.footprint(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == subject {
			subjectPrint = f
		}
		fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%.1f\t\n", name, float64(f.idle)/mebibyte, float64(f.session)/kibibyte, float64(f.busy)/mebibyte)
	}
	table.Flush()
	if subjectPrint.idle == 0 {
		return nil
	}
	for _, o := range []struct {
		figure     string
		got, limit int64
	}{
		{"idle", subjectPrint.idle, idleLimit},
		{"session at rest", subjectPrint.session, sessionLimit},
		{"200 sessions", subjectPrint.busy, busyLimit},
	} {
		b.report.add(outcome{b.scenario.name, o.figure, size(o.got), "< " + size(o.limit), o.got < o.limit})
	}
	return nil
}

func size(bytes int64) string {
	if bytes < mebibyte {
		return fmt.Sprintf("%.1f KiB", float64(bytes)/kibibyte)
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/mebibyte)
}

func (b *bench) footprint(ctx context.Context, p *peer.Running) (footprint, error) {
	var f footprint
	if err := rest(ctx, time.Second); err != nil {
		return f, err
	}
	fresh, err := p.Memory()
	if err != nil {
		return f, err
	}
	f.idle = fresh.RSS
	if f.session, err = b.atRest(ctx, p); err != nil {
		return f, err
	}
	if err := p.ResetPeak(); err != nil {
		return f, err
	}
	plan := load.Plan{Connections: 200, Sessions: 200, Messages: 1, Size: 25 * mebibyte}
	if b.opts.quick {
		plan.Size = mebibyte
	}
	if _, err := b.measure(ctx, p, plan, rate{}); err != nil {
		return f, err
	}
	busy, err := p.Memory()
	f.busy = busy.Peak
	return f, err
}

// atRest opens sessions, lets them rest, and divides what they cost. A few are
// opened and closed before, so that what the first ones cost for ever does not
// count.
func (b *bench) atRest(ctx context.Context, p *peer.Running) (int64, error) {
	count := 400
	if p.Name == "postfix-relay" || p.Name == "postfix-proxy" {
		count = 80 // a process each
	}
	if b.opts.quick {
		count /= 4
	}
	before, err := b.withSessions(ctx, p, 1)
	if err != nil {
		return 0, err
	}
	after, err := b.withSessions(ctx, p, count+1)
	if err != nil {
		return 0, err
	}
	return (after.PSS - before.PSS) / int64(count), nil
}

// withSessions reads the memory while count sessions rest.
func (b *bench) withSessions(ctx context.Context, p *peer.Running, count int) (peer.Memory, error) {
	sessions, err := load.Open(ctx, b.target(p, rate{}), count)
	if err != nil {
		return peer.Memory{}, err
	}
	defer sessions.Close()
	if err := rest(ctx, settle); err != nil {
		return peer.Memory{}, err
	}
	return p.Memory()
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

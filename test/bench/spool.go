package main

import (
	"context"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/load"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// measureSpool fills a peer's spool while nothing is delivered, and then orders
// the delivery of everything. The sample is of the one or of the other.
func (b *bench) measureSpool(ctx context.Context, p *peer.Running, plan load.Plan, r rate) (sample, error) {
	target, err := b.hold(p, r)
	if err != nil {
		return sample{}, err
	}
	before, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	result, err := submit(ctx, target, plan)
	if err != nil {
		return sample{}, err
	}
	full, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	emptying, drain, err := b.drain(ctx, p, result)
	if err != nil {
		return sample{}, err
	}
	empty, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	if r.of == drained {
		return sampleOf(p, result, drain, emptying, empty), nil
	}
	return sampleOf(p, result, result.Elapsed, before, full), nil
}

// hold makes a peer keep what it is given, and returns where to give it.
func (b *bench) hold(p *peer.Running, r rate) (load.Target, error) {
	target := b.target(p, r)
	if p.Held != "" {
		target.Address = p.Held
		return target, nil
	}
	return target, b.relay.Down()
}

// drain lets the relay serve, orders the delivery and returns how long it took
// from there until the relay had the last message.
func (b *bench) drain(ctx context.Context, p *peer.Running, result load.Result) (meter, time.Duration, error) {
	if err := p.Free(ctx); err != nil {
		return meter{}, 0, err
	}
	begin, err := b.meter(p)
	if err != nil {
		return meter{}, 0, err
	}
	if p.Held == "" {
		if err := b.relay.Up(); err != nil {
			return meter{}, 0, err
		}
	}
	if err := p.Flush(ctx); err != nil {
		return meter{}, 0, err
	}
	last, err := b.verify(ctx, p, result)
	return begin, last.Sub(begin.at), err
}

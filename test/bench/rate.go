package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/load"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// drainTime bounds the wait for a peer that queues to bring everything to the
// relay, counted from the last message that arrived.
const drainTime = 20 * time.Second

// sample is what one run of one peer gave.
type sample struct {
	Peer     string
	Round    int
	Messages int
	Rate     float64       // messages a second
	Share    float64       // of the direct rate in the same round
	CPU      time.Duration // of the peer, for all messages
	Whole    time.Duration // of load generator, relay and peer, for all messages
	ByCPU    float64       // direct's Whole a message, divided by this peer's
	P50      time.Duration // MAIL to the final reply

	Disturbance float64 // the share of the machine that others had meanwhile
}

// whole is the processor time of both ends and the peer for one message.
func (s sample) whole() float64 { return float64(s.Whole) / float64(max(1, s.Messages)) }

// run starts all peers and measures them in interleaved rounds, so that a
// machine that slows down does so for all.
func (r rate) run(ctx context.Context, b *bench) error {
	plan := r.plan
	if b.opts.quick && r.quick.Time > 0 {
		plan.Time = r.quick.Time
	}
	if b.opts.window > 0 {
		plan.Time = b.opts.window
	}
	peers, err := b.startPeers(ctx, plan, r.plain)
	if err != nil {
		return err
	}
	var samples []sample
	for round := range b.opts.rounds {
		var direct sample
		for _, p := range peers {
			s, err := b.calm(ctx, func() (sample, error) { return b.measure(ctx, p, plan, r.plain) })
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", p.Name, round+1, err)
			}
			if p.Name == "direct" {
				direct = s
			}
			s.Round, s.Share, s.ByCPU = round+1, s.Rate/direct.Rate, direct.whole()/s.whole()
			samples = append(samples, s)
		}
	}
	b.report.rates(b.scenario, peers, samples, r.goals)
	return nil
}

// startPeers starts the chosen peers and sends a few messages through each: the
// first password check and the first relay connection are not what a rate is.
func (b *bench) startPeers(ctx context.Context, plan load.Plan, plain bool) ([]*peer.Running, error) {
	var peers []*peer.Running
	for _, name := range b.opts.peers {
		p, err := b.start(ctx, name)
		if err != nil {
			return nil, err
		}
		warm := load.Plan{Connections: min(4, plan.Connections), Sessions: 8, Messages: 1, Size: 4 * kibibyte}
		if _, err := b.measure(ctx, p, warm, plain); err != nil {
			return nil, fmt.Errorf("first messages through %s: %w", name, err)
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// measure runs the load generator against one peer and compares every message.
func (b *bench) measure(ctx context.Context, p *peer.Running, plan load.Plan, plain bool) (sample, error) {
	b.runs++
	plan.Run = fmt.Sprintf("r%d", b.runs)
	runtime.GC()
	before, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	result := load.Run(ctx, b.target(p, plain), plan)
	if err := errors.Join(ctx.Err(), result.Err); err != nil {
		return sample{}, fmt.Errorf("%d sessions failed, the first: %w", result.Failed, err)
	}
	elapsed, err := b.verify(ctx, p, result)
	if err != nil {
		return sample{}, err
	}
	after, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	return sample{
		Peer: p.Name, Messages: len(result.Sent), Rate: float64(len(result.Sent)) / elapsed.Seconds(),
		CPU: after.peer - before.peer, Whole: after.ours - before.ours, P50: result.Median(), Disturbance: disturbance(before, after),
	}, nil
}

// verify compares what was sent with what arrived, and returns how long it took
// until the relay had it all.
func (b *bench) verify(ctx context.Context, p *peer.Running, result load.Result) (time.Duration, error) {
	harvest, err := b.relay.Take()
	if err != nil {
		return 0, err
	}
	received, last := harvest.Received, harvest.Last
	heard := time.Now()
	for p.Queues && len(received) < len(result.Sent) && time.Since(heard) < drainTime {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if harvest, err = b.relay.Take(); err != nil {
			return 0, err
		}
		if len(harvest.Received) > 0 {
			heard, last = time.Now(), harvest.Last
			received = append(received, harvest.Received...)
		}
	}
	if err := load.Compare(result.Sent, received).Err(); err != nil {
		return 0, err
	}
	if p.Queues {
		return max(result.Elapsed, last.Sub(result.Begin)), nil
	}
	return result.Elapsed, nil
}

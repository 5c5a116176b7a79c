package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
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

// run measures one rate of the peers that were chosen, as shares of the direct
// one.
func (r rate) run(ctx context.Context, b *bench) error {
	return series{base: "direct", peers: b.opts.peers, rates: []rate{r}}.run(ctx, b)
}

// series is several rates of the same peers, which are started once.
type series struct {
	base  string // the peer whose rates shares are shares of
	peers []string
	rates []rate
}

func (s series) run(ctx context.Context, b *bench) error {
	peers, err := b.startPeers(ctx, s.peers, s.rates[0])
	if err != nil {
		return err
	}
	for _, r := range s.rates {
		samples, err := b.rounds(ctx, peers, s.base, r)
		if err != nil {
			return fmt.Errorf("%s%w", r.prefix(), err)
		}
		b.report.rates(table{scenario: b.scenario.name, title: r.title, unit: r.of.String(), base: s.base}, peers, samples, r.goals)
	}
	return nil
}

func (r rate) prefix() string {
	if r.title == "" {
		return ""
	}
	return r.title + ": "
}

// rounds measures the peers in interleaved rounds, so that a machine that slows
// down does so for all. Every second turn is in reverse, so that none is always
// the one that comes after a certain other.
func (b *bench) rounds(ctx context.Context, peers []*peer.Running, base string, r rate) ([]sample, error) {
	plan := b.planOf(r)
	var samples []sample
	for turn := range b.opts.rounds * max(1, r.turns) {
		var these []sample
		for _, p := range inTurn(peers, turn) {
			s, err := b.calm(ctx, func() (sample, error) { return b.measure(ctx, p, plan, r) })
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", p.Name, turn+1, err)
			}
			s.Round = turn + 1
			these = append(these, s)
		}
		samples = append(samples, shares(these, base)...)
	}
	return samples, nil
}

func inTurn(peers []*peer.Running, turn int) []*peer.Running {
	if turn%2 == 0 {
		return peers
	}
	reversed := slices.Clone(peers)
	slices.Reverse(reversed)
	return reversed
}

// shares relates the samples of one turn to that of the peer called base. If
// that was not measured, they have none.
func shares(samples []sample, base string) []sample {
	at := slices.IndexFunc(samples, func(s sample) bool { return s.Peer == base })
	if at < 0 {
		return samples
	}
	of := samples[at]
	for i, s := range samples {
		samples[i].Share, samples[i].ByCPU = s.Rate/of.Rate, of.whole()/s.whole()
	}
	return samples
}

// planOf is the rate's plan as the flags change it.
func (b *bench) planOf(r rate) load.Plan {
	plan := r.plan
	if b.opts.quick && r.quick.Time > 0 {
		plan.Time = r.quick.Time
	}
	if b.opts.window > 0 {
		plan.Time = b.opts.window
	}
	return plan
}

// startPeers starts the peers and sends a few messages through each: the first
// password check and the first relay connection are not what a rate is.
func (b *bench) startPeers(ctx context.Context, names []string, r rate) ([]*peer.Running, error) {
	var peers []*peer.Running
	for _, name := range names {
		p, err := b.start(ctx, name)
		if err != nil {
			return nil, err
		}
		warm := load.Plan{Connections: min(4, r.plan.Connections), Sessions: 8, Messages: 1, Size: 4 * kibibyte}
		if _, err := b.measure(ctx, p, warm, r); err != nil {
			return nil, fmt.Errorf("first messages through %s: %w", name, err)
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// measure runs the load generator against one peer and compares every message.
func (b *bench) measure(ctx context.Context, p *peer.Running, plan load.Plan, r rate) (sample, error) {
	b.runs++
	plan.Run = fmt.Sprintf("r%d", b.runs)
	runtime.GC()
	if r.of == stored || r.of == drained {
		return b.measureSpool(ctx, p, plan, r)
	}
	before, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	result, err := submit(ctx, b.target(p, r), plan)
	if err != nil {
		return sample{}, err
	}
	last, err := b.verify(ctx, p, result)
	if err != nil {
		return sample{}, err
	}
	after, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	elapsed := result.Elapsed
	if p.Queues && r.of == delivered {
		elapsed = max(elapsed, last.Sub(result.Begin))
	}
	return sampleOf(p, result, elapsed, before, after), nil
}

func submit(ctx context.Context, target load.Target, plan load.Plan) (load.Result, error) {
	result := load.Run(ctx, target, plan)
	if err := errors.Join(ctx.Err(), result.Err); err != nil {
		return result, fmt.Errorf("%d sessions failed, the first: %w", result.Failed, err)
	}
	return result, nil
}

func sampleOf(p *peer.Running, result load.Result, elapsed time.Duration, before, after meter) sample {
	return sample{
		Peer: p.Name, Messages: len(result.Sent), Rate: float64(len(result.Sent)) / elapsed.Seconds(),
		CPU: after.peer - before.peer, Whole: after.ours - before.ours, P50: result.Median(), Disturbance: disturbance(before, after),
	}
}

// verify compares what was sent with what arrived, and returns when the relay
// had the last of it.
func (b *bench) verify(ctx context.Context, p *peer.Running, result load.Result) (last time.Time, err error) {
	harvest, err := b.relay.Take()
	if err != nil {
		return last, err
	}
	received, last := harvest.Received, harvest.Last
	heard := time.Now()
	for p.Queues && len(received) < len(result.Sent) && time.Since(heard) < drainTime {
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return last, err
		}
		if harvest, err = b.relay.Take(); err != nil {
			return last, err
		}
		if len(harvest.Received) > 0 {
			heard, last = time.Now(), harvest.Last
			received = append(received, harvest.Received...)
		}
	}
	return last, load.Compare(result.Sent, received).Err()
}

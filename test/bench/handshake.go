package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/load"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// handshakeShare is the target: of the better of the two others.
const handshakeShare = 0.9

// handshakeTurns are the turns of a round.
const handshakeTurns = 3

// handshakeKind is one kind of handshake. Only the first one has a target.
type handshakeKind struct {
	title  string
	plan   load.Handshakes
	target bool
}

func handshakeKinds() []handshakeKind {
	plan := load.Handshakes{Connections: 100, Time: 2 * time.Second, Version: tls.VersionTLS13}
	resumed, older := plan, plan
	resumed.Resume = true
	older.Version = tls.VersionTLS12
	olderResumed := older
	olderResumed.Resume = true
	return []handshakeKind{
		{"TLS 1.3", plan, true}, {"TLS 1.3, resumed", resumed, false},
		{"TLS 1.2", older, false}, {"TLS 1.2, resumed", olderResumed, false},
	}
}

// runHandshakes compares what a session costs before its first command. Clients
// take about as much as a server, from the same processors: so what is compared
// is the servers' own processor time, which is what a handshake costs a host
// whose clients are elsewhere. Rates by the clock stand beside it.
func runHandshakes(ctx context.Context, b *bench) (err error) {
	banner, err := sayBanner()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, banner.Close()) }()
	b.env.Banner = banner.Addr().String()
	var peers []*peer.Running
	for _, name := range b.among(subject, "nginx", "haproxy-greeting") {
		p, err := b.start(ctx, name)
		if err != nil {
			return err
		}
		peers = append(peers, p)
	}
	for _, kind := range handshakeKinds() {
		samples, err := b.handshakes(ctx, peers, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind.title, err)
		}
		b.report.handshakes(b.scenario, kind, peers, samples)
	}
	return nil
}

// sayBanner greets whoever connects, and waits for its end.
func sayBanner() (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				_, _ = io.WriteString(conn, "220 "+proxyName+" ESMTP\r\n")
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener, nil
}

// handshakes measures one kind, the peers in turn.
func (b *bench) handshakes(ctx context.Context, peers []*peer.Running, kind handshakeKind) ([]sample, error) {
	plan := kind.plan
	if b.opts.quick {
		plan.Time = 300 * time.Millisecond
	}
	if b.opts.window > 0 {
		plan.Time = b.opts.window
	}
	var samples []sample
	for turn := range b.opts.rounds * handshakeTurns {
		for _, p := range inTurn(peers, turn) {
			s, err := b.calm(ctx, func() (sample, error) { return b.measureHandshakes(ctx, p, plan) })
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
			s.Round = turn + 1
			samples = append(samples, s)
		}
	}
	return againstBetter(samples), nil
}

func (b *bench) measureHandshakes(ctx context.Context, p *peer.Running, plan load.Handshakes) (sample, error) {
	target := load.Target{Address: p.Implicit, RootCAs: b.roots, ServerName: proxyName}
	runtime.GC()
	before, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	result := plan.Run(ctx, target)
	if err := errors.Join(ctx.Err(), result.Err); err != nil {
		return sample{}, err
	}
	after, err := b.meter(p)
	if err != nil {
		return sample{}, err
	}
	s := sampleOf(p, result, result.Elapsed, before, after)
	s.Messages = len(result.Latencies)
	s.Rate = float64(s.Messages) / result.Elapsed.Seconds()
	return s, nil
}

// againstBetter relates each sample to the better one of the two others in its
// round, once by the clock and once by the peers' own processor time.
func againstBetter(samples []sample) []sample {
	for i, s := range samples {
		var rate, cost float64
		for _, other := range samples {
			if other.Round != s.Round || other.Peer == subject {
				continue
			}
			rate = max(rate, other.Rate)
			if own := other.each(); cost == 0 || own < cost {
				cost = own
			}
		}
		if rate > 0 {
			samples[i].Share, samples[i].ByCPU = s.Rate/rate, cost/s.each()
		}
	}
	return samples
}

// each is the peer's own processor time for one handshake or message.
func (s sample) each() float64 { return float64(s.CPU) / float64(max(1, s.Messages)) }

func (r *report) handshakes(s scenario, kind handshakeKind, peers []*peer.Running, samples []sample) {
	name := s.name + ", " + kind.title
	r.samples[name] = samples
	fmt.Fprintln(r.out, kind.title)
	table := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "peer\thandshakes/s\t× better\tCPU µs each\t× better by CPU\t(middle half)\tp50 ms\thandshakes\tothers had\t")
	for _, p := range peers {
		f := summarise(p.Name, samples)
		var ratios []float64
		for _, s := range samples {
			if s.Peer == p.Name {
				ratios = append(ratios, s.ByCPU)
			}
		}
		low, high := middleHalf(ratios)
		fmt.Fprintf(table, "%s\t%.0f\t%.2f\t%.0f\t%.2f\t%.2f–%.2f\t%.2f\t%d\t%.0f %%\t\n",
			p.Name, f.rate, f.share, 1000*f.cpu, f.byCPU, low, high, f.p50, f.messages, 100*f.disturbed)
	}
	table.Flush()
	if others := slices.ContainsFunc(peers, func(p *peer.Running) bool { return p.Name != subject }); !kind.target || !others {
		return
	}
	if got := summarise(subject, samples).byCPU; got > 0 {
		r.add(outcome{name, "× the better by CPU", fmt.Sprintf("%.2f", got), fmt.Sprintf("≥ %.2f", handshakeShare), got >= handshakeShare})
	}
}

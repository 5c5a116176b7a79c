package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/smtpwall/smtpwall/test/bench/load"
	"github.com/smtpwall/smtpwall/test/bench/peer"
)

// proof is how often a peer syncs, by strace.
type proof struct {
	messages, proven   int // one after the other; those synced between end of data and 250
	files, directories float64
	// The same of 20 connections at the same time.
	manyFiles, manyDirectories float64
}

// runSync shows that what the scenarios queue and drain compare is equally
// durable: each message is synced after its last octet and before its 250.
func runSync(ctx context.Context, b *bench) error {
	if err := b.durable(ctx); err != nil {
		return err
	}
	out := tabwriter.NewWriter(b.report.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "peer\tmessages\tsynced before the 250\tfile syncs a message\tdirectory syncs\tfile syncs, 20 connections\tdirectory syncs\t")
	peers, err := b.startPeers(ctx, b.among("postfix-queue", "smtpwall-queue"), rate{noAuth: true, plan: load.Plan{Connections: 1}})
	if err != nil {
		return err
	}
	var outcomes []outcome
	for _, p := range peers {
		proof, err := b.prove(ctx, p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		fmt.Fprintf(out, "%s\t%d\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t\n", p.Name, proof.messages, proof.proven,
			proof.files, proof.directories, proof.manyFiles, proof.manyDirectories)
		outcomes = append(outcomes, outcome{b.scenario.name, p.Name, fmt.Sprintf("%d of %d", proof.proven, proof.messages),
			"every 250 after a sync", proof.proven == proof.messages && proof.manyFiles >= 1})
	}
	out.Flush()
	for _, o := range outcomes {
		b.report.add(o)
	}
	return nil
}

func (b *bench) prove(ctx context.Context, p *peer.Running) (proof, error) {
	var proof proof
	sent, calls, err := b.traced(ctx, p, load.Plan{Connections: 1, Sessions: 1, Messages: 100, Size: 4 * kibibyte})
	if err != nil {
		return proof, err
	}
	proof.messages = len(sent)
	for _, s := range sent {
		if slices.ContainsFunc(calls, func(c synced) bool {
			return !c.begin.Before(s.Ended) && !c.end.After(s.Answered) && !c.isDirectory()
		}) {
			proof.proven++
		}
	}
	proof.files, proof.directories = perMessage(sent, calls)
	sent, calls, err = b.traced(ctx, p, load.Plan{Connections: 20, Sessions: 20, Messages: 25, Size: 4 * kibibyte})
	proof.manyFiles, proof.manyDirectories = perMessage(sent, calls)
	return proof, err
}

func perMessage(sent []load.Sent, calls []synced) (files, directories float64) {
	for _, c := range calls {
		if c.isDirectory() {
			directories++
		} else {
			files++
		}
	}
	n := float64(max(1, len(sent)))
	return files / n, directories / n
}

// traced fills the peer's spool under strace, and empties it without.
func (b *bench) traced(ctx context.Context, p *peer.Running, plan load.Plan) ([]load.Sent, []synced, error) {
	b.runs++
	plan.Run = fmt.Sprintf("r%d", b.runs)
	target, err := b.hold(p, rate{noAuth: true})
	if err != nil {
		return nil, nil, err
	}
	tracer, err := trace(ctx, p, b.dir)
	if err != nil {
		return nil, nil, err
	}
	result, err := submit(ctx, target, plan)
	if err != nil {
		tracer.detach()
		return nil, nil, err
	}
	calls, err := tracer.stop()
	if err != nil {
		return nil, nil, err
	}
	_, _, err = b.drain(ctx, p, result)
	return result.Sent, calls, err
}

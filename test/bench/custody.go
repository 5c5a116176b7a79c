package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/load"
)

// What keeping messages may cost and must reach.
const (
	teeShare   = 0.95 // of the throughput without a tee
	queueShare = 3.0  // times Postfix
	drainShare = 3.0
	drainCount = 10_000
)

// runTee compares proxy mode with itself before it kept a copy of what it
// streams.
func runTee(ctx context.Context, b *bench) error {
	var err error
	if b.env.Before, err = buildBefore(ctx, b.dir); err != nil {
		return err
	}
	usual := load.Plan{Connections: 20, Messages: 1_000, Size: 4 * kibibyte, Time: time.Second}
	middle, spilt, big := usual, usual, usual
	middle.Size, spilt.Size = 32*kibibyte, 40*kibibyte
	// The first messages after a pause find no file to write to and no pages in it.
	big.Size, big.Time = 25*mebibyte, 8*time.Second
	short := load.Plan{Time: 300 * time.Millisecond}
	goals := []goal{{figure: "share", atLeast: teeShare}}
	return series{base: "smtpwall-before", peers: b.among("smtpwall-before", "smtpwall"), rates: []rate{
		{title: "4 KiB", plan: usual, quick: short, turns: 3, goals: goals},
		{title: "32 KiB", plan: middle, quick: short, turns: 3, goals: goals},
		{title: "40 KiB, the first that need a file", plan: spilt, quick: short, turns: 3, goals: goals},
		{title: "25 MiB", plan: big, quick: short, goals: goals},
	}}.run(ctx, b)
}

// runQueue compares how fast messages are accepted that are synced before the
// 250.
func runQueue(ctx context.Context, b *bench) error {
	if err := b.durable(ctx); err != nil {
		return err
	}
	one := load.Plan{Connections: 20, Messages: 1, Size: 4 * kibibyte, Time: 2 * time.Second}
	hundred := one
	hundred.Messages = 100
	short := load.Plan{Time: 300 * time.Millisecond}
	goals := []goal{{figure: "share", atLeast: queueShare, of: "smtpwall-queue"}}
	return series{base: "postfix-queue", peers: b.among("postfix-queue", "smtpwall-queue"), rates: []rate{
		{title: "relay away, 100 messages a connection", plan: hundred, quick: short, noAuth: true, of: stored, goals: goals},
		{title: "relay away, one message a connection", plan: one, quick: short, noAuth: true, of: stored, goals: goals},
		{title: "relay there, 100 messages a connection", plan: hundred, quick: short, noAuth: true, of: accepted, goals: goals},
		{title: "relay there, one message a connection", plan: one, quick: short, noAuth: true, of: accepted, goals: goals},
	}}.run(ctx, b)
}

// runDrain compares how fast a full spool becomes empty.
func runDrain(ctx context.Context, b *bench) error {
	if err := b.durable(ctx); err != nil {
		return err
	}
	plan := load.Plan{Connections: 20, Sessions: drainCount / 100, Messages: 100, Size: 4 * kibibyte}
	if b.opts.quick {
		plan.Sessions = 5
	}
	return series{base: "postfix-queue", peers: b.among("postfix-queue", "smtpwall-queue"), rates: []rate{
		{plan: plan, noAuth: true, of: drained, goals: []goal{{figure: "share", atLeast: drainShare, of: "smtpwall-queue"}}},
	}}.run(ctx, b)
}

// among keeps the peers whose program is among those that were chosen.
func (b *bench) among(names ...string) []string {
	program := func(name string) string { program, _, _ := strings.Cut(name, "-"); return program }
	return slices.DeleteFunc(names, func(name string) bool {
		return !slices.ContainsFunc(b.opts.peers, func(chosen string) bool { return program(chosen) == program(name) })
	})
}

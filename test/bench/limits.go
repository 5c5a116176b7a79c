package main

import (
	"context"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/load"
)

// limitsShare is what deciding and counting must leave of the throughput.
const limitsShare = 0.97

// What limits cost is less than one window differs from the next: so windows
// are short, and turns many.
const (
	limitsWindow = 500 * time.Millisecond
	limitsTurns  = 12
)

// runLimits compares smtpwall with itself without limits, breakers and rules.
func runLimits(ctx context.Context, b *bench) error {
	hundred := load.Plan{Connections: 20, Messages: 100, Size: 4 * kibibyte, Time: limitsWindow}
	one, big := hundred, hundred
	one.Messages = 1
	big.Size, big.Messages, big.Time = 25*mebibyte, 1_000, 4*time.Second
	short := load.Plan{Time: 300 * time.Millisecond}
	goals := []goal{{figure: "share", atLeast: limitsShare, of: "smtpwall-limits"}}
	return series{base: "smtpwall-free", peers: b.among("smtpwall-free", "smtpwall-limits"), rates: []rate{
		{title: "100 messages a connection", plan: hundred, quick: short, turns: limitsTurns, goals: goals},
		{title: "one message a connection", plan: one, quick: short, turns: limitsTurns, goals: goals},
		{title: "one message a connection, in clear", plan: one, quick: short, plain: true, turns: limitsTurns, goals: goals},
		{title: "25 MiB", plan: big, quick: short, turns: 2, goals: goals},
	}}.run(ctx, b)
}

// runSenders adds a budget for each reverse-path, of which the load generator
// uses none twice.
func runSenders(ctx context.Context, b *bench) error {
	hundred := load.Plan{Connections: 20, Messages: 100, Size: 4 * kibibyte, Time: 2 * limitsWindow}
	return series{base: "smtpwall-free", peers: b.among("smtpwall-free", "smtpwall-senders"), rates: []rate{
		{plan: hundred, quick: load.Plan{Time: 300 * time.Millisecond}, turns: limitsTurns / 2},
	}}.run(ctx, b)
}

package main

import (
	"context"
	"time"

	"github.com/smtpwall/smtpwall/test/bench/load"
)

// scenario is one thing to measure.
type scenario struct {
	name  string
	title string
	delay time.Duration // round trip to the relay
	run   func(context.Context, *bench) error
}

// rate is something to measure whose figure is messages a second or a latency.
type rate struct {
	title  string // of a table of its own, in a series
	plan   load.Plan
	quick  load.Plan // what differs with -quick
	plain  bool      // clients in clear and without AUTH; direct still has both
	noAuth bool      // clients under TLS but without AUTH
	of     stage     // of a message's way that is measured
	turns  int       // of each peer in a round; 0: one
	goals  []goal
}

// stage is a part of a message's way.
type stage uint8

const (
	delivered stage = iota // from the client to the relay
	accepted               // from the client to the 250, while others are delivered
	stored                 // from the client to the 250, while nothing is delivered
	drained                // from the spool to the relay, once that is ordered
)

func (s stage) String() string {
	return [...]string{"messages/s", "accepted/s", "accepted/s", "drained/s"}[s]
}

// goal is a figure to reach.
type goal struct {
	figure  string // "share" or "p50"
	atLeast float64
	// than names the peer whose figure is the limit instead.
	than string
	// of names the peer whose figure it is, if that is not the subject.
	of string
}

const (
	kibibyte = 1 << 10
	mebibyte = 1 << 20
)

func scenarios() []scenario {
	usual := load.Plan{Connections: 20, Messages: 1, Size: 4 * kibibyte, Time: 3 * time.Second}
	short := load.Plan{Time: 500 * time.Millisecond}
	hundred, far, latency, big := usual, usual, usual, usual
	hundred.Messages = 100
	far.Connections, far.Sessions, far.Messages, far.Time = 200, 200, 100, 60*time.Second
	latency.Connections, latency.Messages, latency.Time = 1, 1_000_000, 2*time.Second
	big.Size, big.Messages = 25*mebibyte, 1_000
	const farAway = 20 * time.Millisecond
	return []scenario{
		{"one", "one message a connection, STARTTLS and AUTH in, TLS and AUTH out", 0,
			rate{plan: usual, quick: short, goals: []goal{{figure: "share", atLeast: 0.75}}}.run},
		{"hundred", "100 messages a connection, STARTTLS and AUTH in, TLS and AUTH out", 0,
			rate{plan: hundred, quick: short, goals: []goal{{figure: "share", atLeast: 0.45}}}.run},
		{"plain-in", "one message a connection, in clear on 2525 in, TLS and AUTH out", 0,
			rate{plan: usual, quick: short, plain: true, goals: []goal{{figure: "share", atLeast: 2.5}}}.run},
		{"far", "relay 20 ms away, 200 connections, 100 messages each", farAway,
			rate{plan: far, quick: load.Plan{Time: 2 * time.Second}, goals: []goal{{figure: "share", atLeast: 0.9}, {figure: "share", atLeast: 1.8}}}.run},
		{"far-few", "relay 20 ms away, 40 connections, 100 messages each: round trips alone, the processors at rest", farAway,
			rate{plan: load.Plan{Connections: 40, Sessions: 40, Messages: 100, Size: 4 * kibibyte, Time: time.Minute}, quick: load.Plan{Time: 2 * time.Second}}.run},
		{"far-one", "relay 20 ms away, 200 connections, one message each, again and again", farAway,
			rate{plan: load.Plan{Connections: 200, Messages: 1, Size: 4 * kibibyte, Time: 4 * time.Second}, quick: load.Plan{Time: 2 * time.Second},
				goals: []goal{{figure: "share", atLeast: 0.9}}}.run},
		{"latency", "one connection, one message after the other", 0,
			rate{plan: latency, quick: short, goals: []goal{{figure: "p50", than: "nginx"}}}.run},
		{"big", "25 MiB messages, 20 connections", 0,
			rate{plan: big, quick: short, goals: []goal{{figure: "share", than: "haproxy"}}}.run},
		{"tee", "proxy mode against itself before it kept a copy of what it streams, 20 connections", 0, runTee},
		{"queue", "queue mode against Postfix: messages accepted, each synced before its 250, 20 connections", 0, runQueue},
		{"sync", "what queue mode and Postfix sync before the 250, by strace", 0, runSync},
		{"drain", "queue mode against Postfix: 10,000 messages from the spool to a near relay", 0, runDrain},
		{"limits", "limits in four budgets, breakers and 50 rules against none of them, 20 connections", 0, runLimits},
		{"senders", "the same with a budget for each reverse-path, and each message from another one, 100 messages a connection", 0, runSenders},
		{"handshakes", "new connections on 465, the handshake and the banner: against nginx's mail proxy and HAProxy", 0, runHandshakes},
		{"names", "10,000 names that redirected clients ask for, none of which was ever seen, one after the other", 0, runNames},
		{"login", "log in with Python's smtplib, Nagle's algorithm on", 0, runLogin},
		{"memory", "memory: idle, a session at rest, 200 sessions with 25 MiB messages", 0, runMemory},
		{"host", "connections a second of the host's other traffic, with our rules and without", 0, runHost},
	}
}

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

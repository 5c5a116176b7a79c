package config

import "time"

// Breakers watch each identity for the marks of one that was broken into.
type Breakers struct {
	Refused   Breaker // recipients that relays refuse for good: Share of them, where there are Least
	Senders   Breaker // more than Least different reverse-paths
	Identical Breaker // one body to more than Least recipients
	Burst     Breaker // Times what the identity usually sends, and Least recipients
}

// Breaker is one of them. What it does not use is 0.
type Breaker struct {
	Action BreakerAction
	Share  float64       // above 0, at most 1
	Least  int64         // from 1
	Times  float64       // above 1
	Window time.Duration // in which all is counted, from 1 minute to 30 days
	For    time.Duration // how long the ladder is raised, and until it may trip again; from 1 minute to 30 days
}

// BreakerAction is what a breaker does when it trips.
type BreakerAction string

// Actions of breakers.
const (
	BreakerOff    BreakerAction = "off"    // it does not watch
	BreakerReport BreakerAction = "report" // event and alert alone
	BreakerRaise  BreakerAction = "raise"  // these, and the identity's ladder begins a rung higher
)

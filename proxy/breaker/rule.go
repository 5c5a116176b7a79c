package breaker

import "time"

// Kind says what a breaker watches.
type Kind string

// The kinds of breaker, in the order in which one message's trips are told.
const (
	Refused   Kind = "refused"   // recipients that relays refuse for good
	Senders   Kind = "senders"   // different reverse-paths
	Identical Kind = "identical" // one body to many recipients
	Burst     Kind = "burst"     // far more recipients than this identity's usual
)

// kinds numbers them; entry.quiet has one place for each.
var kinds = [...]Kind{Refused, Senders, Identical, Burst}

const (
	refusedAt = iota
	sendersAt
	identicalAt
	burstAt
)

// Rule is one breaker. Which fields count depends on the kind:
//
//	refused    at least Least recipients within Window, and of them a Share or more refused for good
//	senders    more than Least different reverse-paths within Window
//	identical  one body to more than Least recipients within Window
//	burst      at least Least recipients within Window, and more than Times the usual number
type Rule struct {
	Kind   Kind
	Report bool          // only say so; handed on in Trip
	Share  float64       // of 1: 0.5 is one half
	Least  int64         // recipients, or reverse-paths: of these at most 4,096
	Times  float64       // times the usual
	Window time.Duration // at least a second; what is older never counts
	For    time.Duration // how long a trip holds, and how long no other one of this kind follows it
}

// Message is what Sent is told of one that was accepted.
type Message struct {
	Sender     string // the reverse-path; the null reverse-path is no sender
	Recipients int    // accepted ones
	Body       uint64 // Body.Sum; 0 is none
}

// Trip says that a breaker tripped.
type Trip struct {
	Kind     Kind
	Identity string
	Why      string // a sentence with the numbers, without a full stop
	Report   bool
	For      time.Duration
	Count    int64 // refused recipients; reverse-paths; recipients of the body; recipients
}

// rules has the rule of each kind, or none (nil). It is not changed once made.
type rules [len(kinds)]*Rule

// compile takes the last rule of each kind, with bounds that the counts have.
func compile(list []Rule) *rules {
	compiled := new(rules)
	for _, rule := range list {
		for at, kind := range kinds {
			if kind == rule.Kind {
				compiled[at] = bounded(rule)
			}
		}
	}
	return compiled
}

func bounded(rule Rule) *Rule {
	rule.Window = max(rule.Window, time.Second)
	rule.For = max(rule.For, 0)
	rule.Least = max(rule.Least, 0)
	if rule.Kind == Senders {
		rule.Least = min(rule.Least, maxSenders)
	}
	return &rule
}

// longest is the longest window: what an identity did before it is forgotten,
// except for its usual.
func (r *rules) longest() time.Duration {
	longest := time.Duration(0)
	for _, rule := range r {
		if rule != nil {
			longest = max(longest, rule.Window)
		}
	}
	return longest
}

// same says that counts made under one rule can go on under the other.
func same(a, b *Rule) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Window == b.Window && (a.Kind != Senders || a.Least == b.Least)
}

package breaker

import (
	"math"
	"time"
)

// historyKept is how long the usual of an identity that sends nothing is known.
const historyKept = 35 * 24 * time.Hour

// identity is what is known of one. Its size, and that of its two tables, is
// what 100,000 of them cost.
type identity struct {
	last    uint32             // tick of the latest word
	quiet   [len(kinds)]uint32 // tick until which a kind that tripped says nothing
	replies replies
	pace    pace
	senders senders
	bodies  bodies
}

// round is one question put to a breaker.
type round struct {
	*Rule
	moment moment
	quiet  bool // count, but do not trip
	at     int
}

// round says whether a kind is on, and how it is asked.
func (i *identity) round(rules *rules, at int, m moment) (round, bool) {
	rule := rules[at]
	return round{Rule: rule, moment: m, quiet: m.tick() < i.quiet[at], at: at}, rule != nil
}

// tell adds a trip that has a reason, and makes its kind quiet.
func (i *identity) tell(trips []Trip, now round, trip Trip) []Trip {
	if trip.Why == "" {
		return trips
	}
	i.quiet[now.at] = moment(min(time.Duration(now.moment), math.MaxInt64-now.For) + now.For).tickUp()
	trip.Kind, trip.Report, trip.For = now.Kind, now.Report, now.For
	return append(trips, trip)
}

// forget drops what was counted for a kind.
func (i *identity) forget(at int) {
	switch at {
	case refusedAt:
		i.replies = replies{}
	case sendersAt:
		i.senders = nil
	case identicalAt:
		i.bodies = bodies{}
	case burstAt:
		i.pace = pace{}
	}
}

// idle drops what cannot count any more and says whether nothing is left.
func (i *identity) idle(now uint32, longest time.Duration) bool {
	for _, until := range i.quiet {
		if now < until {
			return false
		}
	}
	unheard := age(now, i.last)
	if unheard < moment(longest).tickUp() {
		return false
	}
	i.senders = nil
	i.bodies.table = nil
	return unheard >= ticks(historyKept) || i.pace.windows == 0 && i.pace.window == 0
}

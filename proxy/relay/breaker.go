package relay

import "time"

// How the breaker behaves.
const (
	breakerFailures = 3               // in a row, then the relay is left alone
	firstPause      = 5 * time.Second // how long at first
	longestPause    = 5 * time.Minute // the pause doubles up to here
	breakerJitter   = 0.2             // so that many hosts do not come back in one moment
	longestProbe    = 2 * time.Minute // of one that has not told by then nothing is expected
)

// Breaker is the state of a relay's circuit breaker, as it stands in Status.
type Breaker string

// The states.
const (
	BreakerClosed   Breaker = "closed"    // the relay is used
	BreakerOpen     Breaker = "open"      // it failed and is left alone until RetryAt
	BreakerHalfOpen Breaker = "half-open" // one connection is being tried, nobody else asks
)

// breaker leaves a relay alone that fails again and again: neither clients nor
// queued messages wait for what is not there, and the relay is not stormed when
// it comes back. It knows no lock and no clock: slots guards it.
type breaker struct {
	state    Breaker
	failures int           // in a row
	pause    time.Duration // the last one, without jitter; 0 while closed
	until    time.Time     // of the pause, or of the time that a probe may take
	cause    *Error        // the last failure; nil after a success
}

// ask says whether a connection may be wanted now, and whether it is the one
// that tries out an open breaker. Who was told so must tell fail, succeed or
// giveUp; where that did not happen in time another one tries. force waits for
// neither the end of the pause nor another's probe.
func (b *breaker) ask(now time.Time, force bool) (ok, probing bool) {
	switch {
	case b.state == BreakerClosed:
		return true, false
	case force || !now.Before(b.until):
		b.state, b.until = BreakerHalfOpen, now.Add(longestProbe)
		return true, true
	}
	return false, false
}

// fail counts a failure, and says whether the breaker opened with it. While it
// is open already only the probe's failure counts: others began before.
func (b *breaker) fail(now time.Time, probing bool, cause *Error, random float64) bool {
	if b.state != BreakerClosed && !probing {
		return false
	}
	b.cause = cause
	if b.failures++; b.state == BreakerClosed && b.failures < breakerFailures {
		return false
	}
	b.pause = min(max(firstPause, 2*b.pause), longestPause)
	b.state, b.until = BreakerOpen, now.Add(jitter(b.pause, random))
	return true
}

// jitter spreads a pause evenly by a fifth to either side; random is in [0, 1).
func jitter(pause time.Duration, random float64) time.Duration {
	return time.Duration(float64(pause) * (1 + breakerJitter*(2*random-1)))
}

// succeed says whether the breaker closed with it.
func (b *breaker) succeed() (closed bool) {
	closed = b.state != BreakerClosed
	*b = breaker{state: BreakerClosed}
	return closed
}

// giveUp ends a probe that came to nothing, without the relay's fault: the next
// caller may try.
func (b *breaker) giveUp(now time.Time) {
	if b.state == BreakerHalfOpen {
		b.state, b.until = BreakerOpen, now
	}
}

// quiet says that the breaker has nothing to remember.
func (b *breaker) quiet() bool { return b.cause == nil && b.state == BreakerClosed }

// probeTime is when to look again while a probe is under way.
const probeTime = time.Second

// ready says whether ask would say yes, and otherwise when to look again.
func (b *breaker) ready(now time.Time) (bool, time.Time) {
	switch {
	case b.state == BreakerClosed || !now.Before(b.until):
		return true, now
	case b.state == BreakerHalfOpen:
		return false, now.Add(probeTime)
	}
	return false, b.until
}

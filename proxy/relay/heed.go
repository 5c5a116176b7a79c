package relay

import (
	"errors"
	"time"

	"go.uber.org/zap"
)

// What the pool does about what it learns. Changes are logged here, once.

// notLent is the error of who did not get a connection. What an open breaker or
// the pace sends away is not logged each time: their changes are.
func (p *Pool) notLent(err error) *Error {
	switch {
	case errors.Is(err, errAlone):
		failure := &Error{Relay: p.options.Name, Step: StepBreaker, Cause: err}
		if cause := p.slots.lastFailure(); cause != nil {
			failure.Cause = cause
		}
		return failure
	case errors.Is(err, errPaced):
		return &Error{Relay: p.options.Name, Step: StepPace, Cause: err}
	case errors.Is(err, errSlowed):
		return &Error{Relay: p.options.Name, Step: StepTurn, Cause: err}
	}
	return p.fail(StepWait, err)
}

// away counts a failure to get a connection.
func (p *Pool) away(failure *Error, probing bool) {
	if !p.slots.failed(failure, probing) {
		return
	}
	p.trim(0)
	_, at := p.slots.ready(time.Now())
	p.options.Logger.Warn("relay is left alone after failures", zap.Time("until", at), zap.Error(failure))
}

// back says that the breaker closed.
func (p *Pool) back() { p.options.Logger.Info("relay is back") }

// crowd heeds a 421 about the number of connections; false where it cannot have
// been about that.
func (p *Pool) crowd() bool {
	p.mu.Lock()
	idle := len(p.idle)
	p.mu.Unlock()
	limit, spare, meant := p.slots.crowded(idle)
	if meant {
		p.trim(spare)
		p.options.Logger.Info("relay takes no more connections", zap.Int("limit", limit))
	}
	return meant
}

// slowDown heeds a complaint about a MAIL that went over c.
func (p *Pool) slowDown(c *conn) {
	if interval, changed := p.slots.slowDown(c.raises, c.holder); changed {
		p.options.Logger.Info("relay wants a sender's messages more slowly", zap.String("holder", c.holder), zap.Duration("interval", interval))
	}
}

// denied heeds that the relay asked for a login, or refused ours, behind MAIL on c.
// If it had worked there that is about whoever sends, unless the relay says so to
// everybody.
func (p *Pool) denied(c *conn) Step {
	p.slowDown(c)
	if p.options.Username == "" || p.slots.denied(c.holder) {
		return StepAuth
	}
	return StepDenied
}

// answered notes that the relay gave its word on a message, where that matters.
func (p *Pool) answered(c *conn, took bool) {
	if p.slots.learning.Load() && p.slots.answered(c.holder, took) {
		p.back()
	}
}

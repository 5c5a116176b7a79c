package relay

import "time"

// Status is how a relay does, for people and for monitoring.
type Status struct {
	Name    string        `json:"name"`
	Breaker Breaker       `json:"breaker"`
	RetryAt time.Time     `json:"retry_at,omitzero"` // when the open breaker lets somebody try
	Error   string        `json:"error,omitempty"`   // the last failure to get a connection; empty after a success
	Open    int           `json:"open"`              // connections that are lent, kept or being opened
	Lent    int           `json:"lent"`              // those of transactions
	Cap     int           `json:"cap"`               // how many there may be now, as far as the relay has said
	Max     int           `json:"max"`               // how many there may be by configuration
	Pace    time.Duration `json:"pace_ns"`           // least time between two messages of anybody who sends now; 0: none
	Slowed  int           `json:"slowed,omitempty"`  // senders that have a pace of their own
	Ports   []PortStatus  `json:"ports"`
}

// Status tells how the relay does at a time.
func (p *Pool) Status(now time.Time) Status {
	p.mu.Lock()
	idle := len(p.idle)
	p.mu.Unlock()
	status := p.slots.status(now)
	status.Name, status.Ports = p.options.Name, p.ports.status()
	status.Open = status.Lent + idle
	return status
}

func (s *slots) status(now time.Time) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.limit
	limit.look(now) // as the next request will
	status := Status{
		Breaker: s.breaker.state, Lent: s.limit.now - s.free, Cap: limit.now, Max: limit.most, Pace: s.pace.everybodys(now), Slowed: len(s.pace.slowed),
	}
	if s.breaker.state == BreakerOpen {
		status.RetryAt = s.breaker.until
	}
	if s.breaker.cause != nil {
		status.Error = s.breaker.cause.Error()
	}
	return status
}

// Cap is how many connections there may be now, as far as the relay has said.
func (p *Pool) Cap() int {
	p.slots.mu.Lock()
	defer p.slots.mu.Unlock()
	return p.slots.limit.now
}

// Ready says whether Begin would not be refused at once at a time, and
// otherwise when to ask again. It changes nothing.
func (p *Pool) Ready(now time.Time) (ok bool, at time.Time) { return p.slots.ready(now) }

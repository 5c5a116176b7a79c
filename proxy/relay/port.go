package relay

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"
)

// PortState is what became of the last try of a port.
type PortState string

// The states.
const (
	PortWorks   PortState = "works"   // the relay was reached and verified there
	PortBlocked PortState = "blocked" // no connection: it timed out, was refused or led nowhere
	PortFailed  PortState = "failed"  // connected, but the greeting or TLS failed
	PortUntried PortState = "untried" // another port worked before
)

// PortStatus is what is known about one port of a relay. With several addresses
// it is the best of them.
type PortStatus struct {
	Port  uint16    `json:"port"`
	State PortState `json:"state"`
	Error string    `json:"error,omitempty"`
	Since time.Time `json:"since,omitzero"` // of the state
}

// ports remembers what became of each way to the relay. It is safe for
// concurrent use.
type ports struct {
	mu    sync.Mutex
	known []Endpoint // as they were last given
	tried map[Endpoint]PortStatus
	last  uint16 // the port that worked last; 0: none, or it could not be connected to since
}

// arrange gives the endpoints in the order to try them: the port that worked
// last goes first, then the ports as they are given; of one port's addresses
// those go last that could not be connected to. A way without TLS is never an
// alternative to one with it.
func (p *ports) arrange(endpoints []Endpoint) []Endpoint {
	endpoints = slices.Clone(endpoints)
	inClear := func(e Endpoint) bool { return e.TLS == None }
	if !slices.ContainsFunc(endpoints, inClear) || slices.IndexFunc(endpoints, func(e Endpoint) bool { return !inClear(e) }) >= 0 {
		endpoints = slices.DeleteFunc(endpoints, inClear)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = slices.Clone(endpoints)
	for e := range p.tried {
		if !slices.Contains(p.known, e) {
			delete(p.tried, e)
		}
	}
	rank := func(e Endpoint) int {
		port := slices.IndexFunc(p.known, func(k Endpoint) bool { return k.Address.Port() == e.Address.Port() })
		if e.Address.Port() == p.last {
			port = -1
		}
		rank := 2 * port
		if p.tried[e].State == PortBlocked {
			rank++
		}
		return rank
	}
	slices.SortStableFunc(endpoints, func(a, b Endpoint) int { return cmp.Compare(rank(a), rank(b)) })
	return endpoints
}

// note keeps what became of a try; failure is nil where it worked.
func (p *ports) note(e Endpoint, failure *Error, now time.Time) {
	status := PortStatus{Port: e.Address.Port(), State: stateOf(failure), Since: now}
	if failure != nil {
		status.Error = failure.Cause.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch before := p.tried[e]; {
	case status.State == PortUntried:
		return // it was our own fault, and says nothing about the port
	case before.State == status.State:
		status.Since = before.Since
	}
	switch {
	case failure == nil:
		p.last = e.Address.Port()
	case status.State == PortBlocked && p.last == e.Address.Port():
		p.last = 0
	}
	if p.tried == nil {
		p.tried = make(map[Endpoint]PortStatus)
	}
	p.tried[e] = status
}

// stateOf is what a failure says about the port. A login that failed says
// nothing bad about it.
func stateOf(failure *Error) PortState {
	switch {
	case failure == nil || failure.Step == StepAuth:
		return PortWorks
	case failure.Step == StepConnect && ours(failure.Cause):
		return PortUntried
	case failure.Step == StepConnect:
		return PortBlocked
	}
	return PortFailed
}

// ours says that a connection failed for want of something on this host.
func ours(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL},
		func(want error) bool { return errors.Is(err, want) })
}

// status tells about each port, in the order of the endpoints.
func (p *ports) status() []PortStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []PortStatus{} // not null in JSON
	for _, e := range p.known {
		status, ok := p.tried[e]
		if !ok {
			status = PortStatus{Port: e.Address.Port(), State: PortUntried}
		}
		i := slices.IndexFunc(all, func(s PortStatus) bool { return s.Port == status.Port })
		switch {
		case i < 0:
			all = append(all, status)
		case goodness(status.State) > goodness(all[i].State):
			all[i] = status
		}
	}
	return all
}

func goodness(state PortState) int {
	return slices.Index([]PortState{PortUntried, PortBlocked, PortFailed, PortWorks}, state)
}

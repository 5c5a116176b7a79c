package relay

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"
)

// shortConnect bounds a connect while another port is left: networks that block
// a port mostly swallow what is sent to it.
const shortConnect = 5 * time.Second

// dialer opens a TCP connection.
type dialer func(ctx context.Context, endpoint Endpoint, timeout time.Duration) (net.Conn, error)

func dialTCP(ctx context.Context, endpoint Endpoint, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAliveConfig: keepAlive}
	d.SetMultipathTCP(false) // a relay's firewall may not know it; nor does ours
	return d.DialContext(ctx, "tcp", endpoint.Address.String())
}

// keepAlive finds out within a minute that the relay's host or the way to it is
// gone, while nothing is on the way: a kept connection is then not offered to a
// client, and the reply to a message is not waited for in vain.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 20 * time.Second, Interval: 10 * time.Second, Count: 3}

// connectWithin is connect for somebody who waits. That he waits no longer is the
// relay's failure.
func (p *Pool) connectWithin(ctx context.Context, patience time.Duration, probing bool) (*conn, *Error) {
	if patience == 0 {
		return p.connect(ctx, ctx, probing)
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return p.connect(ctx, short, probing)
}

// connect opens a connection and tells the breaker how that went. A failure
// because ctx ended is not the relay's; that short, which is in ctx, did is.
func (p *Pool) connect(ctx, short context.Context, probing bool) (*conn, *Error) {
	c, failure := p.dial(short)
	switch {
	case failure == nil:
		if p.slots.connected() {
			p.back()
		}
	case ctx.Err() != nil:
		if probing {
			p.slots.gaveUp()
		}
	case !probing && turnedAway(failure) && p.crowd():
		failure.crowded = true
	default:
		p.away(failure, probing)
	}
	return c, failure
}

// dial opens a connection and brings it to where MAIL may be sent. Its failure
// is that of the way that led furthest.
func (p *Pool) dial(ctx context.Context) (*conn, *Error) {
	endpoints, err := p.options.Endpoints(ctx)
	if endpoints = p.ports.arrange(endpoints); err == nil && len(endpoints) == 0 {
		err = errNoEndpoints
	}
	if err != nil {
		return nil, p.fail(StepResolve, err)
	}
	var worst *Error
	for len(endpoints) > 0 {
		c, failure := p.dialEndpoint(ctx, endpoints[0], p.connectTimeout(endpoints))
		if failure == nil {
			return c, nil
		}
		if worst == nil || failure.Step != StepConnect {
			worst = failure
		}
		if ctx.Err() != nil {
			break
		}
		endpoints = alternatives(endpoints, failure)
	}
	return nil, worst
}

// connectTimeout is shorter for the first of endpoints while there is another port.
func (p *Pool) connectTimeout(endpoints []Endpoint) time.Duration {
	timeout, port := p.options.Timeouts.Connect, endpoints[0].Address.Port()
	if slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.Address.Port() != port }) {
		return min(timeout, shortConnect)
	}
	return timeout
}

// alternatives are the endpoints to try after a failure of the first. A login
// that was refused for good is not repeated, lest the account is locked, and a
// host that turned us away has another port for nothing.
func alternatives(endpoints []Endpoint, failure *Error) []Endpoint {
	var r *refusal
	tried := endpoints[0].Address.Addr()
	switch {
	case !errors.As(failure, &r):
	case failure.Step == StepAuth && r.reply.Permanent():
		return nil
	case r.reply.Code == 421:
		return slices.DeleteFunc(endpoints[1:], func(e Endpoint) bool { return e.Address.Addr() == tried })
	}
	return endpoints[1:]
}

func (p *Pool) dialEndpoint(ctx context.Context, endpoint Endpoint, timeout time.Duration) (*conn, *Error) {
	c, failure := p.open(ctx, endpoint, timeout)
	if ctx.Err() == nil {
		p.ports.note(endpoint, failure, time.Now())
	}
	return c, failure
}

func (p *Pool) open(ctx context.Context, endpoint Endpoint, timeout time.Duration) (*conn, *Error) {
	raw, err := p.dialer(ctx, endpoint, timeout)
	if err != nil {
		return nil, p.fail(StepConnect, err)
	}
	_ = raw.SetDeadline(time.Now().Add(p.options.Timeouts.Handshake))
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	c := &conn{Conn: raw, raw: raw}
	if failure := p.greet(ctx, c, endpoint.TLS); failure != nil {
		_ = c.Close()
		return nil, failure
	}
	offered := c.capabilities
	p.capabilities.Store(&offered)
	return c, nil
}

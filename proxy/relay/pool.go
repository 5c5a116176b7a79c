package relay

import (
	"context"
	"crypto/tls"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xdg-go/scram"
	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// Pool keeps connections to one relay and lends them, one transaction each.
type Pool struct {
	options      Options
	tlsConfig    *tls.Config
	capabilities atomic.Pointer[Capabilities] // of the last connection
	slots        *slots                       // one is held by each lent connection
	ports        ports
	dialer       dialer
	scram        func() (*scram.Client, error) // one for all logins: it remembers the derived keys, which are dear

	mu      sync.Mutex
	idle    []*conn // the last one was used last
	retired bool
	reaper  *time.Timer // nil while nothing is idle
}

// New makes a pool. It opens no connection.
func New(options Options) *Pool {
	options = options.withDefaults()
	return &Pool{
		options:   options,
		tlsConfig: newTLSConfig(options),
		scram: sync.OnceValues(func() (*scram.Client, error) {
			return scram.SHA256.NewClient(options.Username, string(options.Password()), "")
		}),
		slots:  newSlots(options.Connections, options.Rate, options.Timeouts.Pace),
		dialer: dialTCP,
	}
}

// Name is the relay's name in the configuration.
func (p *Pool) Name() string { return p.options.Name }

// Capabilities are those of the relay as last seen; false before the first
// connection.
func (p *Pool) Capabilities() (Capabilities, bool) {
	if caps := p.capabilities.Load(); caps != nil {
		return *caps, true
	}
	return Capabilities{}, false
}

// prober holds the connections of Probe, which are nobody's.
const prober = ""

// Probe opens one connection, so that the relay's capabilities are known and
// its faults are seen before the first message, and keeps it. It does not wait
// for the end of an open breaker's pause. The error is an *Error.
func (p *Pool) Probe(ctx context.Context) error {
	c, err := p.lend(ctx, prober, 0)
	if err != nil {
		return err
	}
	p.giveBack(c)
	return nil
}

// lend gives an idle connection, or a new one. When ctx ends the connection is
// cut off, whatever waits for it.
func (p *Pool) lend(ctx context.Context, holder string, patience time.Duration) (*conn, error) {
	c, failure := p.tryLend(ctx, holder, patience)
	if failure != nil && failure.crowded {
		c, failure = p.tryLend(ctx, holder, patience) // waits for one of those that the relay lets us have
	}
	if failure != nil {
		return nil, failure
	}
	return c, nil
}

func (p *Pool) tryLend(ctx context.Context, holder string, patience time.Duration) (*conn, *Error) {
	probing, err := p.slots.acquire(ctx, holder, within(p.options.Timeouts.Wait, patience))
	if err != nil {
		return nil, p.notLent(err)
	}
	var c *conn
	if probing {
		p.trim(0) // what was kept while the relay was away proves nothing, nor what comes back just now
	} else {
		c = p.takeIdle()
	}
	if c == nil {
		var failure *Error
		if c, failure = p.connectWithin(ctx, patience, probing); failure != nil {
			p.slots.release(holder)
			return nil, failure
		}
	}
	c.lendTo(ctx, holder)
	c.raises = p.slots.raises.Load()
	return c, nil
}

func (p *Pool) takeIdle() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	c.kept = true
	return c
}

// giveBack keeps a healthy connection for the next transaction.
func (p *Pool) giveBack(c *conn) {
	if !c.takeBack() || len(c.reader.Unread()) > 0 {
		p.discard(c)
		return
	}
	defer p.slots.release(c.holder)
	p.mu.Lock()
	if p.retired || p.slots.surplus.Load() || p.options.MaxTransactions > 0 && c.uses >= p.options.MaxTransactions {
		p.mu.Unlock()
		c.quit()
		return
	}
	c.idleSince = time.Now()
	p.idle = append(p.idle, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.options.IdleTimeout, p.reap)
	}
	p.mu.Unlock()
}

// discard closes a connection whose state is not known.
func (p *Pool) discard(c *conn) {
	c.takeBack()
	_ = c.Close()
	p.slots.release(c.holder)
}

// reap closes what was idle for too long. It runs on its own timer, which
// exists only while something is idle.
func (p *Pool) reap() {
	p.mu.Lock()
	old := time.Now().Add(-p.options.IdleTimeout)
	n := 0
	for n < len(p.idle) && !p.idle[n].idleSince.After(old) {
		n++
	}
	expired := append([]*conn(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	p.reaper = nil
	if len(p.idle) > 0 && !p.retired {
		p.reaper = time.AfterFunc(time.Until(p.idle[0].idleSince.Add(p.options.IdleTimeout)), p.reap)
	}
	p.mu.Unlock()
	for _, c := range expired {
		c.quit()
	}
}

// trim closes idle connections but for n.
func (p *Pool) trim(n int) {
	p.mu.Lock()
	surplus := max(0, len(p.idle)-n)
	old := append([]*conn(nil), p.idle[:surplus]...)
	p.idle = append(p.idle[:0], p.idle[surplus:]...)
	p.mu.Unlock()
	for _, c := range old {
		c.quit()
	}
}

// Retire closes idle connections now and lent ones when they come back. The
// pool still serves transactions of sessions that began with it.
func (p *Pool) Retire() {
	p.mu.Lock()
	p.retired = true
	idle := p.idle
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
		p.reaper = nil
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.quit()
	}
}

// fail makes the pool's error and logs it, once, here.
func (p *Pool) fail(step Step, cause error) *Error {
	failure := &Error{Relay: p.options.Name, Step: step, Cause: cause}
	if turnedAway(cause) {
		p.options.Logger.Info("relay turned us away", zap.String("step", string(step)), zap.Error(cause))
		return failure
	}
	p.options.Logger.Warn("relay could not be used", zap.String("step", string(step)), zap.Error(cause))
	return failure
}

// Begin lends a connection and queues MAIL, which goes out with the first
// recipients. holder is whose transaction it is, never "": no one holder gets
// all connections or all turns. When ctx ends so does the transaction, at once.
// The error is an *Error; with an open breaker, or a pace that leaves no turn
// within Timeouts.Pace, it comes at once.
func (p *Pool) Begin(ctx context.Context, holder, reversePath string, params smtp.MailParams) (*Transaction, error) {
	return p.BeginWithin(ctx, 0, holder, reversePath, params)
}

// BeginWithin is Begin for somebody who waits: patience, if it is not 0, bounds
// the time to get a connection, and then that of each flight of the envelope,
// where Timeouts allow more.
func (p *Pool) BeginWithin(ctx context.Context, patience time.Duration, holder, reversePath string, params smtp.MailParams) (*Transaction, error) {
	c, err := p.lend(ctx, holder, patience)
	if err != nil {
		return nil, err
	}
	t := newTransaction(p, c, reversePath, params)
	t.patience = patience
	return t, nil
}

// within is the lesser of a timeout and somebody's patience.
func within(timeout, patience time.Duration) time.Duration {
	if patience > 0 {
		return min(timeout, patience)
	}
	return timeout
}

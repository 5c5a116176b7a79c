package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// adminSocket is the name of the passed socket for the commands.
const adminSocket = "admin"

// serveAdmin answers the commands on a socket, if there is one, until the
// cleanup.
func (p *Proxy) serveAdmin(socket net.Listener) *backend {
	b := &backend{proxy: p, started: time.Now()}
	if socket == nil {
		return b
	}
	server := admin.NewServer(admin.Options{Reader: b, Limits: b, Actor: b, Certifier: b, Logger: p.log.Named("admin")})
	ended := make(chan struct{})
	go func() { // ends with the cleanup
		defer close(ended)
		if err := server.Serve(socket); err != nil {
			p.log.Error("admin socket ended", zap.Error(err))
		}
	}()
	p.cleanups.add("admin socket", func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		<-ended
		return err
	})
	return b
}

// backend answers from the running proxy.
type backend struct {
	proxy   *Proxy
	started time.Time
}

// Status implements admin.Reader.
func (b *backend) Status(context.Context) (admin.Status, error) {
	p := b.proxy
	now := time.Now()
	usage := p.spool.Usage()
	s := admin.Status{
		Started: b.started, Sessions: p.server.Sessions(), Relays: b.relays(now), Conditions: map[string]string{},
		Spool: admin.SpoolStatus{
			Bytes: usage.Bytes, MaxBytes: usage.MaxBytes, Messages: usage.Messages,
			ByState: map[string]int{}, Oldest: usage.Oldest, Corrupt: usage.Corrupt,
		},
	}
	for state, n := range usage.ByState {
		s.Spool.ByState[string(state)] = n
	}
	s.Suspended = len(p.warden.Suspensions())
	b.addConditions(&s, now)
	return s, nil
}

// relays are those of the default order, then the others by name.
func (b *backend) relays(now time.Time) []relay.Status {
	relays := b.proxy.inForce.Load().Relays
	all := []relay.Status{}
	for _, pool := range relays.Order {
		all = append(all, pool.Status(now))
	}
	for _, name := range slices.Sorted(maps.Keys(relays.ByName)) {
		if pool := relays.ByName[name]; !slices.Contains(relays.Order, pool) {
			all = append(all, pool.Status(now))
		}
	}
	return all
}

// Items implements admin.Reader.
func (b *backend) Items(ctx context.Context, f spool.Filter, yield func(spool.Item) error) error {
	return match(ctx, b.proxy.spool, f, yield)
}

// Message implements admin.Reader.
func (b *backend) Message(_ context.Context, id string) (spool.Item, io.ReadCloser, error) {
	m, err := b.proxy.spool.Read(id)
	if err != nil {
		return spool.Item{}, nil, err
	}
	return m.Item, m, nil
}

// Limits implements admin.LimitReader.
func (b *backend) Limits(_ context.Context, identity, rule string) ([]admin.LimitState, error) {
	p := b.proxy
	states := []admin.LimitState{}
	settings := p.inForce.Load()
	if rule == "" {
		rule = settings.Policy.Session(identityOfKey(identity), string(proxy.Submission)).Rule
	}
	budgets := settings.Quota.Show(identity, rule)
	for _, s := range p.limits.State(identity, budgets, time.Now()) {
		states = append(states, admin.LimitState{
			Key: s.Key, Limit: s.Limit.String(), Used: s.Used, Max: s.Limit.Max, Refused: s.Refused, Opens: s.Opens,
		})
	}
	if raised, why, until := p.limits.Raised(identity, time.Now()); raised > 0 {
		states = append(states, admin.LimitState{Key: identity, Raised: raised, Why: why, Opens: until})
	}
	return states, nil
}

// identityOfKey is what policy can know of an identity by its key alone; unknown
// where that is no key.
func identityOfKey(key string) policy.Identity {
	who, err := ParseWho(key)
	if err != nil {
		return policy.Identity{}
	}
	id, _ := who.Identity() // complete but for the uid of a name, which a key has not
	return id
}

// Suspensions implements admin.LimitReader.
func (b *backend) Suspensions(context.Context) ([]limit.Suspension, error) {
	return b.proxy.warden.Suspensions(), nil
}

// Suspend implements admin.Actor.
func (b *backend) Suspend(_ context.Context, s limit.Suspension) error {
	return b.proxy.warden.Suspend(s)
}

// Resume implements admin.Actor.
func (b *backend) Resume(ctx context.Context, key string) error {
	who := "somebody"
	if uid, ok := admin.PeerUID(ctx); ok {
		who = fmt.Sprint("uid ", uid)
	}
	if err := b.proxy.warden.Resume(key, who); errors.Is(err, proxy.ErrNotSuspended) {
		return admin.ErrNotSuspended
	} else if err != nil {
		return err
	}
	return nil
}

// Act implements admin.Actor.
func (b *backend) Act(ctx context.Context, op admin.Op, f spool.Filter, done func(admin.Outcome)) error {
	if len(f.States) == 0 {
		f.States = op.States()
	}
	if op == admin.Retry {
		b.proxy.runner.Awaken()
	}
	chosen, err := b.choose(ctx, op, f)
	outcomes := make(chan admin.Outcome)
	go b.carryOut(ctx, chosen, outcomes) // ends when it closes outcomes
	n := 0
	for o := range outcomes {
		n++
		o.Done, o.Total = n, len(chosen)
		done(o)
	}
	b.proxy.log.Info("order of an administrator", zap.String("op", string(op)), zap.Int(logfields.Count, n), by(ctx))
	if n < len(chosen) {
		err = errors.Join(err, ctx.Err())
	}
	return err
}

// hands is how many messages of an order are seen to at a time, so that they
// share the syncs of the spool.
const hands = 16

func (b *backend) carryOut(ctx context.Context, chosen []choice, outcomes chan<- admin.Outcome) {
	defer close(outcomes)
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(hands, len(chosen)) {
		working.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(chosen)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				o := admin.Outcome{ID: chosen[i].id}
				if err := chosen[i].act(); err != nil {
					o.Error = strings.TrimSpace(err.Error())
				}
				outcomes <- o
			}
		})
	}
	working.Wait()
}

// choice is one message and what is to be done with it.
type choice struct {
	id  string
	act func() error
}

// choose finds the messages that an order is about. A retry of all, or by id,
// needs none of their files.
func (b *backend) choose(ctx context.Context, op admin.Op, f spool.Filter) (chosen []choice, err error) {
	runner := b.proxy.runner
	if op == admin.Retry && f.Identity == "" && f.Relay == "" && f.Reason == "" && f.OlderThan <= 0 {
		for _, id := range f.IDs {
			chosen = append(chosen, choice{id, func() error { return runner.Retry(id) }})
		}
		if len(f.IDs) == 0 {
			for _, id := range b.proxy.spool.IDs(f.States...) {
				chosen = append(chosen, choice{id, func() error { return underWay(runner.Retry(id)) }})
			}
		}
		return chosen, nil
	}
	missing := make(map[string]bool, len(f.IDs))
	for _, id := range f.IDs {
		missing[id] = true
	}
	err = b.Items(ctx, f, func(item spool.Item) error {
		delete(missing, item.ID)
		id := item.ID // and no more, of however many there are
		chosen = append(chosen, choice{id, func() error { return b.act(op, id) }})
		return nil
	})
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		chosen = append(chosen, choice{id, func() error { return spool.ErrUnknown }})
	}
	return chosen, err
}

// underWay takes it for done that a message is being delivered, or was.
func underWay(err error) error {
	if errors.Is(err, proxy.ErrBusy) || errors.Is(err, spool.ErrUnknown) {
		return nil
	}
	return err
}

func (b *backend) act(op admin.Op, id string) error {
	runner := b.proxy.runner
	if op == admin.Retry {
		return underWay(runner.Retry(id)) // delivered since the filter found it
	}
	item, err := b.proxy.spool.Show(id)
	switch {
	case err != nil:
		return err
	case op == admin.Release:
		return runner.Release(item)
	case op == admin.Drop:
		return runner.Drop(item)
	}
	return fmt.Errorf("unknown operation %q", op)
}

// by is whose order it is, as the kernel says.
func by(ctx context.Context) zap.Field {
	uid, ok := admin.PeerUID(ctx)
	if !ok {
		return zap.Skip()
	}
	return zap.Uint32(logfields.PeerUID, uid)
}

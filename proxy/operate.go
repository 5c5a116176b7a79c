package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// ErrBusy says that a message is on its way to the relay at this moment.
var ErrBusy = errors.New("it is being delivered at this moment, try again soon")

// Retry makes a waiting message due now, whatever its schedule; one that is being
// tried is due again if that try fails.
func (r *Runner) Retry(id string) error {
	if r.queue.Active(id) {
		r.hastened.Store(id, struct{}{})
		return nil
	}
	if r.queue.Retry(id, time.Now()) {
		r.signal()
		return nil
	}
	item, err := r.spool.Show(id)
	switch {
	case err != nil:
		return err
	case item.State == spool.Active: // a session has it, and the relay's answer is due
		return ErrBusy
	case item.State == spool.Hold:
		return errors.New("it is held: smtpwall hold release lets it go")
	}
	item.Progress.Next = time.Time{}
	r.Add(item)
	return nil
}

// Release lets a held message go. Policy is asked again before it is delivered:
// what would hold it does not any more, and what would refuse it does.
func (r *Runner) Release(item spool.Item) error {
	if item.State != spool.Hold {
		return errors.New("it is not held")
	}
	r.ordering.RLock()
	defer r.ordering.RUnlock()
	if _, active := r.queue.Remove(item.ID); active {
		return ErrBusy
	}
	p := item.Progress
	p.Time, p.Next, p.Hold, p.Released = time.Now().UTC(), time.Time{}, "", true
	for i := range p.Rest {
		p.Rest[i].Failed = false // a person wants it tried again
	}
	if err := r.spool.Settle(item.ID, p, spool.Deferred); err != nil {
		return err
	}
	item.State, item.Progress = spool.Deferred, p
	r.Add(item)
	return nil
}

// Drop removes a message for good, on a person's order.
func (r *Runner) Drop(item spool.Item) error {
	if _, active := r.queue.Remove(item.ID); active || item.State == spool.Active {
		return ErrBusy
	}
	if err := r.drop(item, "dropped by the administrator"); err != nil {
		r.Add(item)
		return err
	}
	return nil
}

// Awaken tries all relays that are thought to be away, in the background: a
// person says that they are back.
func (r *Runner) Awaken() {
	settings := r.settings.Load()
	if settings == nil {
		return
	}
	for _, pool := range settings.Relays.ByName {
		r.running.Go(func() {
			ctx, cancel := context.WithTimeout(r.working, awakenTime)
			defer cancel()
			if !awaken(ctx, pool) {
				return
			}
			for _, route := range settings.Relays.routesOf(pool) {
				r.queue.Resume(route)
			}
			r.signal()
		})
	}
}

// awakenTime is how long a person's word about the relays is acted upon.
const awakenTime = time.Minute

// awaken is true when the relay is there. Somebody else may be trying it at this
// moment, with the connection of before: then it is our turn after him.
func awaken(ctx context.Context, pool *relay.Pool) bool {
	for {
		err := pool.Probe(ctx)
		if failure := asRelayError(err); failure == nil || failure.Step != relay.StepBreaker {
			return err == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Second):
		}
	}
}

package admin

import (
	"context"
	"io"
	"time"

	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// Reader is what can be asked without changing anything. Many goroutines call
// it. Client has this shape too.
type Reader interface {
	// Status is the proxy's state now. It should not read all of the spool.
	Status(ctx context.Context) (Status, error)
	// Items calls yield with each message that the filter matches, in no order,
	// and ends with the error of yield if that has one. A message that cannot be
	// read keeps none of the others back; it is told by the error in the end.
	// yield waits for who asked: call it with no lock held.
	Items(ctx context.Context, f spool.Filter, yield func(spool.Item) error) error
	// Message opens one message, verified, for the caller to close. It fails
	// with spool.ErrUnknown if there is none of this id.
	Message(ctx context.Context, id string) (spool.Item, io.ReadCloser, error)
}

// LimitReader is what can be asked of the room that identities have. Many
// goroutines call it. Client has this shape too.
type LimitReader interface {
	// Limits are the states of all limits that an identity has now under a rule, and
	// of the budgets above it, as the configuration in force gives them. "" is the
	// rule that the key alone leads to.
	Limits(ctx context.Context, identity, rule string) ([]LimitState, error)
	// Suspensions are those in force, in no order.
	Suspensions(ctx context.Context) ([]limit.Suspension, error)
}

// Actor changes what becomes of messages and of identities. Client has this
// shape too. PeerUID tells whose order it is.
type Actor interface {
	// Act does op to each message that the filter matches, and calls done after
	// each with what came of it, from one goroutine. An id of the filter that no
	// such message has is told to done with an error. It ends early when ctx
	// does; what was done stays done. done waits for who asked: call it with no
	// lock held.
	Act(ctx context.Context, op Op, f spool.Filter, done func(Outcome)) error
	// Suspend turns an identity off, and is durable when it returns. A
	// suspension of the same key is replaced. The server has checked the key and
	// filled in By and Since.
	Suspend(ctx context.Context, s limit.Suspension) error
	// Resume ends a suspension, and is durable when it returns. It fails with
	// ErrNotSuspended if there is none of this key.
	Resume(ctx context.Context, key string) error
}

// LimitState is one limit of an identity, or of a budget above it.
type LimitState struct {
	Key     string    `json:"key"`   // whose: "uid:33", "unit:php8.2-fpm.service", "host"
	Limit   string    `json:"limit"` // in words: "100 messages/hour"
	Used    int64     `json:"used"`  // accepted in the window
	Max     int64     `json:"max"`
	Refused int64     `json:"refused"`        // in the window, for want of room
	Opens   time.Time `json:"opens,omitzero"` // when there is room again; zero: now
	// Raised says that this is no limit: a breaker has tripped, and the ladder of the
	// key begins so many rungs higher until Opens. Why says which.
	Raised int    `json:"raised,omitempty"`
	Why    string `json:"why,omitempty"`
}

// Op is what a person orders.
type Op string

// The operations.
const (
	Retry   Op = "retry"   // a deferred message is due at once
	Drop    Op = "drop"    // a message is removed, and nobody is told
	Release Op = "release" // a message in hold is due at once, whatever held it
)

// States are those in which a message can be for the operation.
func (op Op) States() []spool.State {
	switch op {
	case Retry:
		return []spool.State{spool.Active, spool.Deferred}
	case Release:
		return []spool.State{spool.Hold}
	case Drop:
		return []spool.State{spool.Active, spool.Deferred, spool.Hold}
	}
	return nil
}

// Outcome is what came of an operation for one message.
type Outcome struct {
	ID    string `json:"id"`
	Error string `json:"error,omitempty"` // empty: it was done
	Done  int    `json:"done"`            // how many messages there was an outcome for, with this one
	Total int    `json:"total"`           // of how many; 0 if that is not known
}

// Status is the state of a proxy.
type Status struct {
	Started  time.Time `json:"started"`
	Sessions int       `json:"sessions"`
	// Suspended is how many identities and units are.
	Suspended int            `json:"suspended"`
	Spool     SpoolStatus    `json:"spool"`
	Relays    []relay.Status `json:"relays"` // in the order in which they are tried
	// Conditions are what degrades the proxy, by the part that has it.
	Conditions map[string]string `json:"conditions"`
}

// SpoolStatus is what the spool holds.
type SpoolStatus struct {
	Bytes    int64          `json:"bytes"` // of all files
	MaxBytes int64          `json:"max_bytes"`
	Messages int            `json:"messages"`
	ByState  map[string]int `json:"by_state"`
	// Oldest is when the oldest message was taken that is not in hold: what is
	// waits for a person.
	Oldest  time.Time `json:"oldest,omitzero"`
	Corrupt int       `json:"corrupt"` // damaged messages, put aside
}

package admin

import (
	"context"
	"io"
	"time"

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

// Actor changes what becomes of messages. Client has this shape too.
type Actor interface {
	// Act does op to each message that the filter matches, and calls done after
	// each with what came of it, from one goroutine. An id of the filter that no
	// such message has is told to done with an error. It ends early when ctx
	// does; what was done stays done. done waits for who asked: call it with no
	// lock held. PeerUID tells whose order it is.
	Act(ctx context.Context, op Op, f spool.Filter, done func(Outcome)) error
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
	Started  time.Time      `json:"started"`
	Sessions int            `json:"sessions"`
	Spool    SpoolStatus    `json:"spool"`
	Relays   []relay.Status `json:"relays"` // in the order in which they are tried
	// Conditions are what degrades the proxy, by the part that has it.
	Conditions map[string]string `json:"conditions"`
}

// SpoolStatus is what the spool holds.
type SpoolStatus struct {
	Bytes    int64          `json:"bytes"` // of all files
	MaxBytes int64          `json:"max_bytes"`
	Messages int            `json:"messages"`
	ByState  map[string]int `json:"by_state"`
	Oldest   time.Time      `json:"oldest,omitzero"` // when the oldest message was taken
	Corrupt  int            `json:"corrupt"`         // damaged messages, put aside
}

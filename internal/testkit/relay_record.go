package testkit

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// RelayMessage is one message that the relay took: answered with 250, or with
// Fault.Taken.
type RelayMessage struct {
	Connection int64     // which connection brought it, counted from 1
	At         time.Time // when the end of data was seen
	TLS        bool
	Hello      string // the argument of EHLO or HELO
	AuthUser   string // "" without AUTH
	Implicit   bool   // the connection began with the TLS handshake

	ReversePath string // without angle brackets; "" is the null reverse-path
	MailParams  []string
	Recipients  []RelayRecipient

	// Marker is the rest of the line that RelayOptions.DigestFrom begins, without
	// blanks around it; "" if there is none, or of more than 512 octets.
	Marker string

	Size   int64  // bytes of content, transparency removed
	Digest string // raw bytes of the digest from RelayOptions.DigestFrom on
	Bytes  []byte // the content, with RelayOptions.KeepBytes
}

// RelayRecipient is one accepted RCPT.
type RelayRecipient struct {
	Path   string // without angle brackets
	Params []string
}

// RelayCounters count since the relay was made.
type RelayCounters struct {
	Connections  int64 // accepted TCP connections
	Open         int64 // of these, open now
	Handshakes   int64 // completed TLS handshakes
	Auths        int64 // successful AUTH exchanges
	AuthFailures int64
	Transactions int64 // messages taken
	Flights      int64 // writes of one or more replies
	Faults       int64 // times that a fault acted
}

// Counters returns the present counts.
func (r *Relay) Counters() RelayCounters {
	r.mu.Lock()
	open := int64(len(r.open))
	r.mu.Unlock()
	return RelayCounters{
		Connections:  r.counters.connections.Load(),
		Open:         open,
		Handshakes:   r.counters.handshakes.Load(),
		Auths:        r.counters.auths.Load(),
		AuthFailures: r.counters.authFailures.Load(),
		Transactions: r.counters.transactions.Load(),
		Flights:      r.counters.flights.Load(),
		Faults:       r.counters.faults.Load(),
	}
}

// Messages returns what was recorded so far, in the order of their ends of data.
func (r *Relay) Messages() []RelayMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// TakeMessages returns what was recorded and forgets it.
func (r *Relay) TakeMessages() []RelayMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.messages
	r.messages = nil
	return taken
}

// Tally is how often each message is recorded, by its marker.
func (r *Relay) Tally() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	tally := make(map[string]int, len(r.messages))
	for _, message := range r.messages {
		tally[message.Marker]++
	}
	return tally
}

// WaitMessages waits until at least n messages are recorded and returns all of
// them, or what there is with the context's error.
func (r *Relay) WaitMessages(ctx context.Context, n int) ([]RelayMessage, error) {
	// Under the lock, so that the wake-up cannot fall between test and Wait.
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recorded.Broadcast()
	})
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.messages) < n {
		if ctx.Err() != nil {
			return slices.Clone(r.messages), fmt.Errorf("waiting for message %d of %d: %w", len(r.messages)+1, n, ctx.Err())
		}
		r.recorded.Wait()
	}
	return slices.Clone(r.messages), nil
}

func (r *Relay) record(message RelayMessage) {
	r.counters.transactions.Add(1)
	r.mu.Lock()
	r.messages = append(r.messages, message)
	r.mu.Unlock()
	r.recorded.Broadcast()
}

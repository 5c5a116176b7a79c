package proxy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

const heldMessage = "From: a@example.com\r\nSubject: held\r\n\r\n.dot\r\n"

// hold puts a message of www-data into the spool, as a session does while there
// is no relay.
func (b *stand) hold(t *testing.T, recipients ...string) (id string) {
	t.Helper()
	uid := uint32(33)
	entry := spool.Entry{
		Reason: reasonNoRelay, Envelope: smtp.Envelope{ReversePath: b.sender},
		Identity: spool.Identity{UID: &uid, User: "www-data", Listener: "submission"},
	}
	for _, address := range recipients {
		entry.Envelope.Recipients = append(entry.Envelope.Recipients, smtp.Recipient{Address: address})
	}
	writer, err := b.spool.Create(entry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write([]byte(heldMessage)); err != nil {
		t.Fatal(err)
	}
	if id, err = writer.Commit(); err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *stand) releaser(t *testing.T) *Releaser {
	r := newReleaser(b.spool, b.events, zaptest.NewLogger(t))
	r.Apply(b.settings)
	return r
}

// held is what the spool has: the recipients of each message.
func (b *stand) held(t *testing.T) (recipients []string) {
	t.Helper()
	entries, err := b.spool.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		for _, rcpt := range entry.Envelope.Recipients {
			recipients = append(recipients, rcpt.Address)
		}
	}
	return recipients
}

// delivered is what the relay has: the recipients of each message, which must
// be the one that was held.
func (b *stand) delivered(t *testing.T) (recipients []string) {
	t.Helper()
	for _, message := range b.relay.Messages() {
		if string(message.Bytes) != heldMessage {
			t.Fatalf("delivered %q", message.Bytes)
		}
		for _, rcpt := range message.Recipients {
			recipients = append(recipients, rcpt.Path)
		}
	}
	return recipients
}

func TestRelease(t *testing.T) {
	for _, test := range []struct {
		name            string
		options         map[string]string
		fault           testkit.Fault
		at              testkit.RelayStep
		held, delivered []string // after the first pass
		custody         string
		afterwards      []string // held after a second pass without the fault
	}{
		{name: "delivered", delivered: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodyRelay},
		{name: "one recipient refused", at: testkit.StepRcpt, fault: testkit.Fault{Text: "550 5.1.1 no", Contains: "bad@"},
			held: []string{"bad@example.net"}, delivered: []string{"good@example.net"}, custody: audit.CustodySpool,
			afterwards: []string{"bad@example.net"}},
		{name: "one recipient later", at: testkit.StepRcpt, fault: testkit.Fault{Text: "450 4.2.1 later", Contains: "bad@"},
			held: []string{"bad@example.net"}, delivered: []string{"good@example.net"}, custody: audit.CustodySpool},
		{name: "all recipients refused", at: testkit.StepRcpt, fault: testkit.Fault{Text: "550 5.1.1 no"},
			held: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodySpool,
			afterwards: []string{"good@example.net", "bad@example.net"}},
		{name: "message refused", at: testkit.StepEnd, fault: testkit.Fault{Text: "554 5.7.1 spam"},
			held: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodySpool,
			afterwards: []string{"good@example.net", "bad@example.net"}},
		{name: "message later", at: testkit.StepEnd, fault: testkit.Fault{Text: "451 4.3.0 later"},
			held: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodySpool},
		{name: "relay closes", at: testkit.StepEnd, fault: testkit.Fault{Text: "421 4.3.0 closing"},
			held: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodySpool},
		{name: "relay gone in the envelope", at: testkit.StepRcpt, fault: testkit.Fault{Act: testkit.Hangup},
			held: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodySpool},
		{name: "relay gone in the data", at: testkit.StepEnd, fault: testkit.Fault{Act: testkit.Hangup},
			held: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodyUnknown},
		{name: "policy refuses", options: map[string]string{"policy": "deny"},
			held: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodySpool,
			afterwards: []string{"good@example.net", "bad@example.net"}},
		{name: "policy reads the header", options: map[string]string{"policy": "sites"},
			delivered: []string{"good@example.net", "bad@example.net"}, custody: audit.CustodyRelay},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newStand(t, test.options)
			id := b.hold(t, "good@example.net", "bad@example.net")
			if test.at != "" {
				b.relay.On(test.at, test.fault)
			}
			r := b.releaser(t)
			r.pass()
			if got := b.held(t); !slices.Equal(got, test.held) {
				t.Errorf("held %v, want %v", got, test.held)
			}
			if got := b.delivered(t); !slices.Equal(got, test.delivered) {
				t.Errorf("delivered %v, want %v", got, test.delivered)
			}
			events := b.events.all()
			if len(events) != 1 || events[0].Txn != id || events[0].Custody != test.custody || strings.HasPrefix(events[0].RelayReply, "000") {
				t.Errorf("events %+v, want one with custody %q", events, test.custody)
			}
			b.relay.ClearFaults()
			r.pass()
			if got := b.held(t); !slices.Equal(got, test.afterwards) {
				t.Errorf("held %v in the end, want %v", got, test.afterwards)
			}
			if everybody := append(b.delivered(t), b.held(t)...); len(everybody) != 2 {
				t.Errorf("each recipient in one place, but %v", everybody)
			}
		})
	}
}

// A From field that policy has not seen yet, since the message was held under
// other rules.
func TestReleaseReadsTheHeader(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "notices"})
	b.sender = ""
	b.hold(t, "a@example.net")
	b.releaser(t).pass()
	if events := b.events.all(); len(b.held(t)) != 1 || len(events) != 1 || events[0].Reason != policy.ReasonHeaderFrom {
		t.Fatalf("held %v, events %+v", b.held(t), events)
	}
}

// What one configuration does not let go the next one may.
func TestReleaseTriesAgainWithNewSettings(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "deny"})
	b.hold(t, "a@example.net")
	r := b.releaser(t)
	r.pass()
	r.pass()
	if n := len(b.events.all()); n != 1 {
		t.Fatalf("%d events, a refused message is not tried again by itself", n)
	}
	next := *b.settings
	next.Policy = testPolicy(t, "")
	r.Apply(&next)
	r.pass()
	if held := b.held(t); len(held) != 0 {
		t.Fatalf("still held: %v", held)
	}
}

// A relay that is away is tried once a pass, not once a message.
func TestReleaseWhileTheRelayIsAway(t *testing.T) {
	b := newStand(t, map[string]string{"relay": "down"})
	for range 5 {
		b.hold(t, "a@example.net")
	}
	r := b.releaser(t)
	r.pass()
	if held, events := b.held(t), b.events.all(); len(held) != 5 || len(events) != 1 {
		t.Fatalf("%d held, %d events", len(held), len(events))
	}
}

// A message that the relay chokes on does not hold up those behind it.
func TestReleasePassesAPoisonousMessage(t *testing.T) {
	b := newStand(t, nil)
	b.relay.On(testkit.StepRcpt, testkit.Fault{Act: testkit.Hangup, Contains: "poison@"})
	b.hold(t, "poison@example.net")
	b.hold(t, "a@example.net")
	b.releaser(t).pass()
	if held := b.held(t); !slices.Equal(held, []string{"poison@example.net"}) {
		t.Fatalf("held %v", held)
	}
}

// A crash after the relay took the message and before the spool let it go: the
// message comes again, since the other way round it could be lost.
func TestReleaseAfterACrash(t *testing.T) {
	b := newStand(t, nil)
	id := b.hold(t, "a@example.net")
	r := b.releaser(t)
	entries, err := b.spool.List()
	if err != nil {
		t.Fatal(err)
	}
	message, err := b.spool.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	a := &releaseAttempt{settings: b.settings, entry: entries[0], away: map[string]bool{}, began: time.Now()}
	if err := a.deliver(t.Context(), message); err != nil { // and here the process ends
		t.Fatal(err)
	}
	_ = message.Close()
	r.pass()
	if n := len(b.relay.Messages()); n != 2 || len(b.held(t)) != 0 {
		t.Fatalf("%d deliveries, held %v", n, b.held(t))
	}
}

// Stop lets the delivery under way end; one that has no end is cut off and stays.
func TestReleaserStops(t *testing.T) {
	b := newStand(t, nil)
	b.hold(t, "a@example.net")
	b.relay.On(testkit.StepEnd, testkit.Fault{Act: testkit.Stall, For: 50 * time.Millisecond, Times: 1})
	before := b.relay.Counters().Flights
	r := NewReleaser(b.spool, b.events, zaptest.NewLogger(t))
	r.Apply(b.settings)
	b.waitForFlight(t, before)
	if err := r.Stop(t.Context()); err != nil || len(b.held(t)) != 0 {
		t.Fatalf("%v, held %v", err, b.held(t))
	}

	b.hold(t, "b@example.net")
	b.relay.On(testkit.StepEnd, testkit.Fault{Act: testkit.Stall})
	before = b.relay.Counters().Flights
	r = NewReleaser(b.spool, b.events, zaptest.NewLogger(t))
	r.Apply(b.settings)
	b.waitForFlight(t, before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Stop(ctx); err != nil || !slices.Equal(b.held(t), []string{"b@example.net"}) {
		t.Fatalf("%v, held %v", err, b.held(t))
	}
}

// waitForFlight returns once the relay has answered something more.
func (b *stand) waitForFlight(t *testing.T, before int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); b.relay.Counters().Flights == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the relay hears nothing")
		}
	}
}

func TestEventsAreWrittenThoughTheLogFails(t *testing.T) {
	b := newStand(t, nil)
	b.events.fail(errors.New("disk full"))
	b.hold(t, "a@example.net")
	b.releaser(t).pass()
	if len(b.held(t)) != 0 {
		t.Fatal("a message that was delivered must leave the spool")
	}
}

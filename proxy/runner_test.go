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
	"github.com/smtpwall/smtpwall/proxy/queue"
	"github.com/smtpwall/smtpwall/proxy/smtp"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

const keptMessage = "From: a@example.com\r\nSubject: kept\r\n\r\n.dot\r\n"

// keep puts a message of www-data into the spool, as a session does.
func (b *stand) keep(t *testing.T, state spool.State, p spool.Progress, recipients ...string) (id string) {
	t.Helper()
	uid := b.uid
	entry := spool.Entry{
		ID: spool.NewID(time.Now()), Time: time.Now(), Envelope: smtp.Envelope{ReversePath: b.sender},
		Identity: spool.Identity{UID: &uid, User: b.user, Listener: "submission"},
	}
	for _, address := range recipients {
		rcpt := smtp.Recipient{Address: address}
		if notify, name, ok := strings.Cut(address, "!"); ok {
			rcpt.Address, rcpt.Params.Notify = name, notify
		}
		entry.Envelope.Recipients = append(entry.Envelope.Recipients, rcpt)
	}
	writer, err := b.spool.Create(entry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Write([]byte(keptMessage)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Commit(state, p); err != nil {
		t.Fatal(err)
	}
	return entry.ID
}

// newRunner has settings and no goroutine; pass does its work.
func (b *stand) newRunner(t *testing.T) *Runner {
	r := NewRunner(RunnerOptions{Spool: b.spool, Events: b.events, Logger: zaptest.NewLogger(t)})
	r.settings.Store(b.settings)
	r.calendar.start = time.Now().Add(-time.Hour) // messages may expire
	return r
}

// pass tries what the spool has and is due at a time.
func (r *Runner) pass(now time.Time) {
	r.load()
	for _, route := range []string{"", "main"} {
		r.queue.Resume(route)
	}
	for tries := 0; tries < 100; tries++ {
		item, ok := r.queue.Take(now)
		if !ok {
			return
		}
		r.try(item)
	}
}

// kept is who still waits in the spool, in a state; "!" marks those that failed
// for good.
func (b *stand) kept(t *testing.T, states ...spool.State) (recipients []string) {
	t.Helper()
	for item, err := range b.spool.All(states...) {
		if err != nil {
			t.Fatal(err)
		}
		rest := item.Progress.Rest
		for i := range item.Envelope.Recipients {
			if item.Progress.Rest == nil {
				rest = append(rest, spool.Due{Rcpt: i})
			}
		}
		for _, due := range rest {
			name := item.Envelope.Recipients[due.Rcpt].Address
			if due.Failed {
				name = "!" + name
			}
			recipients = append(recipients, name)
		}
	}
	slices.Sort(recipients)
	return recipients
}

// delivered is what the relay has: the recipients of each message, which must
// be the one that was kept.
func (b *stand) delivered(t *testing.T) (recipients []string) {
	t.Helper()
	for _, message := range b.relay.Messages() {
		if string(message.Bytes) != keptMessage {
			continue
		}
		for _, rcpt := range message.Recipients {
			recipients = append(recipients, rcpt.Path)
		}
	}
	slices.Sort(recipients)
	return recipients
}

// deliveries are the events of the runner.
func (b *stand) deliveries() (events []audit.Event) {
	for _, event := range b.events.all() {
		if event.Kind == audit.KindDelivery {
			events = append(events, event)
		}
	}
	return events
}

func TestRunner(t *testing.T) {
	const good, bad = "good@example.net", "bad@example.net"
	both := []string{bad, good}
	for _, test := range []struct {
		name                 string
		options              map[string]string
		at                   testkit.RelayStep
		fault                testkit.Fault
		waits, held, reached []string
		custody              string
		duplicate            bool
	}{
		{name: "delivered", reached: both, custody: audit.CustodyRelay},
		{name: "one recipient refused", at: testkit.StepRcpt, fault: testkit.Fault{Text: "550 5.1.1 no", Contains: "bad@"},
			held: []string{"!" + bad}, reached: []string{good}, custody: audit.CustodySpool},
		{name: "one recipient later", at: testkit.StepRcpt, fault: testkit.Fault{Text: "450 4.2.1 later", Contains: "bad@"},
			waits: []string{bad}, reached: []string{good}, custody: audit.CustodySpool},
		{name: "all recipients refused", at: testkit.StepRcpt, fault: testkit.Fault{Text: "550 5.1.1 no"},
			held: []string{"!" + bad, "!" + good}, custody: audit.CustodySpool},
		{name: "message refused", at: testkit.StepEnd, fault: testkit.Fault{Text: "554 5.7.1 spam"},
			held: []string{"!" + bad, "!" + good}, custody: audit.CustodySpool},
		{name: "sender refused", at: testkit.StepMail, fault: testkit.Fault{Text: "550 5.7.1 no"},
			held: []string{"!" + bad, "!" + good}, custody: audit.CustodySpool},
		{name: "message later", at: testkit.StepEnd, fault: testkit.Fault{Text: "451 4.3.0 later"}, waits: both, custody: audit.CustodySpool},
		{name: "relay closes", at: testkit.StepEnd, fault: testkit.Fault{Text: "421 4.3.0 closing"}, waits: both, custody: audit.CustodySpool},
		{name: "relay gone in the envelope", at: testkit.StepRcpt, fault: testkit.Fault{Act: testkit.Hangup}, waits: both, custody: audit.CustodySpool},
		{name: "relay gone in the data", at: testkit.StepEnd, fault: testkit.Fault{Act: testkit.Hangup},
			waits: both, custody: audit.CustodySpool, duplicate: true},
		{name: "policy refuses", options: map[string]string{"policy": "deny"}, held: both, custody: audit.CustodySpool},
		{name: "policy reads the header", options: map[string]string{"policy": "sites"}, reached: both, custody: audit.CustodyRelay},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newStand(t, test.options)
			id := b.keep(t, spool.Deferred, spool.Progress{}, good, bad)
			if test.at != "" {
				b.relay.On(test.at, test.fault)
			}
			r := b.newRunner(t)
			r.pass(time.Now())
			b.expectKept(t, test.waits, test.held)
			if got := b.delivered(t); !slices.Equal(got, test.reached) {
				t.Errorf("delivered %v, want %v", got, test.reached)
			}
			events := b.deliveries()
			if len(events) != 1 || events[0].Txn != id || events[0].Custody != test.custody || events[0].PossibleDuplicate != test.duplicate {
				t.Errorf("events %+v, want one with custody %q", events, test.custody)
			}
			// Without the fault, whoever waits has it next time, and nobody else.
			b.relay.ClearFaults()
			r.pass(time.Now().Add(2 * time.Minute))
			b.expectKept(t, nil, test.held)
			if everybody := append(b.delivered(t), b.kept(t)...); len(everybody) != 2 {
				t.Errorf("each recipient in one place, but %v", everybody)
			}
		})
	}
}

func (b *stand) expectKept(t *testing.T, waits, held []string) {
	t.Helper()
	if got := b.kept(t, spool.Deferred); !slices.Equal(got, waits) {
		t.Errorf("waiting are %v, want %v", got, waits)
	}
	if got := b.kept(t, spool.Hold); !slices.Equal(got, held) {
		t.Errorf("held are %v, want %v", got, held)
	}
	if got := b.kept(t, spool.Active); len(got) > 0 {
		t.Errorf("active are %v, but nothing is under way", got)
	}
}

// A message that was interrupted by a crash is delivered again, and says so.
func TestRunnerAfterACrash(t *testing.T) {
	b := newStand(t, nil)
	id := b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	r := b.newRunner(t)
	a := newAttempt(r, queue.Item{ID: id, Identity: "uid:33"})
	message, err := b.spool.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	a.open(message)
	if err := a.deliver(t.Context(), message); err != nil { // and here the process ends
		t.Fatal(err)
	}
	_ = message.Close()
	b.restartSpool(t)
	r = b.newRunner(t)
	r.pass(time.Now())
	events := b.deliveries()
	if n := len(b.delivered(t)); n != 2 || len(b.kept(t)) != 0 || len(events) != 1 || !events[0].PossibleDuplicate {
		t.Fatalf("%d deliveries, kept %v, events %+v", n, b.kept(t), events)
	}
}

// What one configuration does not let go the next one may, and it is not tried
// in between.
func TestRunnerTriesHeldMessagesWithNewSettings(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "deny"})
	b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	r := b.newRunner(t)
	r.pass(time.Now())
	if n := len(b.deliveries()); n != 1 {
		t.Fatalf("%d events", n)
	}
	r.pass(time.Now())
	if n := len(b.deliveries()); n != 1 {
		t.Fatalf("%d events, the same refusal is told again", n)
	}
	next := *b.settings
	next.Policy = testPolicy(t, "")
	r.settings.Store(&next)
	r.pass(time.Now())
	if kept := b.kept(t); len(kept) != 0 {
		t.Fatalf("still kept: %v", kept)
	}
}

// A From field that policy has not seen, since it is another policy now.
func TestRunnerReadsTheHeader(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "notices"})
	b.sender = ""
	b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	b.newRunner(t).pass(time.Now())
	if events := b.deliveries(); len(b.kept(t, spool.Hold)) != 1 || len(events) != 1 || events[0].Reason != policy.ReasonHeaderFrom {
		t.Fatalf("kept %v, events %+v", b.kept(t), events)
	}
}

// While the relay is away no message is used up, and none is tried over and
// over.
func TestRunnerWhileTheRelayIsAway(t *testing.T) {
	b := newStand(t, map[string]string{"relay": "down"})
	for range 5 {
		b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	}
	b.relay.DropConnections()
	r := b.newRunner(t)
	r.load()
	for range 5 {
		if item, ok := r.queue.Take(time.Now()); ok {
			r.try(item)
		}
	}
	if n := len(b.deliveries()); n != 0 || len(b.kept(t, spool.Deferred)) != 5 {
		t.Fatalf("%d events, waiting %v", n, b.kept(t, spool.Deferred))
	}
	if _, ok := r.queue.Take(time.Now()); ok {
		t.Error("the route is not paused")
	}
	for item, err := range b.spool.All(spool.Deferred) {
		if err != nil || item.Progress.Attempts != 0 {
			t.Errorf("%+v, %v", item.Progress, err)
		}
	}
}

// Stop lets the delivery under way end; one that has no end is cut off and stays.
func TestRunnerStops(t *testing.T) {
	b := newStand(t, nil)
	b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	b.relay.On(testkit.StepEnd, testkit.Fault{Act: testkit.Stall, For: 50 * time.Millisecond, Times: 1})
	before := b.relay.Counters().Flights
	r := NewRunner(RunnerOptions{Spool: b.spool, Events: b.events, Logger: zaptest.NewLogger(t)})
	r.Apply(b.settings)
	b.waitForFlight(t, before)
	if err := r.Stop(t.Context()); err != nil || len(b.kept(t)) != 0 {
		t.Fatalf("%v, kept %v", err, b.kept(t))
	}

	b.keep(t, spool.Deferred, spool.Progress{}, "b@example.net")
	b.relay.On(testkit.StepEnd, testkit.Fault{Act: testkit.Stall})
	before = b.relay.Counters().Flights
	r = NewRunner(RunnerOptions{Spool: b.spool, Events: b.events, Logger: zaptest.NewLogger(t)})
	r.Apply(b.settings)
	b.waitForFlight(t, before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Stop(ctx); err != nil || !slices.Equal(b.kept(t, spool.Deferred), []string{"b@example.net"}) {
		t.Fatalf("%v, kept %v", err, b.kept(t))
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

func TestRunnerThoughTheAuditFails(t *testing.T) {
	b := newStand(t, nil)
	b.events.fail(errors.New("disk full"))
	b.keep(t, spool.Deferred, spool.Progress{}, "a@example.net")
	b.newRunner(t).pass(time.Now())
	if len(b.kept(t)) != 0 {
		t.Fatal("a message that was delivered must leave the spool")
	}
}

package e2e_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// failure is a way in which a relay fails.
type failure struct {
	step      testkit.RelayStep
	fault     testkit.Fault
	code      int    // of a refusal for good, else 0
	text      string // of the relay
	duplicate bool   // the relay may have the message
}

func (f failure) String() string {
	taken := map[bool]string{true: ", taken"}[f.fault.Taken]
	return fmt.Sprintf("%s %d %s%s", f.step, f.fault.Act, f.fault.Text, taken)
}

// failures are those that every relay can meet.
func failures() []failure {
	all := append(brokenDialogues(), lostReplies()...)
	answer := func(step testkit.RelayStep, text string) failure {
		return failure{step: step, fault: testkit.Fault{Text: text}, text: text[len("421 "):]}
	}
	refusal := func(step testkit.RelayStep, text string) failure {
		f := answer(step, text)
		_, _ = fmt.Sscan(text, &f.code)
		return f
	}
	return append(all,
		answer(testkit.StepGreeting, "554 5.3.2 no service"),
		answer(testkit.StepGreeting, "421 4.3.2 try later"),
		answer(testkit.StepHello, "550 5.7.1 go away"),
		answer(testkit.StepSTARTTLS, "454 4.7.0 no TLS now"),
		answer(testkit.StepAuth, "535 5.7.8 wrong credentials"),
		answer(testkit.StepAuth, "454 4.7.0 cannot check now"),
		answer(testkit.StepMail, "451 4.3.0 out of order"),
		refusal(testkit.StepMail, "550 5.7.1 not this sender"),
		answer(testkit.StepMail, "421 4.3.2 shutting down"),
		answer(testkit.StepRcpt, "450 4.2.1 busy mailbox"),
		refusal(testkit.StepRcpt, "550 5.1.1 nobody here"),
		answer(testkit.StepRcpt, "421 4.3.2 shutting down"),
		answer(testkit.StepEnd, "451 4.3.0 queue is full"),
		refusal(testkit.StepEnd, "554 5.6.0 spam, we think"),
		answer(testkit.StepEnd, "421 4.3.2 shutting down"),
	)
}

// brokenDialogues end before the end of the data.
func brokenDialogues() (all []failure) {
	for _, step := range []testkit.RelayStep{
		testkit.StepGreeting, testkit.StepHello, testkit.StepSTARTTLS, testkit.StepHandshake, testkit.StepAuth,
		testkit.StepMail, testkit.StepRcpt,
	} {
		for _, act := range []testkit.Act{testkit.Hangup, testkit.Reset, testkit.Garbage} {
			all = append(all, failure{step: step, fault: testkit.Fault{Act: act}})
		}
	}
	for _, act := range []testkit.Act{testkit.Hangup, testkit.Reset} {
		all = append(all, failure{step: testkit.StepContent, fault: testkit.Fault{Act: act, Bytes: 64 << 10}})
	}
	return all
}

// lostReplies leave open whether the relay has the message: it has, or not.
func lostReplies() (all []failure) {
	for _, act := range []testkit.Act{testkit.Hangup, testkit.Reset, testkit.Garbage} {
		for _, taken := range []bool{false, true} {
			all = append(all, failure{step: testkit.StepEnd, fault: testkit.Fault{Act: act, Taken: taken}, duplicate: true})
		}
	}
	return all
}

// failuresOfDATA are those that a relay without CHUNKING can meet too.
func failuresOfDATA() []failure {
	return []failure{
		{step: testkit.StepData, fault: testkit.Fault{Text: "451 4.3.0 no data now"}, text: "4.3.0 no data now"},
		{step: testkit.StepData, fault: testkit.Fault{Text: "554 5.3.0 no data ever"}, text: "5.3.0 no data ever", code: 554},
		{step: testkit.StepData, fault: testkit.Fault{Act: testkit.Hangup}},
		{step: testkit.StepData, fault: testkit.Fault{Act: testkit.Reset}},
	}
}

// letter is one that meets the failure: for one within the content it is more
// than buffers hold.
func (f failure) letter() letter {
	if f.step == testkit.StepContent {
		return bigLetter(16 << 20)
	}
	return newLetter()
}

// TestFailingRelay: whatever the relay does, the client hears the truth. What the
// relay refuses for good the client keeps, and it never arrives; all else the
// client is rid of, and it arrives once the relay is well.
func TestFailingRelay(t *testing.T) {
	t.Parallel()
	for _, without := range [][]string{nil, {"CHUNKING"}, {"PIPELINING", "CHUNKING"}} {
		t.Run("without "+strings.Join(without, " and "), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{without: without})
			all := failures()
			if len(without) > 0 {
				all = append(all, failuresOfDATA()...)
			}
			for _, f := range all {
				t.Run(f.String(), func(t *testing.T) { b.checkFailure(t, f) })
			}
		})
	}
}

func (b *bed) checkFailure(t *testing.T, f failure) {
	b.relay.DropConnections() // so that the next one begins at the beginning
	b.relay.On(f.step, f.fault)
	failed, good := f.letter(), newLetter()
	k := b.talk(t)
	got := k.send(failed, sender, recipient)
	k.close()
	if strings.Contains(got.text, "203.0.113.10") || strings.Contains(got.text, relayUser) {
		t.Errorf("the client heard of the relay: %+v", got)
	}
	if f.code != 0 {
		b.checkKeptByClient(t, f, got)
		b.relay.ClearFaults()
	} else {
		b.checkTakenForRelay(t, f, got)
		b.relay.ClearFaults()
		b.retry(t, got.txn(t))
		b.checkArrivedAfter(t, f, failed, got.txn(t))
	}
	if got := b.talk(t).send(good, sender, recipient); got.code != 250 {
		t.Fatalf("once the relay is well the client hears %+v", got)
	}
	b.arrived(t, good, trace{"local process", "ESMTP"})
	if n := len(findAll(b.relay, failed)); f.code != 0 && n > 0 {
		t.Errorf("the relay has the message that it refused, %d times", n)
	}
	b.checkStored(t)
	b.relay.TakeMessages()
}

// checkKeptByClient: the client heard the relay's own refusal, and the message is
// nowhere with us.
func (b *bed) checkKeptByClient(t *testing.T, f failure, got reply) {
	t.Helper()
	if got.code != f.code || !strings.Contains(got.text, f.text) {
		t.Errorf("the client heard %+v, want %d %s", got, f.code, f.text)
	}
	event := b.transaction(t, got.txn(t))
	if event.Custody != audit.CustodyClient || event.ReplyCode != f.code {
		t.Errorf("the event says %+v, want custody client, reply %d", event, f.code)
	}
	b.checkStored(t)
}

// checkTakenForRelay: the client is rid of the message, and we have it.
func (b *bed) checkTakenForRelay(t *testing.T, f failure, got reply) {
	t.Helper()
	txn := got.txn(t)
	if got.code != 250 || got.text != "2.0.0 queued, the relay does not take it now [smtpwall "+txn+"]" {
		t.Fatalf("the client heard %+v, want that it is queued", got)
	}
	event := b.transaction(t, txn)
	if event.Custody != audit.CustodySpool || event.ReplyCode != 250 || event.PossibleDuplicate != f.duplicate ||
		event.Error == "" || !strings.Contains(event.RelayReply+event.Error, f.text) {
		t.Errorf("the event says %+v, want custody spool, possible duplicate %v, and of the relay %q", event, f.duplicate, f.text)
	}
	if stored := b.stored(t); len(stored) != 1 || !strings.HasPrefix(stored[0], txn+".") {
		t.Errorf("the spool has %v, want %s", stored, txn)
	}
}

// checkArrivedAfter: the letter is at the relay, whole, and once; twice only where
// the relay had taken it and not said so.
func (b *bed) checkArrivedAfter(t *testing.T, f failure, l letter, txn string) {
	t.Helper()
	event := b.awaitDelivery(t, txn)
	if event.PossibleDuplicate != f.duplicate || event.Relay != "main" || event.RcptCount != 1 || event.Recipients[0].ReplyCode != 250 {
		t.Errorf("the event of the delivery says %+v, want possible duplicate %v", event, f.duplicate)
	}
	want := map[bool]int{false: 1, true: 2}[f.fault.Taken]
	copies := findAll(b.relay, l)
	if len(copies) != want {
		t.Fatalf("the relay has the letter %d times, want %d", len(copies), want)
	}
	for _, message := range copies {
		if id := (trace{"local process", "ESMTP"}).check(t, l.compare(t, message.Bytes)); id != txn || message.ReversePath != sender {
			t.Errorf("the relay has %s from %s, want %s from %s", id, message.ReversePath, txn, sender)
		}
	}
}

// TestRelayAway: nobody listens, and what clients send meanwhile arrives once
// somebody does, without anybody's order.
func TestRelayAway(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	_ = b.relay.Close()
	b.start(setup{})
	first, second := newLetter(), newLetter()
	k := b.talk(t)
	got := k.send(first, sender, recipient)
	b.checkTakenForRelay(t, failure{text: "connecting to the relay"}, got)
	b.relay = b.startRelay(relayAddr)
	b.arrivedLater(t, first, got.txn(t), trace{"local process", "ESMTP"})
	if got := k.send(second, sender, recipient); got.code != 250 || strings.Contains(got.text, "queued,") {
		t.Errorf("once the relay is there the client hears %+v", got)
	}
	b.arrived(t, second, trace{"local process", "ESMTP"})
}

// TestUnverifiedRelay: a relay that cannot prove its name gets neither the
// password nor the message, which waits until it can.
func TestUnverifiedRelay(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	b.write("relay-ca.pem", string(newAuthority(t).pem), 0o644, 0)
	b.start(setup{})
	l := newLetter()
	got := b.talk(t).send(l, sender, recipient)
	b.checkTakenForRelay(t, failure{text: "certificate signed by unknown authority"}, got)
	if c := b.relay.Counters(); c.Connections == 0 || c.Auths+c.AuthFailures+c.Transactions > 0 {
		t.Errorf("the relay counts %+v", c)
	}
	if _, all := b.list(t, "queue", "--reason", "unknown authority"); len(all) != 1 {
		t.Errorf("the queue does not say why: %+v", all)
	}
	b.write("relay-ca.pem", string(b.authority.pem), 0o644, 0)
	b.reload(setup{})
	b.arrivedLater(t, l, got.txn(t), trace{"local process", "ESMTP"})
}

// TestClientLeaves: a client that goes away has exactly one event for each
// transaction that it began, and the relay has no message.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{})
	for name, leave := range map[string]func(*talk){
		"after MAIL": func(*talk) {},
		"after RCPT": func(k *talk) { k.must(250, "RCPT TO:<%s>", recipient) },
		"after DATA": func(k *talk) { k.must(250, "RCPT TO:<%s>", recipient); k.must(354, "DATA") },
		"within data": func(k *talk) {
			k.must(250, "RCPT TO:<%s>", recipient)
			k.must(354, "DATA")
			_ = k.text.PrintfLine("Subject: half\r\n\r\nof a message")
		},
		"before the end of data": func(k *talk) {
			k.must(250, "RCPT TO:<%s>", recipient)
			k.must(354, "DATA")
			_, _ = io.WriteString(k.text.W, "Subject: all\r\n\r\nbut the end\r\n.\r")
			_ = k.text.W.Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			from := randomWord() + "@shop.example"
			k := b.talk(t)
			k.must(250, "MAIL FROM:<%s>", from)
			leave(k)
			k.close()
			event := b.awaitEvent(t, "the client that left", func(e audit.Event) bool { return e.ReversePath == from })
			if event.Custody != audit.CustodyClient {
				t.Errorf("the event says %+v", event)
			}
			b.transaction(t, event.Txn)
		})
	}
	if n := len(b.relay.Messages()); n > 0 {
		t.Errorf("the relay has %d messages", n)
	}
}

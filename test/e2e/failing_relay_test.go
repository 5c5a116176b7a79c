package e2e_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// failure is a way in which a relay fails, and what the client hears then.
type failure struct {
	step    testkit.RelayStep
	fault   testkit.Fault
	code    int    // 0: any transient one
	text    string // of the relay, in the reply
	custody string // client unless told
}

// failures are those that every relay can meet.
func failures() []failure {
	hangup, reset, garbage := testkit.Fault{Act: testkit.Hangup}, testkit.Fault{Act: testkit.Reset}, testkit.Fault{Act: testkit.Garbage}
	answer := func(text string) testkit.Fault { return testkit.Fault{Text: text} }
	var all []failure
	for _, step := range []testkit.RelayStep{
		testkit.StepGreeting, testkit.StepHello, testkit.StepSTARTTLS, testkit.StepHandshake, testkit.StepAuth,
		testkit.StepMail, testkit.StepRcpt,
	} {
		all = append(all, failure{step: step, fault: hangup}, failure{step: step, fault: reset}, failure{step: step, fault: garbage})
	}
	for _, fault := range []testkit.Fault{hangup, reset} {
		fault.Bytes = 64 << 10
		all = append(all, failure{step: testkit.StepContent, fault: fault})
	}
	for _, fault := range []testkit.Fault{hangup, reset, garbage} {
		all = append(all, failure{step: testkit.StepEnd, fault: fault, custody: audit.CustodyUnknown})
	}
	return append(all,
		failure{step: testkit.StepGreeting, fault: answer("554 5.3.2 no service")},
		failure{step: testkit.StepGreeting, fault: answer("421 4.3.2 try later")},
		failure{step: testkit.StepHello, fault: answer("550 5.7.1 go away")},
		failure{step: testkit.StepSTARTTLS, fault: answer("454 4.7.0 no TLS now")},
		failure{step: testkit.StepAuth, fault: answer("535 5.7.8 wrong credentials")},
		failure{step: testkit.StepAuth, fault: answer("454 4.7.0 cannot check now")},
		failure{step: testkit.StepMail, fault: answer("451 4.3.0 out of order"), code: 451, text: "4.3.0 out of order"},
		failure{step: testkit.StepMail, fault: answer("550 5.7.1 not this sender"), code: 550, text: "5.7.1 not this sender"},
		failure{step: testkit.StepMail, fault: answer("421 4.3.2 shutting down")},
		failure{step: testkit.StepRcpt, fault: answer("450 4.2.1 busy mailbox"), code: 450, text: "4.2.1 busy mailbox"},
		failure{step: testkit.StepRcpt, fault: answer("550 5.1.1 nobody here"), code: 550, text: "5.1.1 nobody here"},
		failure{step: testkit.StepRcpt, fault: answer("421 4.3.2 shutting down")},
		failure{step: testkit.StepEnd, fault: answer("451 4.3.0 queue is full"), code: 451, text: "4.3.0 queue is full"},
		failure{step: testkit.StepEnd, fault: answer("554 5.6.0 spam, we think"), code: 554, text: "5.6.0 spam, we think"},
		failure{step: testkit.StepEnd, fault: answer("421 4.3.2 shutting down"), code: 451},
	)
}

// TestFailingRelay: whatever the relay does, the client hears the truth.
func TestFailingRelay(t *testing.T) {
	t.Parallel()
	for _, without := range [][]string{nil, {"CHUNKING"}, {"PIPELINING", "CHUNKING"}} {
		t.Run("without "+strings.Join(without, " and "), func(t *testing.T) {
			b := newBed(t, setup{without: without})
			all := failures()
			if len(without) > 0 {
				all = append(all,
					failure{step: testkit.StepData, fault: testkit.Fault{Text: "451 4.3.0 no data now"}, code: 451, text: "4.3.0 no data now"},
					failure{step: testkit.StepData, fault: testkit.Fault{Act: testkit.Hangup}},
					failure{step: testkit.StepData, fault: testkit.Fault{Act: testkit.Reset}})
			}
			for _, f := range all {
				t.Run(fmt.Sprintf("%s %d %s", f.step, f.fault.Act, f.fault.Text), func(t *testing.T) { b.checkFailure(t, f) })
			}
		})
	}
}

func (b *bed) checkFailure(t *testing.T, f failure) {
	b.relay.DropConnections() // so that the next one begins at the beginning
	b.relay.On(f.step, f.fault)
	failed, good := newLetter(), newLetter()
	if f.step == testkit.StepContent {
		failed = bigLetter(16 << 20) // more than buffers hold, so that the relay fails within it
	}
	k := b.talk(t)
	got := k.send(failed, sender, recipient)
	k.close()
	if f.code == 0 && got.code/100 != 4 || f.code != 0 && got.code != f.code || !strings.Contains(got.text, f.text) {
		t.Errorf("the client heard %+v, want %d %s", got, f.code, f.text)
	}
	if strings.Contains(got.text, "203.0.113.10") || strings.Contains(got.text, relayUser) {
		t.Errorf("the client heard of the relay: %+v", got)
	}
	event := b.transaction(t, got.txn(t))
	if f.custody == "" {
		f.custody = audit.CustodyClient
	}
	if event.Custody != f.custody || event.ReplyCode != got.code || f.code == 0 && event.Error == "" {
		t.Errorf("the event says %+v, want custody %s, reply %d", event, f.custody, got.code)
	}
	b.relay.ClearFaults()
	if got := b.talk(t).send(good, sender, recipient); got.code != 250 {
		t.Fatalf("once the relay is well the client hears %+v", got)
	}
	b.arrived(t, good, trace{"local process", "ESMTP"})
	for _, message := range b.relay.TakeMessages() {
		if strings.Contains(string(message.Bytes), failed.marker) {
			t.Error("the relay has the message that it failed to take")
		}
	}
}

// TestRelayAway: nobody listens, and somebody does again.
func TestRelayAway(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	_ = b.relay.Close()
	b.start(setup{})
	l := newLetter()
	k := b.talk(t)
	got := k.send(l, sender, recipient)
	k.must(250, "RSET")
	if got.code/100 != 4 || b.transaction(t, got.txn(t)).Custody != audit.CustodyClient {
		t.Errorf("the client heard %+v", got)
	}
	b.relay = b.startRelay(relayAddr)
	if got := k.send(l, sender, recipient); got.code != 250 {
		t.Errorf("once the relay is there the client hears %+v", got)
	}
	b.arrived(t, l, trace{"local process", "ESMTP"})
}

// TestUnverifiedRelay: a relay that cannot prove its name gets neither the
// password nor the message.
func TestUnverifiedRelay(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	b.write("relay-ca.pem", string(newAuthority(t).pem), 0o644, 0)
	b.start(setup{})
	got := b.talk(t).send(newLetter(), sender, recipient)
	if got.code/100 != 4 || !strings.Contains(got.text, "TLS") {
		t.Errorf("the client heard %+v", got)
	}
	if c := b.relay.Counters(); c.Connections == 0 || c.Auths+c.AuthFailures+c.Transactions > 0 {
		t.Errorf("the relay counts %+v", c)
	}
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

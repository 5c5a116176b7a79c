package e2e_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// checkQueuedReply: the client's program shows that the message is queued, and
// Postfix delivers what was sent.
func (b *bed) checkQueuedReply(t *testing.T, p *postfix, l letter, said, text string, want trace) {
	t.Helper()
	if !strings.Contains(said, "250 2.0.0 "+text+" [smtpwall ") {
		t.Errorf("the client was told:\n%s", said)
	}
	b.checkDelivered(t, p, l, want)
}

// TestQueueMode: the programs that people use, a real Postfix behind us, and the
// spool in between.
func TestQueueMode(t *testing.T) {
	t.Parallel()
	s := setup{idle: true, delivery: `mode = "queue"`, config: ownSenders}
	b := newBed(t, s)
	p := b.startPostfix("PLAIN LOGIN")
	b.start(s)
	local := trace{"local process", "ESMTPS"}
	swaks := []string{"--server", "127.0.0.1:587", "--tls"}
	t.Run("swaks", func(t *testing.T) {
		l := newLetter()
		b.checkQueuedReply(t, p, l, mustSucceed(t, b.program("swaks", b.swaks(l, swaks...)...)), "queued", local)
	})
	t.Run("msmtp", func(t *testing.T) {
		l := newLetter()
		mustSucceed(t, b.msmtp("submission", l))
		b.checkDelivered(t, p, l, local)
	})
	t.Run("smtplib", func(t *testing.T) {
		l := newLetter()
		got := b.python(t, order{Host: "localhost", Port: 465, TLS: "implicit", CA: b.localCA(), File: b.letterFile(l)})
		if got.Error != nil || len(got.Refused) > 0 {
			t.Errorf("smtplib says %+v", got)
		}
		b.checkDelivered(t, p, l, local)
	})
	t.Run("big", func(t *testing.T) {
		l := bigLetter(25 << 20)
		said := mustSucceed(t, b.program("curl", b.curl(l, "smtp://localhost:587", "--ssl-reqd")...))
		b.checkQueuedReply(t, p, l, said, "queued", local)
	})
	t.Run("Postfix away", func(t *testing.T) { b.checkPostfixAway(t, p, "queued") })
	b.checkStored(t)
	for _, event := range b.events("--kind", "transaction") {
		if event.Custody != audit.CustodySpool || event.Relay != "" || event.ReplyCode != 250 || event.PossibleDuplicate {
			t.Errorf("the event of a message that the spool took first says %+v", event)
		}
	}
}

// TestPostfixAway: the same in proxy mode, where the spool is needed only while
// Postfix is away.
func TestPostfixAway(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{idle: true})
	p := b.startPostfix("PLAIN LOGIN")
	b.start(setup{})
	l := newLetter()
	mustSucceed(t, b.msmtp("submission", l))
	b.checkDelivered(t, p, l, trace{"local process", "ESMTPS"})
	b.checkPostfixAway(t, p, "queued, the relay does not take it now")
	b.checkStored(t)
}

// checkPostfixAway: Postfix is stopped, clients notice nothing of it, and it gets
// all of their letters when it is back.
func (b *bed) checkPostfixAway(t *testing.T, p *postfix, text string) {
	p.stop()
	bySwaks, byMsmtp := newLetter(), newLetter()
	said := mustSucceed(t, b.program("swaks", b.swaks(bySwaks, "--server", "127.0.0.1:587", "--tls")...))
	mustSucceed(t, b.msmtp("alternate", byMsmtp))
	waiting, _ := b.list(t, "queue")
	if len(waiting) != 2 {
		t.Errorf("while Postfix is away the queue has %v, want two messages", waiting)
	}
	b.runMaster(p)
	b.awaitAnswer(p.where, netip.AddrPortFrom(relayAddr, 587))
	b.retry(t, waiting...)
	b.checkQueuedReply(t, p, bySwaks, said, text, trace{"local process", "ESMTPS"})
	b.checkDelivered(t, p, byMsmtp, trace{"local process", "ESMTP"})
}

// TestFailingRelayOfQueue: in queue mode the client hears nothing of what the
// relay does. The message arrives once the relay is well, or, where the relay
// refused it for good, its sender has a notice.
func TestFailingRelayOfQueue(t *testing.T) {
	t.Parallel()
	for _, without := range [][]string{nil, {"PIPELINING", "CHUNKING"}} {
		t.Run("without "+strings.Join(without, " and "), func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{delivery: `mode = "queue"`, config: ownSenders, without: without})
			all := failures()
			if len(without) > 0 {
				all = append(all, failuresOfDATA()...)
			}
			for _, f := range all {
				t.Run(f.String(), func(t *testing.T) { b.checkFailureOfQueue(t, f) })
			}
		})
	}
}

func (b *bed) checkFailureOfQueue(t *testing.T, f failure) {
	b.relay.DropConnections()
	if f.code != 0 {
		f.fault.Times = 1 // so that the notice arrives
	}
	before := b.relay.Counters().Faults
	b.relay.On(f.step, f.fault)
	l := f.letter()
	k := b.talk(t)
	got := k.send(l, sender, recipient)
	k.close()
	txn := got.txn(t)
	if got.code != 250 || got.text != "2.0.0 queued [smtpwall "+txn+"]" {
		t.Fatalf("the client hears %+v", got)
	}
	if f.code != 0 {
		b.checkBounced(t, f, l, txn)
	} else {
		b.awaitFault(t, f, txn, before)
		b.relay.ClearFaults()
		b.retry(t, txn)
		b.checkArrivedAfter(t, f, l, txn)
	}
	b.checkStored(t)
	b.relay.ClearFaults()
	b.relay.TakeMessages()
}

// awaitFault waits until the relay has failed: with a message, of which there is
// an event, or before any could be begun.
func (b *bed) awaitFault(t *testing.T, f failure, txn string, before int64) {
	t.Helper()
	switch f.step {
	case testkit.StepGreeting, testkit.StepHello, testkit.StepSTARTTLS, testkit.StepHandshake, testkit.StepAuth:
		awaitCount(t, "faults of the relay", before+1, func() int64 { return b.relay.Counters().Faults })
		return
	}
	event := b.awaitTry(t, txn, audit.CustodySpool)
	if event.PossibleDuplicate != f.duplicate || event.Attempt != 1 || event.Next.IsZero() || !strings.Contains(event.RelayReply+event.Error, f.text) {
		t.Errorf("the event of the try says %+v, want possible duplicate %v, and of the relay %q", event, f.duplicate, f.text)
	}
}

// checkBounced: the relay refused the letter for good, so it has a notice about
// it, for the sender, and not the letter.
func (b *bed) checkBounced(t *testing.T, f failure, l letter, txn string) {
	t.Helper()
	event := b.awaitTry(t, txn, audit.CustodyBounced)
	if event.Recipients[0].ReplyCode != f.code || !strings.Contains(event.RelayReply, f.text) {
		t.Errorf("the event says %+v, want %d %s", event, f.code, f.text)
	}
	message := b.awaitMessage(t)
	text := string(message.Bytes)
	if message.ReversePath != "" || message.Recipients[0].Path != sender || !strings.Contains(text, l.marker) || !strings.Contains(text, f.text) {
		t.Errorf("the relay has, from %q for %v, want a notice about %s:\n%s", message.ReversePath, message.Recipients, l.marker, text)
	}
	b.awaitEvent(t, "the notice", func(e audit.Event) bool {
		return e.Kind == audit.KindDelivery && e.Txn > txn && e.Custody == audit.CustodyRelay && e.ReversePath == audit.NullReversePath
	})
	if n := len(b.relay.Messages()); n != 1 {
		t.Errorf("the relay has %d messages, want the notice alone", n)
	}
}

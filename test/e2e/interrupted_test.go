package e2e_test

import (
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// TestInterruptedDelivery: the proxy is killed while the relay has a message of
// the spool and has not answered for it. The next proxy sends it again, and says
// that the relay may have it twice.
func TestInterruptedDelivery(t *testing.T) {
	t.Parallel()
	for name, copies := range map[string]int{"the relay did not take it": 1, "the relay took it": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{delivery: `mode = "queue"`, errors: []string{proxyEnded}})
			wake := make(chan struct{})
			before := b.relay.Counters().Faults
			b.relay.On(testkit.StepEnd, testkit.Fault{Act: testkit.Stall, Taken: true, Until: wake, Times: 1})
			l := newLetter()
			got := b.talk(t).send(l, sender, recipient)
			if got.code != 250 {
				t.Fatalf("the client hears %+v", got)
			}
			txn := got.txn(t)
			awaitCount(t, "faults of the relay", before+1, func() int64 { return b.relay.Counters().Faults })
			b.checkStored(t, txn+".active")
			b.killProxy(t)
			if copies > 1 {
				close(wake)
			}
			if event := b.awaitDelivery(t, txn); !event.PossibleDuplicate || event.Recipients[0].ReplyCode != 250 {
				t.Errorf("the event says %+v", event)
			}
			b.checkStored(t)
			b.checkNumber(t, l, copies)
		})
	}
}

// checkNumber: the relay has so many copies of a letter, each of them whole.
func (b *bed) checkNumber(t *testing.T, l letter, want int) {
	t.Helper()
	if !soon(func() bool { return len(findAll(b.relay, l)) >= want }) || len(findAll(b.relay, l)) > want {
		t.Errorf("the relay has %d copies, want %d", len(findAll(b.relay, l)), want)
	}
	for _, message := range findAll(b.relay, l) {
		l.compare(t, message.Bytes)
	}
}

// TestInterruptedTransaction: the proxy is killed while the relay has a message
// that streams to it. The client has heard no 250 and keeps it, so that we do not;
// but where the spool has it for some recipients, these will get it.
func TestInterruptedTransaction(t *testing.T) {
	t.Parallel()
	const busy = "busy@example.net"
	for _, c := range []struct {
		name string
		to   []string
		kept bool
	}{{"all recipients", []string{recipient}, false}, {"some recipients", []string{recipient, busy}, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, setup{errors: []string{proxyEnded}})
			b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 mailbox is busy", Contains: "busy"})
			b.relay.On(testkit.StepEnd, testkit.Fault{Act: testkit.Stall, Taken: true})
			l := newLetter()
			k := b.talk(t)
			k.must(250, "MAIL FROM:<%s>", sender)
			for _, address := range c.to {
				k.must(250, "RCPT TO:<%s>", address)
			}
			k.must(354, "DATA")
			before := b.relay.Counters().Faults
			k.body(l)
			awaitCount(t, "faults of the relay", before+1, func() int64 { return b.relay.Counters().Faults })
			stored := b.stored(t)
			if (len(stored) == 1) != c.kept {
				t.Errorf("the spool has %v", stored)
			}
			b.relay.ClearFaults()
			b.killProxy(t)
			if line, err := k.text.ReadLine(); err == nil {
				t.Errorf("the client heard %q", line)
			}
			if c.kept {
				b.checkRestArrives(t, l, busy)
			}
			b.checkStored(t)
			b.relay.DropConnections()
			// The client sends it again.
			if got := b.talk(t).send(l, sender, recipient); got.code != 250 {
				t.Errorf("when it sends it again the client hears %+v", got)
			}
		})
	}
}

// checkRestArrives: the recipient for whom the spool had the letter gets it, and
// the event says that others may get it twice.
func (b *bed) checkRestArrives(t *testing.T, l letter, rest string) {
	t.Helper()
	event := b.awaitEvent(t, "the delivery", func(e audit.Event) bool {
		return e.Kind == audit.KindDelivery && e.Custody == audit.CustodyRelay
	})
	if !event.PossibleDuplicate {
		t.Errorf("the event says %+v", event)
	}
	reached := 0
	for _, message := range findAll(b.relay, l) {
		l.compare(t, message.Bytes)
		for _, rcpt := range message.Recipients {
			if rcpt.Path == rest {
				reached++
			}
		}
	}
	if reached != 1 {
		t.Errorf("%s has it %d times, want once", rest, reached)
	}
}

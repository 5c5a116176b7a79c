package e2e_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// proxyEnded is what run says of a proxy that a test killed.
const proxyEnded = "the proxy ended, the rules stay and it is started again"

// proxy is the process id of the proxy under run.
func (b *bed) proxy(t testing.TB) int {
	t.Helper()
	found := children(t, b.run.cmd.Process.Pid)
	if len(found) != 1 {
		t.Fatalf("run has the children %v, want the proxy alone", found)
	}
	return found[0]
}

// killProxy kills the proxy as the kernel might, and waits for the next one.
func (b *bed) killProxy(t testing.TB) {
	t.Helper()
	before := b.run.said.count("accepting mail")
	if err := syscall.Kill(b.proxy(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.run.said.await(t, "accepting mail", before+1)
}

// checkReleased: after a relay was configured every letter is at the relay, once,
// and the spool is empty.
func (b *bed) checkReleased(t testing.TB, letters map[string]letter) {
	t.Helper()
	for txn, l := range letters {
		b.arrivedLater(t, l, txn, trace{"local process", "ESMTP"})
		if events := b.events("--id", txn, "--kind", "delivery"); len(events) != 1 || events[0].Attempt != 1 {
			t.Errorf("the deliveries of %s are %+v, want one", txn, events)
		}
	}
	b.checkStored(t)
	if n := len(b.relay.Messages()); n != len(letters) {
		t.Errorf("the relay has %d messages, want %d", n, len(letters))
	}
}

// hold sends a letter while no relay is configured.
func (b *bed) hold(t testing.TB) (letter, string) {
	t.Helper()
	l := newLetter()
	got := b.talk(t).send(l, l.marker+"@shop.example", recipient)
	if got.code != 250 || !strings.Contains(got.text, "held until a relay is configured") {
		t.Fatalf("without a relay the client hears %+v", got)
	}
	return l, got.txn(t)
}

// TestHeld: mail that comes before any relay survives the death of the proxy and
// of run right after its 250, and is delivered once when a relay is configured.
func TestHeld(t *testing.T) {
	t.Parallel()
	s := setup{noRelay: true, errors: []string{proxyEnded}}
	b := newBed(t, s)
	letters := map[string]letter{}
	var want []string
	for range 3 {
		l, txn := b.hold(t)
		b.killProxy(t)
		letters[txn], want = l, append(want, txn+".hold")
		b.checkStored(t, want...)
	}
	l, txn := b.hold(t)
	letters[txn] = l
	if err := b.run.end(syscall.SIGKILL); err == errStays {
		t.Fatal(err)
	}
	b.start(s)
	b.reload(setup{})
	b.checkReleased(t, letters)
	b.killProxy(t)
	if n := len(b.relay.Messages()); n != len(letters) {
		t.Errorf("after another start the relay has %d messages, want %d", n, len(letters))
	}
}

// TestHeldForOthers: recipients that the relay refuses for good, and of whom
// nobody may be told, stay in the spool until a person says so, and the others are
// served.
func TestHeldForOthers(t *testing.T) {
	t.Parallel()
	b := newBed(t, setup{noRelay: true})
	l := newLetter()
	got := b.talk(t).send(l, sender, recipient, "nobody@example.net")
	if got.code != 250 {
		t.Fatalf("the client hears %+v", got)
	}
	txn := got.txn(t)
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 no such user", Contains: "nobody"})
	b.reload(setup{})
	event := b.awaitEvent(t, "the delivery", func(e audit.Event) bool { return e.Relay == "main" })
	if event.Txn != txn || event.Custody != audit.CustodySpool || len(event.Recipients) != 2 || event.Recipients[0].ReplyCode != 250 ||
		event.Recipients[1].ReplyCode != 550 || !event.Next.IsZero() {
		t.Errorf("the event says %+v", event)
	}
	checkReached(t, findOne(t, b.relay, l), []string{recipient})
	// What is refused for good is not tried again by itself.
	b.relay.ClearFaults()
	b.reload(setup{config: "[policy]\n"})
	b.checkStored(t, txn+".hold")
	b.orders(t, 0, "1 message released", "hold", "release", txn)
	b.awaitDelivery(t, txn)
	copies := findAll(b.relay, l)
	if len(copies) != 2 {
		t.Fatalf("the relay has %d messages, want one for each recipient", len(copies))
	}
	checkReached(t, copies[1], []string{"nobody@example.net"})
	b.checkStored(t)
}

// TestFullSpool: no room is a transient refusal, and none where no room is needed.
func TestFullSpool(t *testing.T) {
	t.Parallel()
	small := setup{delivery: `spool_max = "1MiB"`, config: "[session]\nmax_message = \"1MiB\"\n", noRelay: true}
	b := newBed(t, small)
	k := b.talk(t)
	first := k.send(bigLetter(700<<10), sender, recipient)
	if first.code != 250 {
		t.Fatalf("the client hears %+v", first)
	}
	refused := bigLetter(700 << 10)
	b.checkNoRoom(t, k, refused)
	_, second := b.hold(t)

	small.noRelay = false
	b.relay.On(testkit.StepMail, testkit.Fault{Text: "451 4.3.0 not now", Contains: sender})
	b.reload(small)
	b.awaitDelivery(t, second)
	b.awaitTry(t, first.txn(t), audit.CustodySpool)
	k = b.talk(t)
	b.checkNoRoom(t, k, refused)
	b.relay.ClearFaults()
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "451 4.3.0 not now", Contains: "busy"})
	if got := k.send(refused, sender, recipient, "busy@example.net"); got.code != 452 {
		t.Errorf("where the spool is needed for one recipient the client hears %+v", got)
	}
	if n := len(findAll(b.relay, refused)); n > 0 {
		t.Errorf("the relay has what we refused, %d times", n)
	}
	if got := k.send(refused, sender, recipient); got.code != 250 {
		t.Errorf("while the relay takes it the client hears %+v", got)
	}
	b.arrived(t, refused, trace{"local process", "ESMTP"})
	b.checkStored(t, first.txn(t)+".deferred")
}

// checkNoRoom: the client keeps a letter for which the spool has no room.
func (b *bed) checkNoRoom(t *testing.T, k *talk, l letter) {
	t.Helper()
	before := b.stored(t)
	got := k.send(l, sender, recipient)
	if got.code != 452 || !strings.HasPrefix(got.text, "4.3.1 ") {
		t.Errorf("with no room in the spool the client hears %+v", got)
	}
	if event := b.transaction(t, got.txn(t)); event.Custody != audit.CustodyClient || event.ReplyCode != 452 {
		t.Errorf("the event says %+v", event)
	}
	b.checkStored(t, before...)
}

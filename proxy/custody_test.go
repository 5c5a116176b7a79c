package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// The relay misbehaves at each step in every way. The client, whether it sends
// DATA or BDAT, has a 250 for its message only if the relay has the message and
// said so or the spool has it; both only if the spool says that this may be. What
// it has no 250 for the spool does not have; and it can go on.
func TestCustody(t *testing.T) {
	steps := []testkit.RelayStep{testkit.StepGreeting, testkit.StepHello, testkit.StepSTARTTLS, testkit.StepHandshake,
		testkit.StepAuth, testkit.StepMail, testkit.StepRcpt, testkit.StepData, testkit.StepContent, testkit.StepEnd}
	acts := map[string]testkit.Fault{
		"hangs up": {Act: testkit.Hangup}, "resets": {Act: testkit.Reset}, "stalls": {Act: testkit.Stall, Times: 2},
		"talks rubbish": {Act: testkit.Garbage}, "talks without end": {Act: testkit.LongLine}, "repeats itself": {Act: testkit.ManyLines},
		"answers twice": {Act: testkit.Twice}, "is silent": {Act: testkit.Silent, Times: 2},
		"says 421": {Text: "421 4.3.2 closing"}, "says 451": {Text: "451 4.3.0 later"}, "says 550": {Text: "550 5.7.1 never"},
		"says 354": {Text: "354 go on"}, "says 530": {Text: "530 5.7.0 log in"}, "says 250 in lines": {Text: "250-2.0.0 a\n550 5.0.0 b"},
	}
	for _, without := range []string{"", "CHUNKING", "PIPELINING", "CHUNKING PIPELINING"} {
		for _, step := range steps {
			if without != "" && beforeMail(step) {
				continue
			}
			t.Run(fmt.Sprint(step, " without ", without), func(t *testing.T) {
				t.Parallel()
				for name, fault := range acts {
					if fault.Times > 0 && without != "" && without != "CHUNKING PIPELINING" {
						continue // waiting for nothing takes time
					}
					misbehave(t, without, step, name, fault)
				}
			})
		}
	}
}

func beforeMail(step testkit.RelayStep) bool {
	return step == testkit.StepGreeting || step == testkit.StepHello || step == testkit.StepSTARTTLS ||
		step == testkit.StepHandshake || step == testkit.StepAuth
}

func misbehave(t *testing.T, without string, step testkit.RelayStep, name string, fault testkit.Fault) {
	options := map[string]string{"without": without, "relay_ms": "200"}
	if beforeMail(step) {
		options["handshake_ms"] = "1000"
	}
	b := newStand(t, options)
	if beforeMail(step) {
		b.relay.DropConnections() // so that a new one is needed
		fault.Times = min(fault.Times, 1)
	}
	fault.Bytes = 20
	b.relay.On(step, fault)
	p := newPlayer(t, b.dial(t))
	p.where = fmt.Sprintf("a relay without %q that %s at %s", without, name, step)
	p.expectCode("220")
	p.command("EHLO client.test")
	const small, large = 10, 20000 // lines: one goes to the relay by BDAT if it can, the other by DATA
	for _, message := range []struct {
		send  func(*player, string) string
		lines int
	}{{sendData, large}, {sendChunks, small}, {sendChunks, large}, {sendData, small}} {
		b.relay.TakeMessages()
		b.checkCustody(p, p.transact(message.send, message.lines))
		if p.command("RSET"); p.command("NOOP")[:3] != "250" {
			t.Errorf("%s: the client cannot go on", p.where)
		}
	}
}

// checkCustody compares what the client was told with who has the message, and
// clears the spool.
func (b *stand) checkCustody(p *player, reply string) {
	relay, kept, duplicate := len(b.relay.Messages()), 0, false
	for item, err := range b.spool.All() {
		if err != nil || item.State != spool.Deferred {
			p.t.Errorf("%s: the spool has %+v, %v", p.where, item, err)
		}
		kept, duplicate = kept+1, item.Progress.PossibleDuplicate
		if err := b.spool.Drop(item.ID); err != nil {
			p.t.Error(err)
		}
	}
	switch {
	case reply[0] != '2' && kept > 0:
		p.t.Errorf("%s: the client was told %q, and the spool has the message", p.where, reply)
	case reply[0] == '2' && relay+kept == 0:
		p.t.Errorf("%s: the client was told %q, and nobody has the message", p.where, reply)
	case relay+kept > 1 && !duplicate:
		p.t.Errorf("%s: the relay has %d messages, the spool %d, and nothing is said of a duplicate", p.where, relay, kept)
	}
}

// transact has a message sent, unless its recipient is refused, and gives the
// reply that ends it.
func (p *player) transact(send func(*player, string) string, lines int) string {
	p.t.Helper()
	if reply := p.command("MAIL FROM:<a@example.com>"); reply[:3] != "250" {
		return reply
	}
	if reply := p.command("RCPT TO:<b@example.net>"); reply[:3] != "250" {
		return reply
	}
	return send(p, "From: a@example.com\r\n\r\n"+strings.Repeat("body\r\n", lines))
}

func sendData(p *player, message string) string {
	if reply := p.command("DATA"); reply[:3] != "354" {
		return reply
	}
	return p.command(message + ".")
}

func sendChunks(p *player, message string) string {
	if reply := p.command(fmt.Sprintf("BDAT %d\r\n%s", len(message), strings.TrimSuffix(message, "\r\n"))); reply[:3] != "250" {
		return reply
	}
	return p.command("BDAT 6 LAST\r\nlast")
}

// A relay that goes away between two recipients: the first one's 250 was ours to
// keep, and the spool keeps it.
func TestRelayLostBetweenRecipients(t *testing.T) {
	b := newStand(t, nil)
	b.relay.On(testkit.StepRcpt, testkit.Fault{Act: testkit.Hangup, Skip: 1, Times: 1})
	p := b.begin(t)
	p.envelope()
	for _, line := range []string{"RCPT TO:<c@example.net>", "RCPT TO:<d@example.net>"} {
		if reply := p.command(line); reply[:3] != "250" {
			t.Fatalf("%q: %s", line, reply)
		}
	}
	if reply := sendData(p, "From: a@example.com\r\n\r\n"); !strings.HasPrefix(reply, "250 2.0.0 queued") {
		t.Fatal(reply)
	}
	if kept := b.kept(t, spool.Deferred); len(kept) != 3 || len(b.relay.Messages()) != 0 {
		t.Fatalf("kept for %v, and the relay has %d messages", kept, len(b.relay.Messages()))
	}
	if reply := p.deliver("From: a@example.com\r\n\r\n"); reply[:3] != "250" {
		t.Fatal(reply)
	}
	if n := len(b.relay.Messages()); n != 1 {
		t.Fatalf("the relay has %d messages", n)
	}
}

// expectReply sends a command and fails unless the reply begins with code.
func (p *player) expectReply(line, code string) {
	p.t.Helper()
	if reply := p.command(line); !strings.HasPrefix(reply, code) {
		p.t.Fatalf("%s: %s, want %s", line, reply, code)
	}
}

// Each recipient has the fate that the relay gives it: one is refused at once,
// one is served at once, one is served later, and the message is nowhere twice.
func TestRecipientsOfDifferentFates(t *testing.T) {
	for _, without := range []string{"", "CHUNKING", "CHUNKING PIPELINING"} {
		b := newStand(t, map[string]string{"without": without})
		b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 nobody", Contains: "bad@"})
		b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 busy", Contains: "later@"})
		p := b.begin(t)
		p.expectReply("MAIL FROM:<a@example.com>", "250")
		p.expectReply("RCPT TO:<bad@example.net>", "550")
		p.expectReply("RCPT TO:<later@example.net>", "250")
		p.expectReply("RCPT TO:<good@example.net>", "250")
		if reply := sendData(p, keptMessage[:len(keptMessage)-6]+"..dot\r\n"); reply[:3] != "250" {
			t.Fatal(reply)
		}
		if kept := b.kept(t, spool.Deferred); !slices.Equal(kept, []string{"later@example.net"}) {
			t.Errorf("kept for %v", kept)
		}
		b.relay.ClearFaults()
		b.newRunner(t).pass(time.Now().Add(2 * time.Minute))
		var reached []string
		for _, message := range b.relay.Messages() {
			for _, rcpt := range message.Recipients {
				reached = append(reached, rcpt.Path)
			}
		}
		if !slices.Equal(reached, []string{"good@example.net", "later@example.net"}) || len(b.kept(t)) > 0 {
			t.Errorf("without %q: reached %v, kept %v", without, reached, b.kept(t))
		}
	}
}

// The relay refuses a message of which the spool has a copy already, since one
// recipient was to be served later: the client is told, and the copy is gone.
func TestRefusedMessageIsNotKept(t *testing.T) {
	b := newStand(t, nil)
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 busy", Contains: "later@"})
	b.relay.On(testkit.StepEnd, testkit.Fault{Text: "554 5.7.1 spam"})
	p := b.begin(t)
	p.expectReply("MAIL FROM:<a@example.com>", "250")
	p.expectReply("RCPT TO:<later@example.net>", "250")
	p.expectReply("RCPT TO:<good@example.net>", "250")
	if reply := sendData(p, keptMessage); !strings.HasPrefix(reply, "554 5.7.1 spam") {
		t.Error(reply)
	}
	if kept := b.kept(t); len(kept) > 0 {
		t.Errorf("kept for %v", kept)
	}
}

// No room in the spool is said before any of the data is taken, where the spool
// is needed; where it is not, the relay has the message.
func TestNoRoomInTheSpool(t *testing.T) {
	for name, options := range map[string]map[string]string{
		"queue": {"mode": "queue"}, "relay away": {"relay": "down"}, "no relay": {"relay": "none"},
	} {
		b := newStand(t, options)
		b.fillSpool(t)
		p := b.begin(t)
		p.envelope()
		if reply := p.command("DATA"); !strings.HasPrefix(reply, "452 4.3.1 no room in the spool") {
			t.Errorf("%s: DATA: %s", name, reply)
		}
		p.envelope()
		if reply := p.command("BDAT 6 LAST\r\na: b"); !strings.HasPrefix(reply, "452 4.3.1 no room in the spool") {
			t.Errorf("%s: BDAT: %s", name, reply)
		}
		p.command("NOOP")
	}
	b := newStand(t, nil)
	b.fillSpool(t)
	p := b.begin(t)
	p.envelope()
	if reply := sendData(p, keptMessage); reply[:3] != "250" || len(b.relay.Messages()) != 1 {
		t.Errorf("the relay is well: %s", reply)
	}
	b.relay.On(testkit.StepEnd, testkit.Fault{Text: "451 4.3.0 later"})
	p.envelope()
	if reply := sendData(p, keptMessage); !strings.HasPrefix(reply, "452 4.3.1 no room in the spool") {
		t.Errorf("the relay fails: %s", reply)
	}
}

// fillSpool leaves no room for another message.
func (b *stand) fillSpool(t *testing.T) {
	t.Helper()
	for size := 100 << 10; ; {
		writer, err := b.spool.Create(spool.Entry{ID: spool.NewID(time.Now()), Identity: spool.Identity{Account: spool.NewID(time.Now())}})
		if errors.Is(err, spool.ErrFull) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		_, _ = writer.Write(make([]byte, size))
		switch err := writer.Commit(spool.Hold, spool.Progress{Hold: spool.HoldPerson}); {
		case errors.Is(err, spool.ErrFull):
			size = 1
		case err != nil:
			t.Fatal(err)
		}
	}
}

// The spool comes first, where it is told to, and the relay afterwards.
func TestQueueMode(t *testing.T) {
	b := newStand(t, map[string]string{"mode": "queue"})
	p := b.begin(t)
	p.envelope()
	if reply := sendData(p, "a: b\r\n"); !strings.HasPrefix(reply, "250 2.0.0 queued [smtpwall ") {
		t.Error(reply)
	}
	if kept := b.kept(t, spool.Deferred); len(kept) != 1 || len(b.relay.Messages()) != 0 {
		t.Errorf("kept for %v, and the relay has %d messages", kept, len(b.relay.Messages()))
	}
	b.newRunner(t).pass(time.Now())
	if kept := b.kept(t); len(kept) != 0 || len(b.relay.Messages()) != 1 {
		t.Errorf("kept for %v, and the relay has %d messages", kept, len(b.relay.Messages()))
	}
}

// What came of a message cannot be written for a while: who is served is not
// served again, who waits is served later.
func TestOutcomeIsWrittenLater(t *testing.T) {
	b := newStand(t, nil)
	disk := simdisk.New()
	var broken atomic.Bool
	disk.Fail = func(step simdisk.Step) error {
		if step.Op == "write" && broken.Load() && strings.HasSuffix(step.Name, ".active") {
			return syscall.ENOSPC
		}
		return nil
	}
	b.useSpoolOn(t, disk)
	next := *b.settings
	b.server.Apply(&next)
	r := b.newRunner(t)
	b.server.runner = r
	broken.Store(true)
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 busy", Contains: "later@"})
	p := b.begin(t)
	p.expectReply("MAIL FROM:<a@example.com>", "250")
	p.expectReply("RCPT TO:<good@example.net>", "250")
	p.expectReply("RCPT TO:<later@example.net>", "250")
	if reply := sendData(p, keptMessage[:len(keptMessage)-6]+"..dot\r\n"); reply[:3] != "250" {
		t.Fatal(reply)
	}
	b.relay.ClearFaults()
	r.pass(time.Now().Add(2 * time.Hour)) // and it still cannot be written
	broken.Store(false)
	r.pass(time.Now().Add(4 * time.Hour))
	r.pass(time.Now().Add(6 * time.Hour))
	var reached []string
	for _, message := range b.relay.Messages() {
		for _, rcpt := range message.Recipients {
			reached = append(reached, rcpt.Path)
		}
	}
	if !slices.Equal(reached, []string{"good@example.net", "later@example.net"}) || len(b.kept(t)) > 0 {
		t.Errorf("reached %v, kept %v", reached, b.kept(t))
	}
}

// A relay that takes so many recipients at a time has the others at once, in
// transactions of their own.
func TestTooManyRecipientsForTheRelay(t *testing.T) {
	b := newStand(t, nil)
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "452 4.5.3 too many recipients", Skip: 2, Times: 2})
	p := b.begin(t)
	p.expectReply("MAIL FROM:<a@example.com>", "250")
	for _, name := range []string{"one", "two", "three", "four"} {
		p.expectReply("RCPT TO:<"+name+"@example.net>", "250")
	}
	if reply := sendData(p, keptMessage); reply[:3] != "250" {
		t.Fatal(reply)
	}
	if kept := b.kept(t, spool.Deferred); !slices.Equal(kept, []string{"four@example.net", "three@example.net"}) {
		t.Errorf("kept for %v", kept)
	}
	b.relay.ClearFaults()
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "452 4.5.3 too many recipients", Skip: 1, Times: 1})
	b.newRunner(t).pass(time.Now().Add(time.Second))
	if kept := b.kept(t); len(kept) > 0 || len(b.relay.Messages()) != 3 {
		t.Errorf("kept for %v, and the relay has %d messages", kept, len(b.relay.Messages()))
	}
}

// A relay that is silent does not make clients wait until they give up.
func TestSilentRelay(t *testing.T) {
	for _, step := range []testkit.RelayStep{testkit.StepGreeting, testkit.StepMail, testkit.StepRcpt} {
		b := newStand(t, map[string]string{"patience_ms": "100"})
		b.relay.DropConnections()
		b.relay.On(step, testkit.Fault{Act: testkit.Stall})
		p := b.begin(t)
		began := time.Now()
		p.envelope()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("silent at %s: the client waited for %v", step, took)
		}
		if reply := sendData(p, keptMessage); !strings.HasPrefix(reply, "250 2.0.0 queued") || len(b.kept(t, spool.Deferred)) != 1 {
			t.Errorf("silent at %s: %s, kept %v", step, reply, b.kept(t))
		}
		b.relay.ClearFaults()
		if reply := p.deliver(keptMessage); !strings.HasPrefix(reply, "250 2.0.0 ") || len(b.relay.Messages()) != 1 {
			t.Errorf("well after %s: %s", step, reply)
		}
	}
}

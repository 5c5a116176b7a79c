package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// send plays one message of a letter's text, and returns the reply to its end.
func (b *stand) send(t *testing.T, from, body string, recipients ...string) (reply string) {
	t.Helper()
	p := newPlayer(t, b.dial(t))
	p.where = "sending a message"
	lines := []string{"S: 220 *", "C: HELO client.test", "S: 250 *", "C: MAIL FROM:<" + from + ">", "S: 250 *"}
	for _, rcpt := range recipients {
		lines = append(lines, "C: RCPT TO:<"+rcpt+">", "S: *")
	}
	for _, line := range append(lines, "C: DATA", "S: *", "C: From: "+from, "C: ", "C: "+body, "C: .") {
		p.play(line)
	}
	p.flush()
	line, err := p.reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	p.play("C: QUIT")
	p.play("S: 221 *")
	p.play("EOF")
	if n := strings.Count(line, "[smtpwall "); n != 1 {
		t.Errorf("%q names the transaction %d times", line, n)
	}
	return strings.TrimSpace(line)
}

// wait waits for what must become true soon.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen that %s", what)
		}
	}
}

// Suspension ends the sender's sessions and stops its messages in the spool; what
// it has sent before goes on its way when it is resumed, and nobody else notices.
func TestSuspensionStopsAll(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "routes"})
	b.settings.Policy = testPolicy(t, "")
	open := newPlayer(t, b.dial(t))
	for _, line := range []string{"S: 220 *", "C: HELO client.test", "S: 250 *"} {
		open.play(line)
	}
	stopped := b.keep(t, spool.Deferred, spool.Progress{Next: time.Now().Add(time.Hour)}, "stopped@example.net")
	b.runner.Apply(b.settings)
	t.Cleanup(func() { _ = b.runner.Stop(context.Background()) })
	wait(t, "the runner has the message", func() bool { n, _ := b.runner.queue.Len(); return n == 1 })

	if err := b.warden.Suspend(limit.Suspension{Key: "uid:33", Reason: "spam", By: "test", Since: time.Now()}); err != nil {
		t.Fatal(err)
	}
	open.play("S: 421 4.7.1 host.test identity suspended, closing the connection")
	open.play("EOF")
	again := newPlayer(t, b.dial(t))
	for _, line := range []string{"S: 220 *", "C: HELO client.test", "S: 250 *", "C: MAIL FROM:<a@example.com>", "S: 550 5.7.1 identity suspended [smtpwall *]"} {
		again.play(line)
	}
	wait(t, "the message is held", func() bool {
		item, err := b.spool.Show(stopped)
		return err == nil && item.State == spool.Hold && item.Progress.Hold == spool.HoldSuspended
	})
	item, err := b.spool.Show(stopped)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, "a person lets it go, by mistake", func() bool { return b.runner.Release(item) == nil })
	wait(t, "the message is held again", func() bool {
		item, err := b.spool.Show(stopped)
		return err == nil && item.State == spool.Hold
	})
	b.user, b.uid = "shop", 34
	b.peer.be(somebody{testPeer("root")})
	if reply := b.send(t, "root@example.com", "from another", "other@example.net"); !strings.HasPrefix(reply, "250 ") {
		t.Errorf("another sender hears %q", reply)
	}
	if n := len(b.relay.Messages()); n != 1 {
		t.Errorf("the relay has %d messages, want that of the other sender", n)
	}

	if err := b.warden.Resume("uid:33", "test"); err != nil {
		t.Fatal(err)
	}
	wait(t, "the held message is delivered", func() bool { return len(b.relay.Messages()) == 2 })
	if err := b.warden.Resume("uid:33", "test"); err != ErrNotSuspended {
		t.Errorf("resumed twice: %v", err)
	}
	if got := b.alarms.kinds(); got != "suspension suspension" {
		t.Errorf("alarms: %q", got)
	}
	var told []string
	for _, e := range b.events.all() {
		if e.Kind == audit.KindSuspension {
			told = append(told, e.Outcome+" "+e.Identity+" "+e.Reason)
		}
	}
	if want := []string{"suspended uid:33 spam", "resumed uid:33 "}; !slices.Equal(told, want) {
		t.Errorf("events %q, want %q", told, want)
	}
}

// A suspension with an end is over by itself, and says when until then.
func TestSuspensionEnds(t *testing.T) {
	b := newStand(t, nil)
	until := time.Now().Add(300 * time.Millisecond)
	if err := b.warden.Suspend(limit.Suspension{Key: "unit:php8.2-fpm.service", Reason: "spam", Since: time.Now(), Until: until}); err != nil {
		t.Fatal(err)
	}
	p := newPlayer(t, b.dial(t))
	for _, line := range []string{"S: 220 *", "C: HELO client.test", "S: 250 *", "C: MAIL FROM:<a@example.com>",
		"S: 450 4.7.1 identity suspended, try again after 20*Z [smtpwall *]"} {
		p.play(line)
	}
	wait(t, "the suspension ends", func() bool { return len(b.warden.limits.Suspensions()) == 0 })
	p.play("C: MAIL FROM:<a@example.com>")
	p.play("S: 250 *")
}

// What the relay refuses gives its room back; what it refuses too often trips the
// breaker, and the ladder then begins at its first rung.
func TestRefusedRecipientsTripTheBreaker(t *testing.T) {
	b := newStand(t, map[string]string{"limits": "recipients 6", "ladder": "defer 100", "fault": "RCPT=550 5.1.1 no such user"})
	for i := range 4 {
		p := newPlayer(t, b.dial(t))
		p.where = fmt.Sprintf("message %d", i)
		for _, line := range []string{"S: 220 *", "C: HELO client.test", "S: 250 *", "C: MAIL FROM:<a@example.com>", "S: 250 *",
			"C: RCPT TO:<nobody@example.net>", "S: 550 5.1.1 *", "C: QUIT", "S: 221 *"} {
			p.play(line)
		}
		p.play("EOF")
	}
	state := b.warden.limits.State("uid:33", []limit.Budget{{Key: "uid:33", Limits: b.settings.Quota.Default.Limits}}, time.Now())
	if len(state) != 1 || state[0].Used != 0 {
		t.Errorf("%+v: refused recipients have taken room", state)
	}
	wait(t, "the breaker is told of", func() bool { return b.alarms.kinds() == "breaker" })
	p := newPlayer(t, b.dial(t))
	for _, line := range []string{"S: 220 *", "C: HELO client.test", "S: 250 *", "C: MAIL FROM:<a@example.com>",
		"S: 450 4.7.1 sending is restricted after: *, try again after 20*Z [smtpwall *]"} {
		p.play(line)
	}
	events := b.events.all()
	if at := slices.IndexFunc(events, func(e audit.Event) bool { return e.Kind == audit.KindBreaker }); at < 0 {
		t.Error("no event of the breaker")
	} else if e := events[at]; e.Outcome != audit.OutcomeRaised || e.Identity != "uid:33" || e.Reason == "" || e.Until.IsZero() {
		t.Errorf("event %+v", e)
	}
}

// One body to many recipients is told of, however its digits and cases differ.
func TestIdenticalBodies(t *testing.T) {
	b := newStand(t, nil)
	b.settings.CompareBodies = true
	for i := range 11 {
		b.send(t, "a@example.com", fmt.Sprintf("Dear customer %d, BUY now", i), fmt.Sprintf("c%d@example.net", i))
	}
	wait(t, "the breaker is told of", func() bool { return b.alarms.kinds() == "breaker" })
	for _, e := range b.events.all() {
		if e.Kind == audit.KindBreaker && e.Outcome != audit.OutcomeReported {
			t.Errorf("event %+v, want one that only reports", e)
		}
	}
}

// A message that policy holds goes when a person releases it, and is refused
// where policy would refuse it by now.
func TestHoldAndRelease(t *testing.T) {
	for name, c := range map[string]struct {
		then string
		goes bool
	}{"as it was": {"hold", true}, "denied since": {"deny", false}} {
		t.Run(name, func(t *testing.T) {
			b := newStand(t, map[string]string{"policy": "hold"})
			b.runner.Apply(b.settings)
			t.Cleanup(func() { _ = b.runner.Stop(context.Background()) })
			if reply := b.send(t, "a@example.com", "look", "b@example.net"); !strings.HasPrefix(reply, "250 2.0.0 held") {
				t.Fatal(reply)
			}
			events := b.events.all()
			if e := events[len(events)-1]; e.Decision != policy.Hold.String() || e.Custody != audit.CustodySpool || e.Rule != "look" {
				t.Errorf("event %+v", e)
			}
			settings := *b.settings
			settings.Policy = testPolicy(t, c.then)
			b.runner.Apply(&settings)
			for item, err := range b.spool.All(spool.Hold) {
				if err != nil {
					t.Fatal(err)
				}
				wait(t, "the message is let go", func() bool { return b.runner.Release(item) == nil })
			}
			if c.goes {
				wait(t, "the message is delivered", func() bool { return len(b.relay.Messages()) == 1 })
				return
			}
			wait(t, "the message is held again", func() bool { return len(b.kept(t, spool.Hold)) == 1 })
			if n := len(b.relay.Messages()); n != 0 {
				t.Errorf("the relay has %d messages", n)
			}
		})
	}
}

// A message at the limit waits for a person in proxy mode and in queue mode, with
// everybody that the client was promised.
func TestLimitHolds(t *testing.T) {
	for _, mode := range []string{"proxy", "queue"} {
		t.Run(mode, func(t *testing.T) {
			b := newStand(t, map[string]string{"mode": mode, "limits": "recipients 1, bytes 200", "ladder": "hold 100"})
			if reply := b.send(t, "a@example.com", "two", "b@example.net", "c@example.net"); !strings.HasPrefix(reply, "250 2.0.0 held") {
				t.Fatal(reply)
			}
			if reply := b.send(t, "a@example.com", strings.Repeat("x", 200), "d@example.net"); !strings.HasPrefix(reply, "250 2.0.0 held") {
				t.Fatal(reply)
			}
			kept := b.kept(t, spool.Hold)
			slices.Sort(kept)
			if want := []string{"b@example.net", "c@example.net", "d@example.net"}; !slices.Equal(kept, want) {
				t.Errorf("held for %v, want %v", kept, want)
			}
			if n := len(b.relay.Messages()); n != 0 {
				t.Errorf("the relay has %d messages", n)
			}
			for item := range b.spool.All(spool.Hold) {
				if item.Progress.Hold != spool.HoldLimit || !strings.Contains(item.Progress.Reason, "limit of ") {
					t.Errorf("held as %q, %q", item.Progress.Hold, item.Progress.Reason)
				}
			}
		})
	}
}

// A message that is longer than it said waits for room, or for nothing.
func TestLimitOfBytesAtTheEnd(t *testing.T) {
	b := newStand(t, map[string]string{"limits": "bytes 300", "ladder": "defer 100"})
	for _, c := range []struct {
		size  int
		reply string
	}{{200, "250 "}, {150, "450 4.7.1 limit of 300B/hour reached, try again after 20"}, {400, "552 5.3.4 "}, {10, "250 "}} {
		if reply := b.send(t, "a@example.com", strings.Repeat("x", c.size), "b@example.net"); !strings.HasPrefix(reply, c.reply) {
			t.Errorf("%d octets: %q, want %q", c.size, reply, c.reply)
		}
	}
	if n := len(b.relay.Messages()); n != 2 {
		t.Errorf("the relay has %d messages, want 2", n)
	}
}

// Who is slowed gets replies late and loses nothing.
func TestLimitSlows(t *testing.T) {
	b := newStand(t, map[string]string{"limits": "messages 3", "ladder": "slow 30"})
	began := time.Now()
	b.send(t, "a@example.com", "one", "b@example.net")
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("within the limit it took %v", took)
	}
	began = time.Now()
	if reply := b.send(t, "a@example.com", "two", "b@example.net"); !strings.HasPrefix(reply, "250 ") {
		t.Error(reply)
	}
	if took := time.Since(began); took < slowed {
		t.Errorf("beyond the limit it took %v, want %v at least", took, slowed)
	}
	if n := len(b.relay.Messages()); n != 2 {
		t.Errorf("the relay has %d messages, want 2", n)
	}
}

// What nobody releases in time comes to its sender, where that may be, and to its
// end.
func TestHeldMessageExpires(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "sites"})
	b.settings.HoldExpire = time.Hour
	r := b.newRunner(t)
	r.warden = b.warden
	for _, c := range []struct{ sender, hold string }{
		{"a@example.com", spool.HoldLimit}, {"", spool.HoldSuspended}, {"a@example.com", spool.HoldNoRelay}, {"x@example.com", spool.HoldUndeliverable},
	} {
		b.sender = c.sender
		b.keep(t, spool.Hold, spool.Progress{Hold: c.hold, Reason: "because"}, c.hold+"@example.net")
	}
	r.sweep(time.Now().Add(2 * time.Hour))
	kept := b.kept(t)
	slices.Sort(kept)
	// One to its sender; one that nobody can be told of, for the digest; and one waits for a relay.
	if want := []string{"!suspended@example.net", "a@example.com", "no-relay@example.net"}; !slices.Equal(kept, want) {
		t.Errorf("kept for %v, want %v", kept, want)
	}
}

// On a disk that does not let go of an expired message its sender is told once;
// one that cannot be read for a moment is not forgotten.
func TestHeldMessageExpiresOnce(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "sites"})
	b.settings.HoldExpire = time.Hour
	disk := simdisk.New()
	var broken atomic.Value
	broken.Store("rename")
	disk.Fail = func(step simdisk.Step) error {
		if step.Op == broken.Load() && strings.HasSuffix(step.Name, ".hold") {
			return syscall.EIO
		}
		return nil
	}
	b.useSpoolOn(t, disk)
	r := b.newRunner(t)
	r.warden = b.warden
	b.keep(t, spool.Hold, spool.Progress{Hold: spool.HoldLimit, Reason: "because"}, "b@example.net")
	now := time.Now().Add(2 * time.Hour)
	r.sweep(now)
	r.sweep(now.Add(time.Minute))
	broken.Store("")
	r.sweep(now.Add(2 * time.Minute))
	if kept := b.kept(t); len(kept) != 1 {
		t.Errorf("kept for %v, want one notice alone", kept)
	}
	id := b.keep(t, spool.Hold, spool.Progress{Hold: spool.HoldNoRelay}, "c@example.net")
	item, err := b.spool.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	r.Add(item)
	broken.Store("open")
	waiting, _ := r.queue.Len()
	r.sweep(now.Add(3 * time.Minute))
	if after, _ := r.queue.Len(); after != waiting {
		t.Errorf("%d messages wait after one could not be read, %d before", after, waiting)
	}
}

// An open session meets the rules of now with its next transaction, and loses an
// account that is gone.
func TestReloadReachesOpenSessions(t *testing.T) {
	b := newStand(t, map[string]string{"peer": "unknown", "accounts": "yes", "auth": "clear"})
	p := newPlayer(t, b.dial(t))
	for _, line := range []string{"S: 220 *", "C: EHLO client.test"} {
		p.play(line)
	}
	p.flush()
	for last := ""; !strings.HasPrefix(last, "250 "); {
		var err error
		if last, err = p.reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{"C: AUTH PLAIN AHdlYnNob3AAb3BlbiBzZXNhbWU=", "S: 235 *", "C: MAIL FROM:<a@example.com>", "S: 250 *"} {
		p.play(line)
	}
	settings := *b.settings
	settings.Policy = testPolicy(t, "sites")
	b.server.Apply(&settings)
	for _, line := range []string{
		"C: RCPT TO:<b@elsewhere.test>", "S: 250 *", // as the transaction began
		"C: RSET", "S: 250 *", "C: MAIL FROM:<a@example.com>", "S: 550 5.7.1 no rule for this identity [smtpwall *]",
	} {
		p.play(line)
	}
	without := *b.settings
	without.Accounts = testAccounts(t) // another password's hash
	b.server.Apply(&without)
	p.play("C: MAIL FROM:<a@example.com>")
	p.play("S: 530 5.7.0 authentication required [smtpwall *]")
}

// A message that the relay takes for most recipients says nothing bad of its
// sender, though some are for later and the spool keeps it.
func TestRecipientsForLaterAreNotRefused(t *testing.T) {
	b := newStand(t, nil)
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 nobody", Contains: "bad"})
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 busy", Contains: "later"})
	for range 3 {
		b.send(t, "a@example.com", "x", "bad@example.net", "bad2@example.net", "1@example.net", "2@example.net", "3@example.net", "4@example.net", "later@example.net")
	}
	if kinds := b.alarms.kinds(); kinds != "" {
		t.Errorf("alarms: %s", kinds)
	}
}

// Who begins transactions and names nobody, or goes on at once after a refusal for
// now, gets no more than a few events out of a session.
func TestTransactionsForNothing(t *testing.T) {
	b := newStand(t, nil)
	p := newPlayer(t, b.dial(t))
	for _, line := range []string{"S: 220 *", "C: HELO client.test", "S: 250 *"} {
		p.play(line)
	}
	n := 0
	for ; n < 1000; n++ {
		_, _ = p.conn.Write([]byte("MAIL FROM:<a@example.com>\r\nRSET\r\n"))
		if line, err := p.reader.ReadString('\n'); err != nil || strings.HasPrefix(line, "421 ") {
			break
		}
		if line, err := p.reader.ReadString('\n'); err != nil || strings.HasPrefix(line, "421 ") {
			break
		}
	}
	if n < maxEmpty || n > maxEmpty+b.settings.Limits.MaxErrors {
		t.Errorf("the session ends after %d transactions", n)
	}
	b = newStand(t, map[string]string{"policy": "defer"})
	p = newPlayer(t, b.dial(t))
	for _, line := range []string{"S: 220 *", "C: HELO client.test", "S: 250 *", "C: MAIL FROM:<a@example.com>", "S: 450 *"} {
		p.play(line)
	}
	began := time.Now()
	p.play("C: MAIL FROM:<a@example.com>")
	p.play("S: 450 *")
	if took := time.Since(began); took < slowed {
		t.Errorf("the second refusal came after %v", took)
	}
}

// A rung below the limit says which limit it is, and when it helps to come again.
func TestRungBelowTheLimit(t *testing.T) {
	b := newStand(t, map[string]string{"limits": "messages 10", "ladder": "defer 60"})
	for range 6 {
		b.send(t, "a@example.com", "x", "b@example.net")
	}
	p := newPlayer(t, b.dial(t))
	for _, line := range []string{"S: 220 *", "C: HELO client.test", "S: 250 *", "C: MAIL FROM:<a@example.com>",
		"S: 450 4.7.1 60% of the limit of 10 messages/hour reached, try again after 20*Z [smtpwall *]"} {
		p.play(line)
	}
	events := b.events.all()
	if e := events[len(events)-1]; e.Limit != "10 messages/hour of uid:33" || e.Until.IsZero() {
		t.Errorf("event %+v", e)
	}
}

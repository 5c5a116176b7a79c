package proxy

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/queue"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// notices are the messages of our own that the relay has, each as a text.
func (b *stand) notices(t *testing.T) (texts []string) {
	t.Helper()
	for _, message := range b.relay.Messages() {
		if string(message.Bytes) == keptMessage {
			continue
		}
		if message.ReversePath != "" {
			t.Errorf("a notice has the reverse-path %q", message.ReversePath)
		}
		text := string(message.Bytes)
		for _, rcpt := range message.Recipients {
			text = "to " + rcpt.Path + "\r\n" + text
		}
		texts = append(texts, text)
	}
	return texts
}

// A sender that the policy names is told; nobody else is, whatever the
// reverse-path says.
func TestBounce(t *testing.T) {
	for _, test := range []struct {
		name, policy, sender, rcpt string
		postmaster                 string
		told                       string // who has a notice, and its words
		held                       bool
	}{
		{name: "sender of its own", policy: "sites", sender: "a@example.com", rcpt: "b@example.net", told: "to a@example.com"},
		{name: "any sender is allowed", sender: "forged@example.org", rcpt: "b@example.net", held: true},
		{name: "null reverse-path", sender: "", rcpt: "b@example.net", held: true},
		{name: "the host's own name", sender: "root@host.test", rcpt: "b@example.net", told: "to root@host.test"},
		{name: "never to be told", policy: "sites", sender: "a@example.com", rcpt: "NEVER!b@example.net"},
		{name: "only of success", policy: "sites", sender: "a@example.com", rcpt: "SUCCESS!b@example.net"},
		{name: "postmaster instead", sender: "forged@example.org", rcpt: "b@example.net", postmaster: "admin@example.com", told: "to admin@example.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newStand(t, map[string]string{"policy": test.policy})
			b.sender, b.settings.Postmaster = test.sender, test.postmaster
			b.keep(t, spool.Deferred, spool.Progress{}, test.rcpt)
			b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 nobody of that name", Contains: "b@example.net"})
			r := b.newRunner(t)
			r.pass(time.Now())
			r.sweep(time.Now())
			r.pass(time.Now())
			notices := b.notices(t)
			switch {
			case test.told == "" && len(notices) > 0, test.told != "" && len(notices) != 1:
				t.Fatalf("notices %q", notices)
			case test.told != "" && (!strings.HasPrefix(notices[0], test.told) || !strings.Contains(notices[0], "nobody of that name")):
				t.Errorf("the notice is %q, want one %s", notices[0], test.told)
			}
			if held := b.kept(t, spool.Hold); (len(held) > 0) != test.held {
				t.Errorf("held are %v", held)
			}
			if waits := b.kept(t, spool.Deferred, spool.Active); len(waits) > 0 {
				t.Errorf("waiting are %v", waits)
			}
		})
	}
}

// A notice that cannot be delivered is the end: it is not answered by another,
// and not kept for ever.
func TestNoticeIsNotBounced(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "sites"})
	b.keep(t, spool.Deferred, spool.Progress{}, "b@example.net")
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 nobody"})
	b.newRunner(t).pass(time.Now())
	if kept := b.kept(t); len(kept) > 0 {
		t.Errorf("kept %v", kept)
	}
	events := b.deliveries()
	if len(events) != 2 || events[0].Custody != audit.CustodyBounced || events[1].Custody != audit.CustodyBounced {
		t.Errorf("events %+v", events)
	}
}

// One recipient is refused and another one waits: the sender hears of the first
// at once, and once.
func TestBounceOfSome(t *testing.T) {
	b := newStand(t, map[string]string{"policy": "sites"})
	b.keep(t, spool.Deferred, spool.Progress{}, "bad@example.net", "later@example.net", "good@example.net")
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 nobody", Contains: "bad@"})
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 busy", Contains: "later@"})
	r := b.newRunner(t)
	r.pass(time.Now())
	notices := b.notices(t)
	if len(notices) != 1 || !strings.Contains(notices[0], "bad@example.net") || strings.Contains(notices[0], "later@example.net") {
		t.Fatalf("notices %q", notices)
	}
	b.expectKept(t, []string{"later@example.net"}, nil)
	b.relay.ClearFaults()
	r.pass(time.Now().Add(2 * time.Minute))
	b.expectKept(t, nil, nil)
	if n := len(b.notices(t)); n != 1 {
		t.Errorf("%d notices", n)
	}
}

// What has waited for too long is given up, though the relay was never there;
// before that whoever asked for it hears of the delay. (The
// notice of the delay is too old then, too.)
func TestExpiry(t *testing.T) {
	for name, relay := range map[string]string{"relay away": "down", "relay says later": ""} {
		t.Run(name, func(t *testing.T) {
			b := newStand(t, map[string]string{"policy": "sites", "relay": relay})
			b.keep(t, spool.Deferred, spool.Progress{}, "b@example.net", "DELAY,FAILURE!c@example.net")
			if relay == "" {
				b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "450 4.2.1 busy", Contains: "@example.net"})
			}
			r := b.newRunner(t)
			r.load()
			r.calendar.start = r.calendar.start.Add(-6 * 24 * time.Hour)
			for _, step := range []struct {
				after        time.Duration
				waits, notes int
			}{{time.Hour, 2, 0}, {5 * time.Hour, 2, 1}, {6 * time.Hour, 2, 1}, {121 * time.Hour, 0, 1}} {
				r.sweep(time.Now().Add(step.after))
				var waits, notes int
				for item, err := range b.spool.All(spool.Deferred) {
					if err != nil {
						t.Fatal(err)
					}
					if item.Identity.Notice {
						notes++
					} else {
						waits += len(item.Recipients())
					}
				}
				if waits != step.waits || notes != step.notes {
					t.Errorf("after %s %d recipients wait and there are %d notices, want %d and %d", step.after, waits, notes, step.waits, step.notes)
				}
			}
		})
	}
}

// A clock that jumps makes nothing expire until it has kept the new time for a
// day.
func TestClockJump(t *testing.T) {
	c := newCalendar(time.Now(), zaptest.NewLogger(t))
	for _, step := range []struct{ monotonic, jump, untrusted time.Duration }{
		{time.Hour, 0, 0},
		{2 * time.Hour, time.Second, 0},
		{3 * time.Hour, 240 * time.Hour, 240 * time.Hour},
		{20 * time.Hour, 240 * time.Hour, 240 * time.Hour},
		{28 * time.Hour, 240 * time.Hour, 0},
		{29 * time.Hour, 0, -240 * time.Hour},
		{54 * time.Hour, 0, 0},
	} {
		if got := c.untrusted(step.monotonic, step.monotonic+step.jump); got != step.untrusted {
			t.Errorf("%s after the start, with a jump of %s, %s are not trusted, want %s", step.monotonic, step.jump, got, step.untrusted)
		}
	}
}

// A digest that nobody takes is held, and nothing more is let go before somebody
// has seen to it.
func TestDigestThatCannotBeDelivered(t *testing.T) {
	b := newStand(t, nil)
	b.sender, b.settings.Postmaster = "forged@example.org", "mistyped@example.com"
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 nobody of that name"})
	r := b.newRunner(t)
	b.keep(t, spool.Deferred, spool.Progress{}, "b@example.net")
	r.pass(time.Now())
	r.sweep(time.Now())
	r.pass(time.Now())
	b.expectKept(t, nil, []string{"!mistyped@example.com"})
	b.keep(t, spool.Deferred, spool.Progress{}, "c@example.net")
	r.pass(time.Now())
	r.sweep(time.Now().Add(2 * digestInterval))
	r.pass(time.Now())
	b.expectKept(t, nil, []string{"!c@example.net", "!mistyped@example.com"})
}

// What a person holds stays, whoever asks for it.
func TestHeldByAPersonIsNotTried(t *testing.T) {
	b := newStand(t, nil)
	id := b.keep(t, spool.Hold, spool.Progress{Hold: spool.HoldPerson}, "b@example.net")
	r := b.newRunner(t)
	r.pass(time.Now())
	r.queue.Add(queue.Item{ID: id})
	r.pass(time.Now())
	if err := r.Retry(id); err == nil {
		t.Error("a held message is to be retried")
	}
	b.expectKept(t, nil, []string{"b@example.net"})
	item, err := b.spool.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Release(item); err != nil {
		t.Fatal(err)
	}
	r.pass(time.Now())
	if b.expectKept(t, nil, nil); len(b.delivered(t)) != 1 {
		t.Error("a released message is not delivered")
	}
}

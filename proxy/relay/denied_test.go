package relay

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// stepOfOffer offers an envelope with its data and gives the step that failed, "" for none.
func stepOfOffer(t *testing.T, pool *Pool, holder, sender, rcpt string) Step {
	t.Helper()
	tx, err := pool.Begin(t.Context(), holder, sender, smtp.MailParams{})
	if err == nil {
		defer tx.Abort()
		_, err = tx.Recipients(t.Context(), []smtp.Recipient{{Address: rcpt}})
	}
	if err == nil {
		tx.Write([]byte("a: b\r\n\r\n"))
		_, err = tx.Finish()
	}
	var failure *Error
	if err != nil && !errors.As(err, &failure) {
		t.Fatal(err)
	}
	if failure == nil {
		return ""
	}
	return failure.Step
}

// A relay that does not let one sender send under our login, however often, is
// there for the others, and that message waits by itself.
func TestDeniedSenderIsNotTheRelays(t *testing.T) {
	for _, step := range []testkit.RelayStep{testkit.StepMail, testkit.StepRcpt, testkit.StepData} {
		t.Run(string(step), func(t *testing.T) {
			r := startRelay(t, testkit.RelayOptions{Without: []string{"CHUNKING"}})
			pool := newPool(t, r, func(o *Options) { o.Timeouts.Pace = time.Nanosecond })
			fault := testkit.Fault{Text: "530 5.7.1 sender is not allowed here", Contains: "bad@"}
			if step == testkit.StepData {
				fault.Contains = ""
			}
			for i := range 12 {
				r.On(step, fault)
				got := stepOfOffer(t, pool, fmt.Sprint("uid:", 1000+i%2), "bad@example.com", "bad@x.test")
				if i < 2 && got != StepDenied || got != StepDenied && got != StepTurn && got != StepPace {
					t.Fatalf("try %d: %q", i, got)
				}
				r.ClearFaults()
				if got := stepOfOffer(t, pool, "uid:33", "good@example.com", "good@x.test"); got != "" {
					t.Fatalf("another's: %q", got)
				}
			}
			if status := pool.Status(time.Now()); status.Breaker != BreakerClosed || status.Error != "" || status.Pace != 0 || status.Slowed != 2 {
				t.Fatalf("%+v", status)
			}
		})
	}
}

// One that lets nobody send is away, be it for our login or for the lack of one.
func TestEverybodyDenied(t *testing.T) {
	for name, test := range map[string]struct {
		user  string
		steps []Step
	}{
		"with a login":    {"relay-user", []Step{StepDenied, StepDenied, StepAuth, StepAuth}},
		"without a login": {"", []Step{StepAuth, StepAuth}},
	} {
		t.Run(name, func(t *testing.T) {
			r := startRelay(t, testkit.RelayOptions{})
			r.On(testkit.StepMail, testkit.Fault{Text: "530 5.7.0 Authentication required"})
			pool := newPool(t, r, func(o *Options) { o.Username = test.user })
			for i, want := range test.steps {
				if got := stepOfOffer(t, pool, fmt.Sprint("uid:", i), "a@example.com", "b@x.test"); got != want {
					t.Fatalf("try %d: %q, want %q", i+1, got, want)
				}
			}
			if status := pool.Status(time.Now()); status.Error == "" || status.Slowed != len(test.steps) {
				t.Fatalf("%+v", status)
			}
		})
	}
}

// Several denied senders are everybody only while nobody else is served; then
// they have to be others.
func TestDenials(t *testing.T) {
	p, now := newPace(0), time.Unix(0, 0)
	deny := func(names ...string) (everybody bool) {
		for _, name := range names {
			now = now.Add(time.Second)
			p.raise(name, 1, 1, now)
			everybody = p.deny(name, now)
		}
		return everybody
	}
	for _, test := range []struct {
		name  string
		do    func() bool
		wants bool
	}{
		{"one again and again", func() bool { return deny("a", "a", "a", "a", "a") }, false},
		{"two by turns", func() bool { return deny("a", "b", "a", "b", "a") }, false},
		{"three", func() bool { return deny("c") }, true},
		{"one of them again", func() bool { return deny("a") }, true},
		{"when another is served", func() bool { p.succeed("victim", now); return deny("a", "b", "c", "d") }, false},
		{"the same much later", func() bool { now = now.Add(2 * lately); return deny("a", "b", "c", "d") }, false},
		{"three others", func() bool { return deny("e", "f") }, true},
	} {
		if got := test.do(); got != test.wants {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

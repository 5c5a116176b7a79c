package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// hostileReplies are what no sound relay says; usual is the reply in its place.
var hostileReplies = map[string]func(usual string) string{
	"a line of 1 MiB":         func(string) string { return "250 " + strings.Repeat("x", 1<<20) },
	"1 MiB without an end":    func(string) string { return "raw:" + strings.Repeat("x", 1<<20) },
	"100,000 lines":           func(string) string { return strings.Repeat("250-more\r\n", 100_000) + "250 end" },
	"a bare LF":               func(usual string) string { return "raw:" + usual + "\n" },
	"a bare LF between":       func(string) string { return "250-one\n250 two" },
	"a bare CR":               func(string) string { return "250 one\r250 two" },
	"two codes in one":        func(string) string { return "250-one\r\n550 two" },
	"a code of class 1":       func(string) string { return "150 hm" },
	"a code of class 6":       func(string) string { return "650 hm" },
	"no code":                 func(string) string { return "\x00\xff\xfe" },
	"an empty line":           func(string) string { return "raw:\r\n" },
	"nothing":                 func(string) string { return "raw:" },
	"half a line":             func(string) string { return "raw:250 o" },
	"a reply too many":        func(usual string) string { return usual + "\r\n" + usual },
	"a refusal on top":        func(usual string) string { return usual + "\r\n550 5.7.1 no" },
	"354":                     func(string) string { return "354 go on" },
	"334":                     func(string) string { return "334 " },
	"the welcome":             func(string) string { return "220 fake.test" },
	"the farewell":            func(string) string { return "221 2.0.0 bye" },
	"wrong order of commands": func(string) string { return "503 5.5.1 bad sequence" },
}

var usualReplies = map[string]string{"CONNECT": "220 fake.test", "EHLO": "250 fake.test", "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go on", ".": "250 ok"}

// Whatever a relay says at whatever step, in bounded time and memory: no message
// is thought to be taken that was not, one whose end was sent and not answered
// is unknown, no slot is lost, and the next message of a sound relay goes well.
func TestHostileReplies(t *testing.T) {
	for name, reply := range hostileReplies {
		for step, usual := range usualReplies {
			if text := reply(usual); text == usual {
				continue // which is no misbehaviour there
			}
			t.Run(fmt.Sprint(name, " at ", step), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { hostileReply(t, step, reply(usual)) })
			})
		}
	}
}

func hostileReply(t *testing.T, step, reply string) {
	relay := &fakeRelay{}
	pool := relay.pool(t, nil)
	relay.set(replying(step, reply))
	began := time.Now()
	final, replies, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test")
	if passed := time.Since(began); passed > pool.options.Timeouts.DataEnd+pool.options.Timeouts.Handshake {
		t.Errorf("it took %v", passed)
	}
	var failure *Error
	switch {
	case err != nil && !errors.As(err, &failure):
		t.Fatalf("%v is no *Error", err)
	case err == nil && final.Positive() && relay.served == 0 && !(step == "." && strings.HasPrefix(reply, "250 ok\r\n")):
		t.Errorf("%v, which the relay did not say", final)
	case err == nil && !final.Positive() && !final.Permanent() && len(replies) == 0:
		t.Errorf("neither an error nor a reply: %v", final)
	}
	if failure != nil {
		if answer := failure.ClientReply(); !answer.Transient() {
			t.Errorf("the client is told %v", answer)
		}
		if sent := failure.Step == StepDataEnd; failure.Unknown != sent {
			t.Errorf("unknown is %v: %v", failure.Unknown, err)
		}
		begun := step != "CONNECT" && step != "EHLO"
		if failure.Away() == begun && !errors.Is(err, errExtraReply) { // which is seen with the next reply
			t.Errorf("away is %v: %v", failure.Away(), err)
		}
	}
	if lent := pool.Status(time.Now()).Lent; lent != 0 {
		t.Errorf("%d slots are lost", lent)
	}
	nextAfterHostile(t, relay, pool)
}

// nextAfterHostile sends messages through what the misbehaviour left: one may
// still fail for a reply too many, but none is told what was another's.
func nextAfterHostile(t *testing.T, relay *fakeRelay, pool *Pool) {
	t.Helper()
	relay.set(nil)
	for i := range 2 {
		before := relay.served
		final, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test")
		synctest.Wait()
		if took := relay.served - before; final.Positive() && took != 1 {
			t.Fatalf("message %d: %v, and the relay took %d", i+1, final, took)
		}
		if i == 1 && (err != nil || final.Code != 250) {
			t.Fatalf("message %d: %v, %v", i+1, final, err)
		}
	}
}

// A relay that sends its reply octet by octet does not hold us up for longer
// than one that sends nothing.
func TestReplyThatDrips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		relay := &fakeRelay{}
		pool := relay.pool(t, nil)
		relay.set(replying("MAIL", "drip:"+strings.Repeat("250-one more line\r\n", 100)))
		began := time.Now()
		_, _, err := send(t.Context(), pool, "a: b\r\n\r\n", "a@x.test")
		if passed := time.Since(began); err == nil || passed != pool.options.Timeouts.Command {
			t.Fatalf("%v after %v", err, passed)
		}
		time.Sleep(time.Second) // for the relay's end
	})
}

// Which replies are no last word on a message.
func TestTransient(t *testing.T) {
	for code, want := range map[int]bool{
		250: false, 251: false, 220: true, 235: true, 354: true, 421: true, 450: true, 451: true, 452: true,
		500: false, 503: true, 530: true, 535: true, 538: true, 550: false, 552: false, 554: false,
	} {
		if got := Transient(smtp.Reply{Code: code}); got != want {
			t.Errorf("%d: %v", code, got)
		}
	}
}

// A failure is either the relay's, whatever the message, or one transaction's.
func TestAway(t *testing.T) {
	for _, step := range []Step{StepBreaker, StepPace, StepResolve, StepConnect, StepGreeting, StepHello, StepTLS, StepAuth, StepWait} {
		if e := (&Error{Step: step}); !e.Away() || e.Lent() {
			t.Errorf("%s", step)
		}
	}
	for _, step := range []Step{StepTurn, StepDenied, StepEnvelope, StepData, StepDataEnd} {
		if e := (&Error{Step: step}); e.Away() || !e.Lent() {
			t.Errorf("%s", step)
		}
	}
}

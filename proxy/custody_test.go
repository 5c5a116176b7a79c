package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
)

// The relay misbehaves at each step in every way. The client, whether it sends
// DATA or BDAT, has a 250 for its message only if the relay has the message and
// said 250; else a transient reply, or the relay's own refusal; and it can go on.
func TestNever250WithoutTheRelay(t *testing.T) {
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
		reply := p.transact(message.send, message.lines)
		if has := len(b.relay.Messages()); reply[0] == '2' && has != 1 {
			t.Errorf("%s: the client was told %q, but the relay has %d messages", p.where, reply, has)
		}
		if p.command("RSET"); p.command("NOOP")[:3] != "250" {
			t.Errorf("%s: the client cannot go on", p.where)
		}
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

// A relay that goes away between two recipients: the first one's 250 binds
// nobody, and the transaction can only be begun anew.
func TestRelayLostBetweenRecipients(t *testing.T) {
	b := newStand(t, nil)
	b.relay.On(testkit.StepRcpt, testkit.Fault{Act: testkit.Hangup, Skip: 1, Times: 1})
	p := b.begin(t)
	p.envelope()
	for _, line := range []string{"RCPT TO:<c@example.net>", "RCPT TO:<d@example.net>", "BDAT 8 LAST\r\na: b\r\n", "BDAT 2\r\n", "DATA"} {
		if reply := p.command(line); !strings.HasPrefix(reply, "451 4.4.2 the connection to the relay was lost") {
			t.Fatalf("%q: %s", line, reply)
		}
	}
	if reply := p.deliver("From: a@example.com\r\n\r\n"); reply[:3] != "250" {
		t.Fatal(reply)
	}
	if n := len(b.relay.Messages()); n != 1 {
		t.Fatalf("the relay has %d messages", n)
	}
}

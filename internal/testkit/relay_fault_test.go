package testkit

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// atStep brings a connection to the point where a step's command is due and
// returns that command.
func atStep(c *client, step RelayStep) string {
	c.t.Helper()
	dialogue := []struct {
		step RelayStep
		line string
		want string
	}{
		{StepGreeting, "", "220"},
		{StepHello, "EHLO me.test", "250"},
		{StepSTARTTLS, "STARTTLS", ""},
		{StepAuth, "AUTH PLAIN AHUAcA==", "235"},
		{StepNoop, "NOOP", "250"},
		{StepRset, "RSET", "250"},
		{StepMail, "MAIL FROM:<a@x.test>", "250"},
		{StepRcpt, "RCPT TO:<b@y.test>", "250"},
		{StepData, "DATA", "354"},
		{StepEnd, "body\r\n.", "250"},
		{StepQuit, "QUIT", "221"},
	}
	for _, turn := range dialogue {
		if turn.step == step {
			return turn.line
		}
		if turn.want != "" { // STARTTLS is left out on the way to the later steps
			c.expect(turn.line, turn.want)
		}
	}
	c.t.Fatalf("no way to step %q", step)
	return ""
}

func TestRelayFaultAtEachStep(t *testing.T) {
	steps := []RelayStep{
		StepGreeting, StepHello, StepSTARTTLS, StepAuth, StepNoop, StepRset, StepMail, StepRcpt, StepData, StepEnd, StepQuit,
	}
	faults := []struct {
		name  string
		fault Fault
		check func(*client)
	}{
		{"answer", Fault{Act: Answer, Text: "451-4.3.0 wait\n451 4.3.0 a while"}, func(c *client) {
			if got := c.reply(); got != "451-4.3.0 wait|451 4.3.0 a while" {
				c.t.Errorf("reply %q", got)
			}
		}},
		{"hangup", Fault{Act: Hangup}, func(c *client) { c.wantEnd(io.EOF) }},
		{"reset", Fault{Act: Reset}, func(c *client) { c.wantEnd(syscall.ECONNRESET) }},
		{"garbage", Fault{Act: Garbage}, func(c *client) { c.wantLine(func(s string) bool { return s[0] == 0 }) }},
		{"long line", Fault{Act: LongLine}, func(c *client) { c.wantLine(func(s string) bool { return len(s) > 1<<20 }) }},
		{"many lines", Fault{Act: ManyLines}, func(c *client) {
			if lines := strings.Count(c.reply(), "|") + 1; lines != 100_001 {
				c.t.Errorf("%d lines", lines)
			}
		}},
		{"twice", Fault{Act: Twice}, func(c *client) {
			if one, two := c.reply(), c.reply(); one != two {
				c.t.Errorf("%q, then %q", one, two)
			}
		}},
	}
	for _, f := range faults {
		for _, step := range steps {
			if f.name == "twice" && step == StepSTARTTLS {
				continue // the second reply belongs to the handshake then
			}
			if f.name == "reset" && step == StepGreeting {
				continue // may hit the client's connect already
			}
			t.Run(f.name+" at "+string(step), func(t *testing.T) {
				relay := start(t, RelayOptions{Username: "u", Password: "p", AuthWithoutTLS: true})
				relay.On(step, f.fault)
				c := dial(t, relay.Addr())
				if line := atStep(c, step); line != "" {
					c.send(line + "\r\n")
				}
				f.check(c)
			})
		}
	}
}

func (c *client) wantEnd(want error) {
	c.t.Helper()
	if line, err := c.r.ReadString('\n'); !errors.Is(err, want) {
		c.t.Errorf("read %q and %v, want %v", line, err, want)
	}
}

func (c *client) wantLine(good func(string) bool) {
	c.t.Helper()
	if line, err := c.r.ReadString('\n'); err != nil || !good(line) {
		c.t.Errorf("read a line of %d bytes and %v", len(line), err)
	}
}

func TestRelayFaultsInContent(t *testing.T) {
	for _, verb := range []string{"DATA", "BDAT"} {
		relay := start(t, RelayOptions{})
		relay.On(StepContent, Fault{Act: Reset, Bytes: 100})
		c := dial(t, relay.Addr())
		toContent(c)
		c.send(map[string]string{"DATA": "DATA\r\n", "BDAT": "BDAT 100000 LAST\r\n"}[verb])
		if verb == "DATA" {
			c.expect("", "354")
		}
		c.conn.Write([]byte(strings.Repeat("x", 100)))
		c.wantEnd(syscall.ECONNRESET)
		if messages := relay.Messages(); len(messages) != 0 {
			t.Errorf("%s: %d messages recorded", verb, len(messages))
		}
	}
}

// toContent brings a connection without AUTH to DATA.
func toContent(c *client) {
	c.t.Helper()
	c.expect("", "220")
	c.expect("EHLO me.test", "250")
	c.expect("MAIL FROM:<a@x.test>", "250")
	c.expect("RCPT TO:<b@y.test>", "250")
}

func TestRelayFaultSelection(t *testing.T) {
	relay := start(t, RelayOptions{})
	relay.On(StepRcpt, Fault{Text: "550 5.1.1 nobody", Contains: "nobody@"})
	relay.On(StepRcpt, Fault{Text: "451 4.2.0 later", Skip: 1, Times: 2})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	c.expect("EHLO me.test", "250")
	c.expect("MAIL FROM:<a@x.test>", "250")
	for _, turn := range []struct{ local, want string }{
		{"one", "250"}, {"nobody", "550"}, {"two", "451"}, {"three", "451"}, {"four", "250"},
	} {
		c.expect("RCPT TO:<"+turn.local+"@y.test>", turn.want)
	}
	relay.ClearFaults()
	c.expect("RCPT TO:<nobody@y.test>", "250")
	if n := relay.Counters().Faults; n != 3 {
		t.Errorf("faults acted %d times, want 3", n)
	}
}

func TestRelayAnswerOf250TakesEffect(t *testing.T) {
	relay := start(t, RelayOptions{})
	relay.On(StepEnd, Fault{Text: "250 2.6.0 as you like", Times: 1})
	relay.On(StepEnd, Fault{Text: "451 4.3.0 no"})
	c := dial(t, relay.Addr())
	toContent(c)
	c.expect("DATA", "354")
	c.expect("one\r\n.", "250 2.6.0 as you like")
	c.expect("MAIL FROM:<a@x.test>", "250")
	c.expect("RCPT TO:<b@y.test>", "250")
	c.expect("DATA", "354")
	c.expect("two\r\n.", "451")
	if n := len(relay.Messages()); n != 1 {
		t.Errorf("%d messages recorded, want 1", n)
	}
}

func TestRelayDropConnections(t *testing.T) {
	relay := start(t, RelayOptions{})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	relay.DropConnections()
	c.wantEnd(syscall.ECONNRESET)
}

func TestRelayStallsAndSaysNothing(t *testing.T) {
	relay := start(t, RelayOptions{})
	relay.On(StepNoop, Fault{Act: Silent, Times: 1})
	relay.On(StepRset, Fault{Act: Stall})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	c.send("NOOP\r\n")
	c.expect("EHLO me.test", "250-relay.test") // the reply to NOOP did not come
	c.send("RSET\r\n")
	c.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	c.wantEnd(os.ErrDeadlineExceeded)
}

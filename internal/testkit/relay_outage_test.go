package testkit

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

func TestRelayDownAndUp(t *testing.T) {
	relay := start(t, RelayOptions{})
	addr, implicit := relay.Addr(), relay.ImplicitAddr()
	for range 3 {
		c := dial(t, addr)
		c.expect("", "220")
		if err := relay.Down(); err != nil {
			t.Fatal(err)
		}
		c.wantEnd(syscall.ECONNRESET)
		for _, gone := range []string{addr, implicit} {
			if conn, err := net.Dial("tcp", gone); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dialling a relay that is down: %v, %v", conn, err)
			}
			if other, err := net.Listen("tcp", gone); err == nil {
				t.Errorf("somebody else may listen on %s", other.Addr())
			}
		}
		if err := relay.Down(); err != nil {
			t.Fatal(err)
		}
		if err := relay.Up(); err != nil {
			t.Fatal(err)
		}
		if relay.Addr() != addr || relay.ImplicitAddr() != implicit {
			t.Fatalf("up again at %s and %s, was at %s and %s", relay.Addr(), relay.ImplicitAddr(), addr, implicit)
		}
	}
	dial(t, addr).expect("", "220")
	secured := dial(t, implicit)
	secured.secure(relay, "localhost")
	secured.expect("", "220")
}

func TestRelayClosesWhileDown(t *testing.T) {
	relay := start(t, RelayOptions{})
	if err := relay.Down(); err != nil {
		t.Fatal(err)
	}
}

// TestRelayFlaps: two connections are served, the next two closed, and so on.
func TestRelayFlaps(t *testing.T) {
	relay := start(t, RelayOptions{})
	relay.On(StepGreeting, Fault{Act: Hangup, Skip: 2, Times: 2, Again: true})
	for i := range 12 {
		c := dial(t, relay.Addr())
		if i%4 < 2 {
			c.expect("", "220")
			continue
		}
		c.wantEnd(io.EOF)
	}
}

func TestRelayFaultByChance(t *testing.T) {
	relay := start(t, RelayOptions{})
	relay.On(StepNoop, Fault{Text: "451 4.3.0 by chance", Chance: 0.5})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	seen := map[string]int{}
	for range 200 {
		c.send("NOOP\r\n")
		seen[c.reply()[:3]]++
	}
	if seen["250"] < 20 || seen["451"] < 20 {
		t.Errorf("replies %v of 200 at a chance of one in two", seen)
	}
}

// TestRelayTakesAndSaysOtherwise: the message is there, the reply is not.
func TestRelayTakesAndSaysOtherwise(t *testing.T) {
	for name, fault := range map[string]Fault{
		"reset":     {Act: Reset, Taken: true},
		"hangup":    {Act: Hangup, Taken: true},
		"long line": {Act: LongLine, Taken: true},
		"refusal":   {Text: "451 4.3.0 no", Taken: true},
		"silence":   {Act: Silent},
	} {
		t.Run(name, func(t *testing.T) {
			relay := start(t, RelayOptions{DigestFrom: "X-Marker:"})
			relay.On(StepEnd, fault)
			c := dial(t, relay.Addr())
			toContent(c)
			c.expect("DATA", "354")
			c.send("X-Marker: m1\r\n\r\nbody\r\n.\r\n")
			messages, err := relay.WaitMessages(t.Context(), 1)
			if err != nil || messages[0].Marker != "m1" || relay.Tally()["m1"] != 1 {
				t.Errorf("%+v, %v", messages, err)
			}
		})
	}
	relay := start(t, RelayOptions{})
	relay.On(StepEnd, Fault{Act: Reset, Taken: true, Times: 1})
	relay.On(StepEnd, Fault{Text: "451 4.3.0 no"})
	c := dial(t, relay.Addr())
	toContent(c)
	c.expect("DATA", "354")
	c.send("one\r\n.\r\n")
	if _, err := relay.WaitMessages(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	c = dial(t, relay.Addr())
	toContent(c)
	c.expect("DATA", "354")
	c.expect("two\r\n.", "451")
	if n := len(relay.Messages()); n != 1 {
		t.Errorf("%d messages recorded, want 1", n)
	}
}

func TestRelayRawReply(t *testing.T) {
	relay := start(t, RelayOptions{})
	relay.On(StepNoop, Fault{Act: Raw, Text: "250-one\n250 two\n", Times: 1})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	c.send("NOOP\r\n")
	for _, want := range []string{"250-one\n", "250 two\n"} {
		if line, err := c.r.ReadString('\n'); line != want || err != nil {
			t.Errorf("got %q, %v, want %q", line, err, want)
		}
	}
}

func TestRelayStallsUntilReleased(t *testing.T) {
	for _, step := range []RelayStep{StepMail, StepContent, StepEnd} {
		relay := start(t, RelayOptions{})
		release := make(chan struct{})
		relay.On(step, Fault{Act: Stall, Until: release})
		c := dial(t, relay.Addr())
		c.expect("", "220")
		c.expect("EHLO me.test", "250")
		c.send("MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\nX: y\r\n\r\n.\r\n")
		if n := len(relay.Messages()); n != 0 {
			t.Errorf("%s: %d messages recorded before the release", step, n)
		}
		close(release)
		for _, want := range []string{"250", "250", "354", "250"} {
			c.expect("", want)
		}
		if n := len(relay.Messages()); n != 1 {
			t.Errorf("%s: %d messages recorded, want 1", step, n)
		}
	}
}

// TestRelayMarker: the line may come in pieces, be too long, or be absent.
func TestRelayMarker(t *testing.T) {
	long := make([]byte, 600)
	for i := range long {
		long[i] = 'x'
	}
	for text, want := range map[string]string{
		"X-Marker: abc\r\nSubject: x\r\n":              "abc",
		"Received: x\r\n\ty\r\nX-Marker:abc \r\n\r\n":  "abc",
		"Subject: X-Marker: no\r\n":                    "",
		"X-Marker: " + string(long) + "\r\n":           "",
		"A: b\r\nX-Marker: first\r\nX-Marker: two\r\n": "first",
	} {
		for _, size := range []int{1, 7, len(text)} {
			c := &content{opts: &RelayOptions{DigestFrom: "X-Marker:"}, sought: []byte("X-Marker:"), digest: &countingHash{}}
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				c.write([]byte(rest[:n]))
				rest = rest[n:]
			}
			if got := c.marker(); got != want {
				t.Errorf("marker of %.30q in pieces of %d is %q, want %q", text, size, got, want)
			}
		}
	}
}

// countingHash stands for a digest that nobody looks at.
type countingHash struct{ n int }

func (h *countingHash) Write(p []byte) (int, error) { h.n += len(p); return len(p), nil }
func (h *countingHash) Sum(b []byte) []byte         { return b }
func (h *countingHash) Reset()                      { h.n = 0 }
func (h *countingHash) Size() int                   { return 0 }
func (h *countingHash) BlockSize() int              { return 1 }

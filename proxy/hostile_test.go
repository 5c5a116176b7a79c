package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// begin opens a session and says EHLO.
func (b *stand) begin(t *testing.T) *player {
	t.Helper()
	p := newPlayer(t, b.dial(t))
	p.expectCode("220")
	p.command("EHLO client.test")
	return p
}

// envelope opens a transaction up to its recipient.
func (p *player) envelope() {
	p.t.Helper()
	for _, line := range []string{"MAIL FROM:<a@example.com>", "RCPT TO:<b@example.net>"} {
		if reply := p.command(line); reply[:3] != "250" {
			p.t.Fatalf("%s: %s", line, reply)
		}
	}
}

// deliver sends a message by DATA, and gives the reply.
func (p *player) deliver(message string) string {
	p.t.Helper()
	p.envelope()
	if reply := p.command("DATA"); reply[:3] != "354" {
		p.t.Fatal(reply)
	}
	return p.command(message + ".")
}

// Header sections made to be read in two ways, or to cost much.
func TestHostileHeaders(t *testing.T) {
	const good = "From: a@example.com\r\n"
	for name, test := range map[string]struct{ message, reply string }{
		"plain":                       {good + "\r\nbody\r\n", "250"},
		"fields alone":                {good, "250"},
		"second From is foreign":      {good + "From: ceo@bank.test\r\n\r\n", "550 5.7.1 From field not allowed"},
		"first From is foreign":       {"From: ceo@bank.test\r\n" + good + "\r\n", "550 5.7.1 From field not allowed"},
		"two mailboxes":               {"From: a@example.com, ceo@bank.test\r\n\r\n", "550 5.7.1"},
		"folded":                      {"From:\r\n ceo@bank.test\r\n\r\n", "550 5.7.1"},
		"space before the colon":      {good + "FROM : ceo@bank.test\r\n\r\n", "550 5.7.1"},
		"no From":                     {"Subject: x\r\n\r\n" + good, "550 5.7.1 From field missing"},
		"begins with an empty line":   {"\r\n" + good + "\r\n", "550 5.7.1 From field missing"},
		"begins with a continuation":  {" by me; today\r\n" + good + "\r\n", "550 5.6.0"},
		"nothing at all":              {"", "550 5.7.1 From field missing"},
		"10,000 fields":               {good + strings.Repeat("X-Field: value\r\n", 10000) + "\r\n", "250"},
		"many hops":                   {good + strings.Repeat("Received: x\r\n", 101) + "\r\n", "554 5.4.6"},
		"no end of the header":        {good + strings.Repeat("X-Field: value\r\n", 20000), "552 5.3.4 header section too large"},
		"one field without end":       {good + "X: " + strings.Repeat("x", 300000) + "\r\n\r\n", "552 5.3.4 header section too large"},
		"NULs":                        {good + "X: a\x00b\r\n\r\n\x00.\r\n..\x00\r\n", "250"},
		"From is rubbish":             {"From: <<a@example.com\r\n\r\n", "550 5.7.1 From field cannot be read"},
		"larger than the limit":       {good + "\r\n" + strings.Repeat("body\r\n", 300000), "552 5.3.4 message too large"},
		"hides an end of the message": {good + "\r\n..\r\nQUIT\r\n", "250"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newStand(t, map[string]string{"policy": "sites"})
			p := b.begin(t)
			reply := p.deliver(test.message)
			if !strings.HasPrefix(reply, test.reply) {
				t.Fatalf("%s, want %s", reply, test.reply)
			}
			messages := b.relay.Messages()
			if (reply[0] == '2') != (len(messages) == 1) {
				t.Fatalf("%s, and the relay has %d messages", reply, len(messages))
			}
			if len(messages) == 1 {
				want := strings.ReplaceAll("\r\n"+test.message, "\r\n.", "\r\n")[2:]
				if got := string(messages[0].Bytes); !strings.HasPrefix(got, "Received: from client.test (local process)\r\n\tby host.test") || !strings.HasSuffix(got, want) {
					t.Fatalf("the relay has %.300q", got)
				}
			}
			if reply := p.command("NOOP"); reply[:3] != "250" {
				t.Fatal(reply)
			}
		})
	}
}

// Header sections that are long and have not ended cost memory while they are
// held, so few sessions may have one at a time; each gives its place back.
func TestLongHeadersAreFew(t *testing.T) {
	b := newStand(t, nil)
	long := "From: a@example.com\r\n" + strings.Repeat("X-Field: value\r\n", 8000)
	for range maxLongHeads {
		b.server.longHeads <- struct{}{}
	}
	p := b.begin(t)
	if reply := p.deliver(long + "\r\n"); !strings.HasPrefix(reply, "451 4.3.1") {
		t.Fatal(reply)
	}
	for range maxLongHeads {
		<-b.server.longHeads
	}
	for range 3 {
		left := b.begin(t)
		left.envelope()
		left.command("DATA")
		_, _ = io.WriteString(left.conn, long)
		_ = left.conn.Close()
		if reply := p.deliver(long + "\r\n"); reply[:3] != "250" {
			t.Fatal(reply)
		}
		if reply := p.deliver(strings.Repeat(long, 10)); reply[:3] != "552" {
			t.Fatal(reply)
		}
	}
	b.finish(t)
	if n := len(b.server.longHeads); n != 0 {
		t.Fatalf("%d places are not given back", n)
	}
}

// HELO cannot write into our trace field.
func TestHostileGreeting(t *testing.T) {
	b := newStand(t, nil)
	p := newPlayer(t, b.dial(t))
	p.expectCode("220")
	for _, name := range []string{"a b", "x)\t(y", "x;", "[1.2.3.4] by me", "<script>", "\x00", "ü.example", strings.Repeat("a", 256)} {
		if reply := p.command("EHLO " + name); reply[:3] != "501" {
			t.Errorf("EHLO %q: %s", name, reply)
		}
	}
}

func TestUnusableChunks(t *testing.T) {
	for _, size := range []string{"9223372036854775807", "99999999999999999999", "-1", "0x10", "1e9", "", "5 LAST LAST"} {
		b := newStand(t, map[string]string{"max_message": "1000"})
		p := b.begin(t)
		p.envelope()
		if reply := p.command("BDAT " + size); reply[:3] != "501" {
			t.Errorf("BDAT %s: %s", size, reply)
		}
		p.play("EOF")
	}
}

// A message too large by BDAT is refused as soon as that shows, and the chunks
// behind it are swallowed, not read as commands.
func TestChunksBeyondTheLimit(t *testing.T) {
	b := newStand(t, map[string]string{"max_message": "1000"})
	p := b.begin(t)
	p.envelope()
	p.pending.WriteString("BDAT 2000\r\n" + strings.Repeat("a: b\r\n\r\n", 250) + "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
	p.flush()
	for _, code := range []string{"552", "503", "503", "250"} {
		p.expectCode(code)
	}
	if events := b.finish(t); len(events) != 1 || events[0].ReplyCode != 552 || len(b.relay.Messages()) != 0 {
		t.Fatalf("%+v, %d messages", events, len(b.relay.Messages()))
	}
}

func TestTooManyConnections(t *testing.T) {
	for limit, want := range map[string]string{
		"max_per_peer": "421 4.7.0 host.test too many connections of one sender, try again later",
		"max_sessions": "421 4.3.2 host.test too many connections, try again later",
	} {
		b := newStand(t, map[string]string{limit: "3"})
		var players []*player
		for range 3 {
			players = append(players, b.begin(t))
		}
		for range 20 {
			p := newPlayer(t, b.dial(t))
			if reply := p.expectCode("421"); reply != want {
				t.Errorf("%s: %s", limit, reply)
			}
			p.play("EOF")
		}
		players[0].command("QUIT")
		players[0].play("EOF")
		for deadline := time.Now().Add(5 * time.Second); b.server.Sessions() > 2; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("a place is not given back")
			}
		}
		b.begin(t)
		events, refused := b.finish(t), 0
		for _, event := range events {
			if event.Kind == audit.KindSession {
				refused += int(event.Count)
			}
		}
		if limit == "max_per_peer" && (len(events) != 5 || refused != 16) { // 1, 2, 4, 8 and 16
			t.Errorf("%d events stand for %d of 20 refusals", len(events), refused)
		}
	}
}

// Megabytes of commands in a row have their replies, in order.
func TestPipelinedMegabytes(t *testing.T) {
	b := newStand(t, nil)
	p := b.begin(t)
	const n = 50000
	go func() {
		_, _ = io.WriteString(p.conn, strings.Repeat("NOOP\r\nVRFY x\r\n", n))
	}()
	for range n {
		p.expectCode("250")
		p.expectCode("252")
	}
}

// More recipients than are gathered for one flight, with bad ones among them,
// have their replies in order; and a line that is none ends the flight.
func TestRepliesStayInOrder(t *testing.T) {
	b := newStand(t, map[string]string{"max_recipients": "1000", "max_errors": "1000"})
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 no", Contains: "no"})
	p := b.begin(t)
	var codes []string
	p.pending.WriteString("MAIL FROM:<a@example.com>\r\n")
	codes = append(codes, "250")
	for i := range 250 {
		switch i % 5 {
		case 1:
			p.pending.WriteString("RCPT TO:<no" + fmt.Sprint(i) + "@example.net>\r\n")
			codes = append(codes, "550")
		case 2:
			p.pending.WriteString("RCPT TO:<bad\r\n")
			codes = append(codes, "501")
		default:
			p.pending.WriteString("RCPT TO:<" + fmt.Sprint(i) + "@example.net>\r\n")
			codes = append(codes, "250")
		}
	}
	p.pending.WriteString("RCPT TO:<" + strings.Repeat("x", 3000) + "@example.net>\r\n")
	p.pending.WriteString("RCPT TO:<last@example.net>\r\nRCPT TO:<b\rare@example.net>\r\n")
	p.flush()
	for i, code := range append(codes, "500", "250", "500") {
		if reply := p.answer(); reply[:3] != code {
			t.Fatalf("reply %d: %s, want %s", i, reply, code)
		}
	}
	p.play("EOF")
}

// After the 421 for too many errors nothing more is carried out.
func TestNothingAfterTooManyErrors(t *testing.T) {
	b := newStand(t, map[string]string{"max_errors": "3"})
	p := b.begin(t)
	p.pending.WriteString("MAIL FROM:<a@example.com>\r\n" + strings.Repeat("RCPT TO:<bad\r\n", 5) + "RCPT TO:<b@example.net>\r\nDATA\r\na: b\r\n\r\n.\r\n")
	p.flush()
	for _, code := range []string{"250", "501", "501", "501", "421"} {
		p.expectCode(code)
	}
	p.play("EOF")
	if len(b.relay.Messages()) != 0 {
		t.Fatal("a message was taken after 421")
	}
}

// What the relay refuses is no error of the client, and a message that was
// taken wipes the slate.
func TestErrorsThatDoNotCount(t *testing.T) {
	b := newStand(t, map[string]string{"max_errors": "3"})
	b.relay.On(testkit.StepRcpt, testkit.Fault{Text: "550 5.1.1 no", Contains: "no@"})
	p := b.begin(t)
	p.command("MAIL FROM:<a@example.com>")
	for range 10 {
		if reply := p.command("RCPT TO:<no@example.net>"); reply[:3] != "550" {
			t.Fatal(reply)
		}
	}
	p.command("RSET")
	for range 5 {
		p.command("NONSENSE")
		p.command("NONSENSE")
		if reply := p.deliver("a: b\r\n\r\n"); reply[:3] != "250" {
			t.Fatal(reply)
		}
	}
}

// 200 clients in the middle of large messages cost bounded memory: both sides
// of the relay's connections, which are in this process, included.
func TestMemoryIsBounded(t *testing.T) {
	const clients = 200
	b := newStand(t, map[string]string{"connections": "300", "max_sessions": "300", "max_per_peer": "300", "max_message": "1000000000", "keep": "no"})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	piece := "From: a@example.com\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 3000)
	var sending sync.WaitGroup
	for range clients {
		p := b.begin(t)
		p.envelope()
		p.command("DATA")
		sending.Go(func() {
			for range 5 {
				_, _ = io.WriteString(p.conn, piece)
			}
		})
	}
	sending.Wait()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if perSession := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / clients; perSession > 280<<10 {
		t.Fatalf("%d KiB for each session and its two ends", perSession>>10)
	} else {
		t.Logf("%d KiB for each session and its two ends", perSession>>10)
	}
}

func TestShutdownDrains(t *testing.T) {
	b := newStand(t, nil)
	idle, opened, sending, chunking := b.begin(t), b.begin(t), b.begin(t), b.begin(t)
	opened.envelope()
	sending.envelope()
	sending.command("DATA")
	sending.play(`c: From: a@example.com\r\n\r\nhalf`)
	sending.flush()
	chunking.envelope()
	if reply := chunking.command("BDAT 6\r\na: b"); reply[:3] != "250" {
		t.Fatal(reply)
	}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		ended <- b.server.Shutdown(ctx)
	}()
	for _, p := range []*player{idle, opened} {
		if reply := p.answer(); !strings.HasPrefix(reply, "421 4.3.2 host.test is shutting down") {
			t.Fatal(reply)
		}
		p.play("EOF")
	}
	if _, err := net.Dial("tcp", b.address); err == nil {
		t.Fatal("connections are still accepted")
	}
	if reply := sending.command("\r\n."); reply[:3] != "250" {
		t.Fatal(reply)
	}
	sending.expectCode("421")
	if reply := chunking.command("BDAT 2\r\n"); reply[:3] != "250" {
		t.Fatal(reply)
	}
	if reply := chunking.command("BDAT 6 LAST\r\nlast"); reply[:3] != "250" {
		t.Fatal(reply)
	}
	chunking.expectCode("421")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := len(b.relay.Messages()); n != 2 {
		t.Fatalf("%d messages arrived", n)
	}
}

// When its time is over, Shutdown cuts off clients that do not go on and relays
// that do not answer; they hear 421 and keep their messages.
func TestShutdownCutsOff(t *testing.T) {
	b := newStand(t, nil)
	b.relay.On(testkit.StepEnd, testkit.Fault{Act: testkit.Stall})
	sending, waiting := b.begin(t), b.begin(t)
	sending.envelope()
	sending.command("DATA")
	waiting.envelope()
	waiting.command("DATA")
	waiting.play(`c: From: a@example.com\r\n\r\n.\r\n`)
	waiting.flush()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := b.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Fatalf("%v after %v", err, time.Since(began))
	}
	if events := b.events.all(); len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	for _, p := range []*player{sending, waiting} {
		if line, err := p.reader.ReadString('\n'); err != nil || !strings.HasPrefix(line, "421 4.3.2 host.test is shutting down") {
			t.Errorf("was told %q, %v", line, err)
		}
		if line, err := p.reader.ReadString('\n'); err == nil {
			t.Errorf("and then %q", line)
		}
	}
	if kept := b.kept(t); len(kept) > 0 {
		t.Errorf("the spool has what the clients keep, for %v", kept)
	}
}

package proxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// ways lead a fresh session to each state, by commands that all succeed.
var ways = map[state][]string{
	stateConnected: nil,
	stateGreeted:   {"EHLO client.test"},
	stateMail:      {"EHLO client.test", "MAIL FROM:<a@example.com>"},
	stateRcpt:      {"EHLO client.test", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.net>"},
	stateChunks:    {"EHLO client.test", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.net>", "BDAT 18\r\nSubject: x\r\n\r\nab"},
}

// cell is what a command leads to: the reply, and the state after it.
type cell struct {
	code  int
	after state
}

// probe tells the states apart by the replies to commands that change nothing.
func probe(p *player) string {
	codes := ""
	for _, line := range []string{"DATA x", "RCPT", "MAIL"} {
		codes += p.command(line)[:3] + " "
	}
	return strings.TrimSpace(codes)
}

var probed = map[state]string{
	stateConnected: "503 503 503",
	stateGreeted:   "503 503 501",
	stateMail:      "503 501 503",
	stateRcpt:      "501 501 503",
	stateChunks:    "503 503 503",
}

const closed = states // the session is over

// Every command in every state: the reply, and where the session stands after
// it (RFC 5321 section 4.1.4).
func TestEveryCommandInEveryState(t *testing.T) {
	const (
		co = stateConnected
		gr = stateGreeted
		ma = stateMail
		rc = stateRcpt
		ch = stateChunks
	)
	same := func(code int) [states]cell {
		return [states]cell{{code, co}, {code, gr}, {code, ma}, {code, rc}, {code, ch}}
	}
	after := func(code int, s state) [states]cell {
		return [states]cell{{code, s}, {code, s}, {code, s}, {code, s}, {code, s}}
	}
	for _, test := range []struct {
		line string
		want [states]cell
	}{
		{"EHLO client.test", after(250, gr)},
		{"EHLO", same(501)},
		{"EHLO <bad>", same(501)},
		{"HELO client.test", after(250, gr)},
		{"HELO", same(501)},
		{"STARTTLS now", [states]cell{{503, co}, {501, gr}, {503, ma}, {503, rc}, {503, ch}}},
		{"AUTH PLAIN AAAA", [states]cell{{503, co}, {502, gr}, {503, ma}, {503, rc}, {503, ch}}},
		{"MAIL FROM:<x@example.com>", [states]cell{{503, co}, {250, ma}, {503, ma}, {503, rc}, {503, ch}}},
		{"MAIL FROM:<bad", [states]cell{{503, co}, {501, gr}, {503, ma}, {503, rc}, {503, ch}}},
		{"RCPT TO:<y@example.net>", [states]cell{{503, co}, {503, gr}, {250, rc}, {250, rc}, {503, ch}}},
		{"RCPT TO:<bad", [states]cell{{503, co}, {503, gr}, {501, ma}, {501, rc}, {503, ch}}},
		{"DATA", [states]cell{{503, co}, {503, gr}, {503, ma}, {354, gr}, {503, ch}}},
		{"DATA x", [states]cell{{503, co}, {503, gr}, {503, ma}, {501, rc}, {503, ch}}},
		{"BDAT 2\r\n", [states]cell{{503, co}, {503, gr}, {503, ma}, {250, ch}, {250, ch}}},
		{"BDAT 2 LAST\r\n", [states]cell{{503, co}, {503, gr}, {503, ma}, {250, gr}, {250, gr}}},
		{"BDAT many", after(501, closed)},
		{"RSET", [states]cell{{250, co}, {250, gr}, {250, gr}, {250, gr}, {250, gr}}},
		{"RSET x", same(501)},
		{"NOOP", same(250)},
		{"NOOP x", same(250)},
		{"VRFY x", same(252)},
		{"VRFY", same(501)},
		{"EXPN x", same(502)},
		{"EXPN", same(501)},
		{"HELP", same(214)},
		{"NONSENSE", same(500)},
		{"", same(500)},
		{strings.Repeat("x", 3000), same(500)},
		{"GET / HTTP/1.1", after(554, closed)},
		{"a\rb", after(500, closed)},
		{"QUIT", after(221, closed)},
		{"QUIT x", same(501)},
	} {
		for from := range states {
			t.Run(fmt.Sprintf("%.20q in %s", test.line, from), func(t *testing.T) {
				runCell(t, from, test.line, test.want[from])
			})
		}
	}
}

func runCell(t *testing.T, from state, line string, want cell) {
	stand := newStand(t, nil)
	p := newPlayer(t, stand.dial(t))
	p.where = line
	p.expectCode("220")
	for _, command := range ways[from] {
		if reply := p.command(command); reply[:1] != "2" {
			t.Fatalf("on the way, %q: %s", command, reply)
		}
	}
	reply := p.command(line) // the CRLF that it adds is BDAT's chunk
	if reply[:3] != fmt.Sprint(want.code) {
		t.Fatalf("%s, want %d", reply, want.code)
	}
	if want.code == 354 {
		if reply := p.command("."); reply[:3] != "250" {
			t.Fatal(reply)
		}
	}
	if want.after == closed {
		p.play("EOF")
		return
	}
	if got := probe(p); got != probed[want.after] {
		t.Fatalf("afterwards the session says %q, in state %s it would be %q", got, want.after, probed[want.after])
	}
	if want.after == stateChunks { // which answers as stateConnected does
		if reply := p.command("BDAT 2 LAST\r\n"); reply[:3] != "250" {
			t.Fatalf("the message cannot be ended: %s", reply)
		}
	}
}

// command sends one command and gives the last line of the reply.
func (p *player) command(line string) string {
	p.t.Helper()
	p.pending.WriteString(line + "\r\n")
	p.flush()
	return p.answer()
}

// answer reads one reply and gives its last line.
func (p *player) answer() string {
	p.t.Helper()
	for {
		line, err := p.reader.ReadString('\n')
		if err != nil || len(line) < 6 || !strings.HasSuffix(line, "\r\n") {
			p.t.Fatalf("%s: %q, %v", p.where, line, err)
		}
		if line[3] == ' ' {
			return strings.TrimSuffix(line, "\r\n")
		}
	}
}

func (p *player) expectCode(code string) string {
	p.t.Helper()
	reply := p.answer()
	if reply[:3] != code {
		p.t.Fatalf("%s: %s, want %s", p.where, reply, code)
	}
	return reply
}

// The table of commands is whole, and its states have names.
func TestCommandTable(t *testing.T) {
	for verb := range smtp.Verbs {
		if c := commands[verb]; (c.proceed == nil) != (smtp.Verb(verb) == smtp.VerbUnknown || smtp.Verb(verb) == smtp.VerbForeign) {
			t.Errorf("%v has no procedure", smtp.Verb(verb))
		}
		for s := range states {
			if c := commands[verb]; c.proceed != nil && !c.legal[s] && c.elsewhere.Code != 503 {
				t.Errorf("%v in %v is neither legal nor refused with 503", smtp.Verb(verb), s)
			}
		}
	}
}

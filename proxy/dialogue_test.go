package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDialogues runs the conversations of testdata/dialogue. A line begins with
//
//	C: what the client sends, CRLF added; \r, \n, \x00 and \t are escapes
//	c: the same, without CRLF
//	S: what the server must answer; * stands for any text at that place
//	TLS  both sides start TLS
//	EOF  the server closes here
//	# comment
//
// and the options of the server stand in lines "! name value" at the top.
// Successive C lines leave in one write, as pipelining does.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/dialogue/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runDialogue(t, strings.Split(strings.TrimRight(string(text), "\n"), "\n"))
		})
	}
}

func runDialogue(t *testing.T, lines []string) {
	options := map[string]string{}
	for len(lines) > 0 && (strings.HasPrefix(lines[0], "! ") || strings.HasPrefix(lines[0], "#")) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(lines[0], "! "), " "); ok {
			options[name] = value
		}
		lines = lines[1:]
	}
	stand := newStand(t, options)
	player := newPlayer(t, stand.dial(t))
	for i, line := range lines {
		player.where = fmt.Sprintf("line %d of the dialogue, %q", i+1, line)
		player.play(line)
	}
	player.flush()
}

// player is the client's side of a dialogue.
type player struct {
	t       testing.TB
	conn    net.Conn
	reader  *bufio.Reader
	pending strings.Builder
	where   string
}

func newPlayer(t testing.TB, conn net.Conn) *player {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &player{t: t, conn: conn, reader: bufio.NewReader(conn)}
}

func (p *player) play(line string) {
	p.t.Helper()
	kind, text, _ := strings.Cut(line, " ")
	switch kind {
	case "C:":
		p.pending.WriteString(unescape(text) + "\r\n")
	case "c:":
		p.pending.WriteString(unescape(text))
	case "S:":
		p.flush()
		got, err := p.reader.ReadString('\n')
		if err != nil {
			p.t.Fatalf("%s: got %q, %v", p.where, got, err)
		}
		if got = strings.TrimSuffix(got, "\r\n"); !matches(text, got) {
			p.t.Fatalf("%s: got %q", p.where, got)
		}
	case "TLS":
		p.flush()
		p.conn = tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
		p.reader = bufio.NewReader(p.conn)
	case "EOF":
		p.flush()
		if rest, err := p.reader.ReadString('\n'); err == nil {
			p.t.Fatalf("%s: got %q instead of the end", p.where, rest)
		}
	case "", "#":
	default:
		p.t.Fatalf("%s: unknown kind of line", p.where)
	}
}

func (p *player) flush() {
	if p.pending.Len() == 0 {
		return
	}
	if _, err := p.conn.Write([]byte(p.pending.String())); err != nil {
		p.t.Fatalf("%s: %v", p.where, err)
	}
	p.pending.Reset()
}

var escapes = strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\t`, "\t", `\x00`, "\x00", `\\`, `\`)

func unescape(text string) string { return escapes.Replace(text) }

// matches compares with * standing for any text.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for i, part := range parts[1:] {
		if i == len(parts)-2 {
			return strings.HasSuffix(text, part)
		}
		_, after, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = after
	}
	return text == ""
}

package testkit

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// plainly removes transparency the slow way (RFC 5321 section 4.5.2), or says
// that there is no end of data.
func plainly(wire string) (content, rest string, ended bool) {
	for begin := 0; begin < len(wire); {
		line := wire[begin:]
		end := strings.Index(line, "\r\n")
		if end >= 0 {
			line = line[:end+2]
		}
		if line == ".\r\n" {
			return content, wire[begin+3:], true
		}
		if end < 0 {
			return "", "", false
		}
		content += strings.TrimPrefix(line, ".")
		begin += len(line)
	}
	return "", "", false
}

func FuzzRelayContent(f *testing.F) {
	for _, wire := range []string{
		".\r\n", "..\r\n.\r\n", "a\r\n.\r\nQUIT\r\n", "a\rb\nc\r\r\n.\r\n", "\r\n.\r\n.\r\n", ".\n.\r.\r\n.\r\n", "a\r\n.b\r\n.\r\n",
	} {
		f.Add(wire)
	}
	relay, err := NewRelay(RelayOptions{KeepBytes: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, wire string) {
		want, rest, ended := plainly(wire)
		for name, reader := range map[string]io.Reader{
			"whole":       strings.NewReader(wire),
			"byte a time": iotest.OneByteReader(strings.NewReader(wire)),
		} {
			s := newSession(relay, &net.TCPConn{}, false)
			s.r = bufio.NewReaderSize(reader, 16)
			s.w.Reset(io.Discard)
			s.transaction = newTransaction(s, "", nil)
			s.transaction.content = s.newContent()
			if got := s.readDotted(); (got == proceed) != ended {
				t.Fatalf("%s: end of data of %q: %v", name, wire, got)
			}
			if !ended {
				continue
			}
			if got := s.transaction.content.bytes; !bytes.Equal(got, []byte(want)) {
				t.Errorf("%s: content of %q is %q, want %q", name, wire, got, want)
			}
			if left, _ := io.ReadAll(s.r); string(left) != rest {
				t.Errorf("%s: %q is left of %q, want %q", name, left, wire, rest)
			}
		}
	})
}

func TestRelayRefusesTooMuch(t *testing.T) {
	relay := start(t, RelayOptions{MaxSize: 100})
	c := dial(t, relay.Addr())
	c.expect("", "220")
	c.expect("EHLO me.test", "250")
	c.expect("MAIL FROM:<a@x.test> SIZE=101", "552")
	c.expect("MAIL FROM:<a@x.test> SIZE=100", "250")
	c.expect("RCPT TO:<b@y.test>", "250")
	c.expect("DATA", "354")
	c.expect(strings.Repeat("x", 101)+"\r\n.", "552")
	c.expect("NOOP", "250")
}

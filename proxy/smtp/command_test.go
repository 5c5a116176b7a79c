package smtp

import (
	"strings"
	"testing"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string]Command{
		"EHLO host.test":          {EHLO, "host.test"},
		"ehlo  host.test ":        {EHLO, "host.test"},
		"MAIL FROM:<a@b.c>":       {MAIL, "FROM:<a@b.c>"},
		"QUIT":                    {QUIT, ""},
		"":                        {VerbUnknown, ""},
		"STARTTLSX":               {VerbUnknown, ""},
		"GET / HTTP/1.1":          {VerbForeign, "/ HTTP/1.1"},
		"GET lost":                {VerbUnknown, "lost"},
		"Host: example.com":       {VerbForeign, "example.com"},
		"\x16\x03\x01\x02":        {VerbForeign, ""},
		"NOOP anything goes here": {NOOP, "anything goes here"},
	} {
		if got := ParseCommand([]byte(line)); got != want {
			t.Errorf("%q: %v %q, want %v %q", line, got.Verb, got.Arg, want.Verb, want.Arg)
		}
	}
}

func TestParseChunk(t *testing.T) {
	for arg, want := range map[string]Chunk{
		"0 LAST": {0, true}, "86": {86, false}, "86 last": {86, true}, "9223372036854775807": {9223372036854775807, false},
	} {
		if got, ok := ParseChunk(arg); !ok || got != want {
			t.Errorf("%q: %v, %v", arg, got, ok)
		}
	}
	for _, arg := range []string{"", "LAST", "-1", "+1", "1 FIRST", "9223372036854775808", "0x10", " 1"} {
		if got, ok := ParseChunk(arg); ok {
			t.Errorf("%q: %v was accepted", arg, got)
		}
	}
}

func TestValidHelo(t *testing.T) {
	for _, good := range []string{"localhost", "mail.example.com", "my_host", "[192.0.2.1]", "[IPv6:2001:db8::1]", "example.com."} {
		if !ValidHelo(good) {
			t.Errorf("%q was refused", good)
		}
	}
	for _, bad := range []string{"", "a b", "[192.0.2.1", "[::1]", "a\x00b", "<x>", "a..b", "x)(y", "bücher.example", "a\tb", "-x", "[IPv6:fe80::1%eth0]", strings.Repeat("a.", 200)} {
		if ValidHelo(bad) {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestHeader(t *testing.T) {
	message := "Received: a\r\n b\r\nreceived : c\r\nX-Received: d\r\n\r\nReceived: e\r\n"
	end := HeaderEnd([]byte(message), 0)
	if end != len(message)-len("Received: e\r\n") {
		t.Fatal(end)
	}
	if n := CountField([]byte(message[:end]), "received"); n != 2 {
		t.Fatalf("%d Received fields, want 2", n)
	}
	for seen := range message {
		if seen <= end-1 && HeaderEnd([]byte(message), seen) != end {
			t.Fatalf("after %d octets seen the end is at %d", seen, HeaderEnd([]byte(message), seen))
		}
	}
	if HeaderEnd([]byte("\r\nbody"), 0) != 2 || HeaderEnd([]byte("a: b\r\n"), 0) != -1 {
		t.Fatal("an empty header section, or one that has not ended")
	}
}

// FuzzCommand holds that no line is too odd to be taken apart, and that a look
// ahead at a verb agrees with taking the line apart.
func FuzzCommand(f *testing.F) {
	f.Add([]byte("RCPT TO:<a@b.c>"))
	f.Add([]byte("rcpt"))
	f.Add([]byte("BDAT 5 LAST"))
	f.Add([]byte("EHLO [IPv6:::1]"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if strings.ContainsAny(string(line), "\r\n") {
			return
		}
		c := ParseCommand(line)
		if ahead := IsVerb(append(line[:len(line):len(line)], "\r\n"...), RCPT); ahead != (c.Verb == RCPT) {
			t.Fatalf("%q: look-ahead says %v, the verb is %v", line, ahead, c.Verb)
		}
		if chunk, ok := ParseChunk(c.Arg); ok && chunk.Size < 0 {
			t.Fatalf("%q: %d octets", c.Arg, chunk.Size)
		}
		if ValidHelo(c.Arg) && strings.ContainsFunc(c.Arg, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>;\",", r) }) {
			t.Fatalf("%q may stand in a Received field", c.Arg)
		}
	})
}

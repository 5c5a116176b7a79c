package smtp

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLine(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, test := range []struct {
		name, wire string
		want       []string // lines, or "!" and the error
	}{
		{"lines", "a\r\nb\r\n\r\n", []string{"a", "b", "", "!EOF"}},
		{"too long goes on", long + "\r\nb\r\n", []string{"!line too long", "b", "!EOF"}},
		{"longer than the buffer", strings.Repeat(long, 5) + "\r\nb\r\n", []string{"!line too long", "b", "!EOF"}},
		{"bare lf", "a\nb\r\n", []string{"!bare LF"}},
		{"bare cr", "a\rb\r\n", []string{"!bare CR"}},
		{"lf alone", "\n", []string{"!bare LF"}},
		{"too long with bare lf", long + "\n", []string{"!bare LF"}},
		{"unended", "abc", []string{"!unexpected EOF"}},
		{"endless", strings.Repeat(long, 1000) + "\r\n", []string{"!line without end"}},
		{"exactly", strings.Repeat("x", 62) + "\r\n", []string{strings.Repeat("x", 62), "!EOF"}},
		{"one more", strings.Repeat("x", 63) + "\r\n", []string{"!line too long", "!EOF"}},
	} {
		for name, source := range map[string]io.Reader{
			"whole": strings.NewReader(test.wire), "octets": iotest.OneByteReader(strings.NewReader(test.wire)),
		} {
			r := NewReader(source, make([]byte, 32))
			for _, want := range test.want {
				line, err := r.Line(64)
				got := string(line)
				if err != nil {
					got = "!" + err.Error()
				}
				if got != want {
					t.Errorf("%s, %s: %q, want %q", test.name, name, got, want)
				}
			}
		}
	}
}

func TestLineEndsInTime(t *testing.T) {
	r := NewReader(stuck{}, make([]byte, 32))
	if _, err := r.Line(64); !errors.Is(err, errNoProgress) {
		t.Fatal(err)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// What was read before a TLS handshake is gone after it.
func TestResetDropsWhatWasRead(t *testing.T) {
	r := NewReader(strings.NewReader("STARTTLS\r\nMAIL FROM:<injected@x.test>\r\n"), make([]byte, 64))
	if line, err := r.Line(64); err != nil || string(line) != "STARTTLS" {
		t.Fatalf("%q, %v", line, err)
	}
	r.Reset(strings.NewReader("EHLO x\r\n"))
	if line, err := r.Line(64); err != nil || string(line) != "EHLO x" {
		t.Fatalf("%q, %v", line, err)
	}
}

func TestLend(t *testing.T) {
	r := NewReader(strings.NewReader("ab\r\ncd\r\n"), make([]byte, 8))
	if _, err := r.Line(8); err != nil {
		t.Fatal(err)
	}
	small := r.Lend(make([]byte, 100))
	if len(small) != 8 || string(r.Unread()) != "cd\r\n" {
		t.Fatalf("%d, %q", len(small), r.Unread())
	}
	if back := r.Lend(make([]byte, 2)); len(back) != 2 {
		t.Fatal("the unread octets do not fit, the buffer must come back")
	}
	if back := r.Lend(small); len(back) != 100 || string(r.Unread()) != "cd\r\n" {
		t.Fatalf("%d, %q", len(back), r.Unread())
	}
}

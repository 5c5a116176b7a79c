package smtp

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReplyOnTheWire(t *testing.T) {
	for _, test := range []struct {
		reply Reply
		want  string
	}{
		{NewReply(250, EnhancedCode{2, 1, 0}, "ok"), "250 2.1.0 ok\r\n"},
		{NewReply(354, EnhancedCode{}, "go"), "354 go\r\n"},
		{Reply{Code: 250, Lines: []string{"host", "PIPELINING"}}, "250-host\r\n250 PIPELINING\r\n"},
		{Reply{Code: 550, Enhanced: EnhancedCode{5, 7, 1}, Lines: []string{"a", "b"}}, "550-5.7.1 a\r\n550 5.7.1 b\r\n"},
		{Reply{Code: 250}, "250 \r\n"},
		{NewReply(550, EnhancedCode{}, "a\r\n250 b\x00\x7f"), "550 a  250 b  \r\n"},
	} {
		if got := string(test.reply.AppendTo(nil)); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestReadReply(t *testing.T) {
	for _, test := range []struct {
		name, wire string
		want       Reply
		err        error
	}{
		{"one line", "250 ok\r\n", Reply{Code: 250, Lines: []string{"ok"}}, nil},
		{"enhanced", "550 5.7.1 no\r\n", NewReply(550, EnhancedCode{5, 7, 1}, "no"), nil},
		{"lines", "250-5.1.1 a\r\n250 b\r\n", Reply{Code: 250, Lines: []string{"5.1.1 a", "b"}}, nil},
		{"enhanced lines", "550-5.7.1 a\r\n550 5.7.1 b\r\n", Reply{Code: 550, Enhanced: EnhancedCode{5, 7, 1}, Lines: []string{"a", "b"}}, nil},
		{"code alone", "250\r\n", Reply{Code: 250, Lines: []string{""}}, nil},
		{"class differs", "250 5.7.1 odd\r\n", Reply{Code: 250, Lines: []string{"5.7.1 odd"}}, nil},
		{"code changes", "250-a\r\n550 b\r\n", Reply{}, ErrBadReply},
		{"no digits", "hello\r\n", Reply{}, ErrBadReply},
		{"100", "100 a\r\n", Reply{}, ErrBadReply},
		{"bare lf", "250 a\n", Reply{}, ErrBadReply},
		{"no separator", "250_a\r\n", Reply{}, ErrBadReply},
		{"too long", "250 " + strings.Repeat("a", MaxReplyLine) + "\r\n", Reply{}, ErrBadReply},
		{"too many", strings.Repeat("250-a\r\n", MaxReplyLines+1), Reply{}, ErrBadReply},
		{"too much", strings.Repeat("250-"+strings.Repeat("a", 2000)+"\r\n", 9) + "250 a\r\n", Reply{}, ErrBadReply},
		{"nothing", "", Reply{}, io.EOF},
		{"cut", "250-a\r\n", Reply{}, io.ErrUnexpectedEOF},
		{"cut in a line", "250 a", Reply{}, io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ReadReply(NewReader(strings.NewReader(test.wire), make([]byte, 64)))
			if !errors.Is(err, test.err) || err == nil && (got.String() != test.want.String() || len(got.Lines) != len(test.want.Lines)) {
				t.Fatalf("%v, %v; want %v, %v", got, err, test.want, test.err)
			}
		})
	}
}

// FuzzReply holds that what was read can be written and read again, unchanged.
func FuzzReply(f *testing.F) {
	f.Add([]byte("550-5.7.1 a\r\n550 5.7.1 b\r\n"))
	f.Add([]byte("250\r\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		reply, err := ReadReply(NewReader(strings.NewReader(string(wire)), make([]byte, 16)))
		if err != nil {
			return
		}
		again, err := ReadReply(NewReader(strings.NewReader(string(reply.AppendTo(nil))), make([]byte, 16)))
		if err != nil || again.Code != reply.Code || len(again.Lines) != len(reply.Lines) {
			t.Fatalf("%+v became %+v, %v", reply, again, err)
		}
	})
}

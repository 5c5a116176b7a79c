package smtp

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// decodeAll feeds wire to a Decoder in the pieces that cut gives.
func decodeAll(wire []byte, cut func(rest int) int) (message, rest []byte, done bool, err error) {
	var d Decoder
	var window []byte
	for {
		n, used, done, err := d.Decode(window)
		if err != nil {
			return nil, nil, false, err
		}
		message = append(message, window[:n]...)
		window = append([]byte(nil), window[used:]...)
		if done {
			return message, append(window, wire...), true, nil
		}
		if len(wire) == 0 {
			return message, window, false, nil
		}
		n = min(max(cut(len(wire)), 1), len(wire))
		window = append(window, wire[:n]...)
		wire = wire[n:]
	}
}

func TestDecode(t *testing.T) {
	for _, test := range []struct {
		name, wire, message, rest string
		done                      bool
		err                       error
	}{
		{name: "empty message", wire: ".\r\nQUIT\r\n", rest: "QUIT\r\n", done: true},
		{name: "one line", wire: "a\r\n.\r\n", message: "a\r\n", done: true},
		{name: "stuffed dot", wire: "..\r\n.\r\n", message: ".\r\n", done: true},
		{name: "stuffed words", wire: ".a\r\n..b\r\n.\r\n", message: "a\r\n.b\r\n", done: true},
		{name: "dot inside", wire: "a.\r\n b.c\r\n.\r\n", message: "a.\r\n b.c\r\n", done: true},
		{name: "empty lines", wire: "\r\n\r\n.\r\n", message: "\r\n\r\n", done: true},
		{name: "unended", wire: "a\r\n", message: "a\r\n"},
		{name: "cr waits", wire: "a\r", message: "a", rest: "\r"},
		{name: "dot waits", wire: "a\r\n.\r", message: "a\r\n", rest: ".\r"},
		{name: "bare lf", wire: "a\nb\r\n.\r\n", err: ErrBareLF},
		{name: "bare lf first", wire: "\n", err: ErrBareLF},
		{name: "bare cr", wire: "a\rb\r\n.\r\n", err: ErrBareCR},
		{name: "cr cr lf", wire: "a\r\r\n.\r\n", err: ErrBareCR},
		{name: "smuggling lf.lf", wire: "a\n.\nMAIL", err: ErrBareLF},
		{name: "smuggling lf.crlf", wire: "a\n.\r\nMAIL", err: ErrBareLF},
		{name: "smuggling crlf.lf", wire: "a\r\n.\nMAIL", err: ErrBareLF},
		{name: "smuggling crlf.cr", wire: "a\r\n.\rMAIL", err: ErrBareCR},
		{name: "smuggling cr.cr", wire: "a\r.\rMAIL\r\n", err: ErrBareCR},
		{name: "nul octet", wire: "a\x00\r\n.\r\n", message: "a\x00\r\n", done: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for size := 1; size <= len(test.wire); size++ {
				message, rest, done, err := decodeAll([]byte(test.wire), func(int) int { return size })
				if !errors.Is(err, test.err) || done != test.done {
					t.Fatalf("pieces of %d: done %v, error %v; want %v, %v", size, done, err, test.done, test.err)
				}
				if err == nil && (string(message) != test.message || string(rest) != test.rest) {
					t.Fatalf("pieces of %d: message %q, rest %q; want %q, %q", size, message, rest, test.message, test.rest)
				}
			}
		})
	}
}

// FuzzDecode holds the decoder to a plain model, whatever the pieces: what it
// accepts has no bare CR or LF, ends where the first CRLF.CRLF is, and stuffing
// the message again gives the wire.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("a\r\n..b\r\n.\r\nQUIT\r\n"), uint8(3))
	f.Add([]byte(".\r\n"), uint8(1))
	f.Add([]byte("a\r.\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, wire []byte, size uint8) {
		message, rest, done, err := decodeAll(wire, func(int) int { return int(size) })
		whole, wholeRest, wholeDone, wholeErr := decodeAll(wire, func(n int) int { return n })
		if done != wholeDone && err == nil && wholeErr == nil {
			t.Fatalf("done differs with the pieces: %v and %v", done, wholeDone)
		}
		if !done {
			return
		}
		if wholeErr == nil && (!bytes.Equal(message, whole) || !bytes.Equal(rest, wholeRest)) {
			t.Fatalf("pieces matter: %q / %q and %q / %q", message, rest, whole, wholeRest)
		}
		bare := strings.ReplaceAll(string(message), "\r\n", "")
		if strings.ContainsAny(bare, "\r\n") {
			t.Fatalf("bare CR or LF accepted in %q", message)
		}
		again := append(AppendStuffed(nil, message, true), ".\r\n"...)
		if string(again)+string(rest) != string(wire) && !hasNeedlessDot(wire) {
			t.Fatalf("%q became %q", wire, again)
		}
	})
}

// hasNeedlessDot says that a line starts with one dot that is not doubled,
// which the decoder drops (RFC 5321 section 4.5.2) and nobody puts back.
func hasNeedlessDot(wire []byte) bool {
	for line := range bytes.SplitSeq(wire, []byte("\r\n")) {
		if len(line) > 1 && line[0] == '.' && line[1] != '.' {
			return true
		}
	}
	return false
}

func TestLineChecker(t *testing.T) {
	for _, test := range []struct {
		pieces []string
		err    error
	}{
		{[]string{"a\r\n"}, nil},
		{[]string{"a\r", "\nb"}, nil},
		{[]string{"a", "\r\n"}, nil},
		{[]string{"\r", "\n", "\r\n"}, nil},
		{[]string{"a\n"}, ErrBareLF},
		{[]string{"a", "\n"}, ErrBareLF},
		{[]string{"a\r", "b"}, ErrBareCR},
		{[]string{"a\rb"}, ErrBareCR},
		{[]string{"a\r\r\n"}, ErrBareCR},
		{[]string{"a\r"}, ErrBareCR},
		{[]string{"\r\n\n"}, ErrBareLF},
	} {
		var c LineChecker
		var err error
		for _, piece := range test.pieces {
			if err == nil {
				err = c.Check([]byte(piece))
			}
		}
		if err == nil {
			err = c.End()
		}
		if !errors.Is(err, test.err) {
			t.Errorf("%q: %v, want %v", test.pieces, err, test.err)
		}
	}
}

// FuzzLineChecker holds the checker to a plain model, whatever the pieces.
func FuzzLineChecker(f *testing.F) {
	f.Add([]byte("a\r\nb\r"), uint8(1))
	f.Add([]byte("\r\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, message []byte, size uint8) {
		var c LineChecker
		var err error
		for piece := range slices.Chunk(message, int(size)+1) {
			if err = c.Check(piece); err != nil {
				break
			}
		}
		if err == nil {
			err = c.End()
		}
		if clean := !strings.ContainsAny(strings.ReplaceAll(string(message), "\r\n", ""), "\r\n"); clean != (err == nil) {
			t.Fatalf("%q in pieces of %d: %v", message, int(size)+1, err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	line := strings.Repeat("x", 70) + "\r\n"
	wire := []byte(strings.Repeat(line, 64<<10/len(line)))
	b.SetBytes(int64(len(wire)))
	for b.Loop() {
		var d Decoder
		if _, _, _, err := d.Decode(wire); err != nil {
			b.Fatal(err)
		}
	}
}

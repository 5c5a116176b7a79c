package smtp

import (
	"bytes"
	"testing"
)

// plainDecode is the decoder one octet at a time: the message and whether it was
// accepted whole.
func plainDecode(wire []byte) (message []byte, ok bool) {
	start := true
	for i := 0; i < len(wire); i++ {
		switch c := wire[i]; {
		case c == '\n':
			return nil, false
		case c == '\r':
			if i+1 == len(wire) || wire[i+1] != '\n' {
				return nil, false
			}
			message, start = append(message, "\r\n"...), true
			i++
		case c == '.' && start:
			if bytes.HasPrefix(wire[i+1:], []byte("\r\n")) {
				return message, true
			}
			start = false
		default:
			message, start = append(message, c), false
		}
	}
	return nil, false
}

// Lines of one length are looked at all at once: whatever stands behind two of
// them, of every length, is read as one octet at a time would be.
func TestLinesOfOneLength(t *testing.T) {
	alphabet := []byte("a.\r\n")
	for _, line := range []string{"\r\n", "a\r\n", "ab\r\n"} {
		tail := make([]byte, 8)
		for n := range 1 << (2 * len(tail)) {
			for i := range tail {
				tail[i] = alphabet[n>>(2*i)&3]
			}
			wire := []byte(line + line + string(tail) + line + ".\r\n")
			want, accepted := plainDecode(wire)
			got, _, done, err := decodeAll(bytes.Clone(wire), func(n int) int { return n })
			if accepted != (done && err == nil) || accepted && !bytes.Equal(got, want) {
				t.Fatalf("%q: %q, %v, %v; want %q, %v", wire, got, done, err, want, accepted)
			}
		}
	}
}

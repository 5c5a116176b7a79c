package spool

import "testing"

// The length of a head is known before the message is.
func TestHeadLength(t *testing.T) {
	for _, entry := range []string{"", "{}", `{"id":"A","reason":"ü"}`} {
		if got, want := headLength([]byte(entry)), len(encodeHead([]byte(entry), 1<<62, digest{1})); got != int64(want) {
			t.Errorf("%q: %d, want %d", entry, got, want)
		}
	}
}

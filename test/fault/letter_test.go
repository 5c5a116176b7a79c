package fault_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"strings"
)

// markerField begins what the digests of client and relay cover.
const markerField = "X-Marker:"

// domain is the senders', whom the policy vouches for.
const domain = "shop.example"

// letter is a message that no other is like.
type letter struct {
	marker string
	to     []string
	size   int // octets of the body, at least
}

// newLetter is a short one; size is settled by the caller where it matters.
func newLetter(to ...string) letter {
	if len(to) == 0 {
		to = []string{"customer@example.net"}
	}
	return letter{marker: strings.ToLower(rand.Text()), to: to, size: 300}
}

// from is the reverse-path, which the audit can be searched for.
func (l letter) from() string { return l.marker + "@" + domain }

// text is the letter as a client sends it, its dots not yet doubled.
func (l letter) text() []byte {
	var b bytes.Buffer
	b.WriteString(markerField + " " + l.marker + "\r\nFrom: Shop <" + l.from() + ">\r\nTo: " + l.to[0] +
		"\r\nSubject: an order\r\nDate: Sat, 21 Nov 2026 21:00:00 +0000\r\nMessage-ID: <" + l.marker + "@" + domain + ">\r\n\r\n")
	lines := []string{".", "..hidden", l.marker, "a line of some length, as people write them, and a bit more", ". ", "", "Grüße \xe4\xff"}
	for i, end := 0, b.Len()+l.size; b.Len() < end; i++ {
		b.WriteString(lines[i%len(lines)] + "\r\n")
	}
	return b.Bytes()
}

// digest is that of the text.
func (l letter) digest() string {
	sum := sha256.Sum256(l.text())
	return string(sum[:])
}

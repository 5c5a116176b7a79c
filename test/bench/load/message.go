package load

import (
	"fmt"
	"hash"
	"hash/crc32"
	"math/rand/v2"
	"time"
)

// FirstField begins each message: the digest covers what follows it, and not the
// trace fields that a proxy puts before it.
const FirstField = "Message-ID:"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NewDigest makes the digest both ends compute. CRC-32C runs at the speed of
// memory, so that 25 MiB messages measure the proxy and not the comparison; it
// finds every burst shorter than 32 bits and misses one in 2^32 others.
func NewDigest() hash.Hash { return crc32.New(castagnoli) }

// Sent is one message that was answered with 250.
type Sent struct {
	ReversePath string // unique to the message
	Digest      string
	Ended       time.Time // just before its last octets were sent
	Answered    time.Time // when the 250 was there
}

// body makes lines of 76 printable characters, about size bytes in all. No line
// begins with a dot, so that transparency changes nothing.
func body(size int) []byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	const line = 76 + len("\r\n")
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, max(1, size/line)*line)
	for i := range b {
		b[i] = alphabet[random.IntN(len(alphabet))]
	}
	for end := line; end <= len(b); end += line {
		b[end-2], b[end-1] = '\r', '\n'
	}
	return b
}

// message is what one worker sends; only the head differs between messages.
type message struct {
	head []byte
	body []byte
}

// headFor writes the header section of message name into the head.
func (m *message) headFor(name string) {
	m.head = fmt.Appendf(m.head[:0], "%s <%s>\r\nFrom: Bench <%s>\r\nTo: <rcpt@relay.test>\r\n"+
		"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nSubject: message %s\r\n\r\n", FirstField, name, name, name)
}

func (m *message) digest() string {
	sum := crc32.Update(crc32.Checksum(m.head, castagnoli), castagnoli, m.body)
	return string([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

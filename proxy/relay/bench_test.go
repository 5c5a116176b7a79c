package relay

import (
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/internal/testkit"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// BenchmarkTransaction is one message of 4 KiB on a kept connection, the
// stand-in relay's share included: to compare before and after a change.
func BenchmarkTransaction(b *testing.B) {
	pool := newPool(b, startRelay(b, testkit.RelayOptions{}), nil)
	message := []byte("From: a@example.com\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 56))
	rcpts := []smtp.Recipient{{Address: "b@example.net"}}
	b.ReportAllocs()
	for b.Loop() {
		t, err := pool.Begin(b.Context(), "uid:33", "a@example.com", smtp.MailParams{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := t.Recipients(b.Context(), rcpts); err != nil {
			b.Fatal(err)
		}
		t.WriteDotless(message)
		if reply, err := t.Finish(); err != nil || reply.Code != 250 {
			b.Fatal(reply, err)
		}
	}
}

// BenchmarkBegin is the pool's own part: a kept connection lent and given back.
func BenchmarkBegin(b *testing.B) {
	pool := newPool(b, startRelay(b, testkit.RelayOptions{}), nil)
	if err := pool.Probe(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		t, err := pool.Begin(b.Context(), "uid:33", "a@example.com", smtp.MailParams{})
		if err != nil {
			b.Fatal(err)
		}
		t.Abort()
	}
}

package proxy

import (
	"io"
	"strings"
	"testing"
)

// BenchmarkMessage is one message of 4 KiB on a kept session, the stand-in
// relay's share included: to compare allocations and time before and after a
// change. test/bench measures the product.
func BenchmarkMessage(b *testing.B) {
	message := "From: a@example.com\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 56) + ".\r\n"
	for _, without := range []string{"", "CHUNKING"} {
		b.Run("without "+without, func(b *testing.B) {
			stand := newStand(b, map[string]string{"without": without, "keep": "no"})
			p := newPlayer(b, stand.dial(b))
			p.expectCode("220")
			p.command("EHLO client.test")
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				_, _ = io.WriteString(p.conn, "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
				for range 3 {
					p.answer()
				}
				_, _ = io.WriteString(p.conn, message)
				if reply := p.answer(); reply[:3] != "250" {
					b.Fatal(reply)
				}
			}
		})
	}
}

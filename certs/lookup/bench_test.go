package lookup

import (
	"net/netip"
	"testing"
	"time"
)

// BenchmarkNote is one answer, as a resolver sends it.
func BenchmarkNote(b *testing.B) {
	chain := asking("smtp.office.example.com.", a).alias("smtp.office.example.com.", "lb.mail.example.net.", 60).
		alias("lb.mail.example.net.", "eu.lb.mail.example.net.", 60)
	for _, address := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"} {
		chain.address("eu.lb.mail.example.net.", address, 60)
	}
	run := func(message []byte) func(*testing.B) {
		return func(b *testing.B) {
			table := New(Options{})
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if err := table.Note(message, now); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.Run("one", run(simple(b, "smtp.example.com.", "192.0.2.25")))
	b.Run("chain", run(chain.pack(b)))
	b.Run("flood", func(b *testing.B) {
		table := New(Options{})
		sweep(b, table, DefaultAddresses, 1, start)
		message, n := simple(b, "aaaaaaaa.flood.example.", "192.0.2.25"), 0
		b.ReportAllocs()
		for b.Loop() {
			n++
			for i, x := 0, n; i < 8; i, x = i+1, x/26 {
				message[13+i] = 'a' + byte(x%26)
			}
			copy(message[len(message)-3:], []byte{byte(n >> 16), byte(n >> 8), byte(n)})
			if err := table.Note(message, start); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkNames(b *testing.B) {
	table := New(Options{})
	note(b, table, simple(b, "smtp.example.com.", "192.0.2.25"), start)
	address := netip.MustParseAddr("192.0.2.25")
	b.ReportAllocs()
	for b.Loop() {
		if len(table.Names(address, start)) != 1 {
			b.Fatal("unknown")
		}
	}
}

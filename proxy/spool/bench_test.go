package spool

import (
	"crypto/sha256"
	"os"
	"strings"
	"testing"
	"time"
)

// fill writes n messages without syncing each, which is not what is measured.
func fill(t testing.TB, s *Spool, n int) {
	t.Helper()
	const text = "Subject: x\r\n\r\nbody\r\n"
	sum := sha256.Sum256([]byte(text))
	start := time.UnixMilli(1_800_000_000_000)
	for i := range n {
		e := sampleEntry()
		e.Time = start.Add(time.Duration(n-i) * time.Millisecond)
		e.ID = newID(e.Time)
		line, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		file := append(encodeHead(line, int64(len(text)), sum), text...)
		if err := os.WriteFile(s.path(holdDir, e.ID), file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListMany(t *testing.T) {
	const n = 3000
	s := open(t, t.TempDir(), Options{})
	fill(t, s, n)
	entries, err := s.List()
	if err != nil || len(entries) != n {
		t.Fatalf("listed %d, %v", len(entries), err)
	}
	for i := 1; i < n; i++ {
		if entries[i].Time.Before(entries[i-1].Time) {
			t.Fatalf("message %d is older than the one before", i)
		}
	}
}

// BenchmarkList100k lists a hundred thousand messages, and counts the time until
// All has the first of them.
func BenchmarkList100k(b *testing.B) {
	const n = 100_000
	s := open(b, b.TempDir(), Options{})
	fill(b, s, n)
	for b.Loop() {
		if entries, err := s.List(); err != nil || len(entries) != n {
			b.Fatalf("listed %d, %v", len(entries), err)
		}
	}
	start := time.Now()
	for range s.All() {
		break
	}
	b.ReportMetric(float64(time.Since(start).Microseconds()), "µs-to-first")
}

func BenchmarkCommit(b *testing.B) {
	s := open(b, b.TempDir(), Options{MaxBytes: 1 << 40})
	text := strings.Repeat("0123456789abcde\n", 256)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		put(b, s, sampleEntry(), text)
	}
}

package spool

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fill writes n messages without syncing each, which is not what is measured.
// Every hundredth was active when a process ended.
func fill(t testing.TB, s *Spool, n int) {
	t.Helper()
	const text = "Subject: x\r\n\r\nbody\r\n"
	sum := sha256.Sum256([]byte(text))
	start := time.UnixMilli(1_800_000_000_000)
	for i := range n {
		e := sampleEntry()
		e.Time = start.Add(time.Duration(n-i) * time.Millisecond)
		e.ID = NewID(e.Time)
		line, err := e.encode()
		if err != nil {
			t.Fatal(err)
		}
		progress, err := Progress{Time: e.Time, Attempts: i % 7, Reason: "the relay is away", Relay: "main"}.encode()
		if err != nil {
			t.Fatal(err)
		}
		file := append(append(encodeHead(line, int64(len(text)), sum), text...), progress...)
		if err := os.WriteFile(s.queuePath(e.ID, Deferred), file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMany starts over more messages than are read ahead, some of them active.
func TestMany(t *testing.T) {
	const n, interrupted = 3000, 20
	dir := t.TempDir()
	s := open(t, dir, Options{})
	fill(t, s, n)
	s.Close()
	s = open(t, dir, Options{})
	for _, id := range list(t, s)[:interrupted] {
		if err := s.Activate(id); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = open(t, dir, Options{})
	seen, marked := map[string]bool{}, 0
	for item, err := range s.All(Deferred) {
		if err != nil || seen[item.ID] || item.Progress.Relay != "main" {
			t.Errorf("%+v, %v", item, err)
		}
		if seen[item.ID] = true; item.Progress.PossibleDuplicate {
			marked++
		}
	}
	bytes, messages := s.Used()
	if len(seen) != n || messages != n || bytes != n*blockSize || s.UsedBy("uid:33") != bytes || marked != interrupted {
		t.Errorf("%d listed, %d marked, %d messages of %d bytes, %d of them of one identity", len(seen), marked, messages, bytes, s.UsedBy("uid:33"))
	}
}

// BenchmarkStart100k is a start over a hundred thousand messages: Open, then All.
func BenchmarkStart100k(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	s := open(b, dir, Options{})
	fill(b, s, n)
	s.Close()
	var opened, listed time.Duration
	for b.Loop() {
		start := time.Now()
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		opened += time.Since(start)
		start = time.Now()
		seen := 0
		for item, err := range s.All() {
			if err != nil {
				b.Fatal(item.ID, err)
			}
			seen++
		}
		listed += time.Since(start)
		if err := s.Close(); err != nil || seen != n {
			b.Fatalf("listed %d, %v", seen, err)
		}
	}
	b.ReportMetric(opened.Seconds()/float64(b.N), "s/open")
	b.ReportMetric(listed.Seconds()/float64(b.N), "s/all")
}

// BenchmarkCommit is how many messages of 4 KiB become ours in a second.
func BenchmarkCommit(b *testing.B) {
	text := strings.Repeat("0123456789abcde\n", 256)
	for _, writers := range []int{1, 20, 100} {
		b.Run(fmt.Sprintf("%d writers", writers), func(b *testing.B) {
			s := open(b, b.TempDir(), Options{MaxBytes: 1 << 40})
			eachOf(b, writers, func() error {
				_, err := tryPut(s, sampleEntry(), text, Deferred)
				return err
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkTry is the life of a message with one failed try.
func BenchmarkTry(b *testing.B) {
	s := open(b, b.TempDir(), Options{MaxBytes: 1 << 40})
	eachOf(b, 20, func() error {
		id, err := tryPut(s, sampleEntry(), "text", Deferred)
		if err != nil {
			return err
		}
		return errors.Join(s.Activate(id), s.Sync(context.Background()), s.Settle(id, Progress{Attempts: 1}, Deferred), s.Activate(id),
			s.Sync(context.Background()), s.Remove(id))
	})
}

// BenchmarkQueue is messages of 4 KiB that come and go, a thousand at a time.
func BenchmarkQueue(b *testing.B) {
	text := strings.Repeat("0123456789abcde\n", 256)
	s := open(b, b.TempDir(), Options{MaxBytes: 1 << 40})
	ids := make(chan string, 1000)
	begin := cpu(b)
	eachOf(b, 20, func() error {
		id, err := tryPut(s, sampleEntry(), text, Deferred)
		for err == nil {
			select {
			case ids <- id:
				return nil
			case old := <-ids:
				err = errors.Join(s.Activate(old), s.Sync(context.Background()), s.Remove(old))
			}
		}
		return err
	})
	reportCPU(b, begin)
}

// eachOf does something b.N times, by several at once.
func eachOf(b *testing.B, workers int, do func() error) {
	b.Helper()
	work := make(chan struct{})
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range work {
				if err := do(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ResetTimer()
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
}

// BenchmarkTee is what a message costs that the relay takes at once, given in
// pieces as a TLS connection does.
func BenchmarkTee(b *testing.B) {
	for _, size := range []int{4 << 10, 33 << 10, 1 << 20, 25 << 20} {
		b.Run(fmt.Sprintf("%d KiB", size>>10), func(b *testing.B) {
			s := open(b, b.TempDir(), Options{MaxBytes: 1 << 40})
			text := []byte(strings.Repeat("0123456789abcde\n", 1000))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			begin := cpu(b)
			for b.Loop() {
				w := s.Tee(sampleEntry)
				for left := size; left > 0; left -= len(text) {
					if _, err := w.Write(text[:min(left, len(text))]); err != nil {
						b.Fatal(err)
					}
				}
				w.Abort()
			}
			reportCPU(b, begin)
		})
	}
}

// BenchmarkRead is what a try reads before it sends a message, and what it sends.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{4 << 10, 30 << 10, 100 << 10} {
		b.Run(fmt.Sprintf("%d KiB", size>>10), func(b *testing.B) {
			s := open(b, b.TempDir(), Options{})
			id, err := tryPut(s, sampleEntry(), strings.Repeat("0123456789abcde\n", size/16), Deferred)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			buffer := make([]byte, 16<<10)
			begin := cpu(b)
			for b.Loop() {
				m, err := s.Read(id)
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = m.Read(buffer)
				}
				m.Close()
			}
			reportCPU(b, begin)
		})
	}
}

func reportCPU(b *testing.B, begin time.Duration) {
	b.Helper()
	b.ReportMetric(float64((cpu(b)-begin).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

// cpu is what this process has used of it, the kernel's part included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

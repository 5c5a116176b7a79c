package spool

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
)

// TestRewind reads messages on both sides of what is loaded at once, again and
// again, and not after they were closed.
func TestRewind(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, size := range []int{0, 1, 30_000, bufferSize - 850, bufferSize, 500_000} {
		want := strings.Repeat("x", size)
		m, err := s.Read(put(t, s, sampleEntry(), want))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			for _, part := range []int64{10, int64(size)} {
				if err := m.Rewind(); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(io.LimitReader(m, part))
				if err != nil || string(got) != want[:min(part, int64(size))] {
					t.Fatalf("%d of %d bytes: got %d, %v", part, size, len(got), err)
				}
			}
		}
		if n, err := m.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		if err := errors.Join(m.Rewind(), m.Close(), m.Close()); err != nil {
			t.Error(err)
		}
		if n, err := m.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("closed: %d, %v", n, err)
		}
		if err := m.Rewind(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

// TestReadSteps: a short message is read by one call, and one that says that there
// is no more.
func TestReadSteps(t *testing.T) {
	disk := simdisk.New()
	s, err := Open("/var/spool", Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id := put(t, s, sampleEntry(), "short")
	before := disk.Steps()
	if _, text := get(t, s, id); text != "short" || disk.Steps() != before+4 {
		t.Errorf("%q after %d steps", text, disk.Steps()-before)
	}
}

// TestReadTogether: nobody gets the text of another's buffer.
func TestReadTogether(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	var all sync.WaitGroup
	for _, c := range []byte("abcdefgh") {
		want := bytes.Repeat([]byte{c}, 20_000)
		id := put(t, s, sampleEntry(), string(want))
		all.Go(func() {
			for range 50 {
				m, err := s.Read(id)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(m)
				if err := errors.Join(err, m.Close()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%c: %d bytes, %v", c, len(got), err)
				}
			}
		})
	}
	all.Wait()
}

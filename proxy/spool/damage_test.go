package spool

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestDamage(t *testing.T) {
	const text = "Subject: x\r\n\r\nbody body body\r\n"
	tests := []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"message", func(b []byte) []byte { b[len(b)-3] ^= 1; return b }},
		{"message cut", func(b []byte) []byte { return b[:len(b)-1] }},
		{"message longer", func(b []byte) []byte { return append(b, '\n') }},
		{"envelope", func(b []byte) []byte { return bytes.Replace(b, []byte("www-data@"), []byte("www-dato@"), 1) }},
		{"message's sum", func(b []byte) []byte { return bytes.Replace(b, []byte("\nsha256: "), []byte("\nsha256: 0"), 1) }},
		{"size", func(b []byte) []byte { return bytes.Replace(b, []byte("size: 0"), []byte("size: 1"), 1) }},
		{"version", func(b []byte) []byte { return bytes.Replace(b, []byte("spool 1"), []byte("spool 2"), 1) }},
		{"head cut", func(b []byte) []byte { return b[:100] }},
		{"empty", func([]byte) []byte { return nil }},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zap.ErrorLevel)
			s := open(t, t.TempDir(), Options{Logger: zap.New(core)})
			id, other := put(t, s, sampleEntry(), text), put(t, s, sampleEntry(), text)
			b, err := os.ReadFile(s.path(holdDir, id))
			if err != nil {
				t.Fatal(err)
			}
			changed := tt.change(bytes.Clone(b))
			if err := os.WriteFile(s.path(holdDir, id), changed, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Read(id); !errors.Is(err, ErrDamaged) {
				t.Fatalf("read: %v", err)
			}
			if kept, err := os.ReadFile(s.path(corruptDir, id)); err != nil || !bytes.Equal(kept, changed) {
				t.Errorf("not put aside: %v", err)
			}
			if logs.FilterMessage("damaged message put aside").Len() != 1 {
				t.Errorf("logged: %v", logs.All())
			}
			if _, err := s.Read(id); !errors.Is(err, ErrUnknown) {
				t.Errorf("read again: %v", err)
			}
			if entries, err := s.List(); err != nil || len(entries) != 1 || entries[0].ID != other {
				t.Errorf("listed %v, %v", entries, err)
			}
		})
	}
}

// TestSwapped: a whole file under another message's name is not that message.
func TestSwapped(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	a, b := put(t, s, sampleEntry(), "a"), put(t, s, sampleEntry(), "b")
	if err := os.Rename(s.path(holdDir, a), s.path(holdDir, b)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(b); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

func TestListReportsDamage(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	good, bad := put(t, s, sampleEntry(), "good"), put(t, s, sampleEntry(), "bad")
	if err := os.Truncate(s.path(holdDir, bad), 50); err != nil {
		t.Fatal(err)
	}
	entries, err := s.List()
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), bad) {
		t.Errorf("error %v does not name %s", err, bad)
	}
	if len(entries) != 1 || entries[0].ID != good {
		t.Errorf("listed %v", entries)
	}
}

func FuzzReadHead(f *testing.F) {
	line, err := sampleEntry().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encodeHead(line, 5, digest{1}))
	f.Add([]byte(magic + sizePrefix))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHead(bytes.NewReader(b), "")
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("an error that is no damage: %v", err)
			}
			return
		}
		if h.len > int64(len(b)) || h.entry.Size < 0 {
			t.Errorf("head of %d bytes, message of %d, in %d bytes", h.len, h.entry.Size, len(b))
		}
	})
}

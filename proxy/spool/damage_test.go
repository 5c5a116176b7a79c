package spool

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func replace(old, new string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
}

func TestDamage(t *testing.T) {
	const text = "Subject: x\r\n\r\nbody body body\r\n"
	tests := []struct {
		name   string
		change func(b []byte) []byte
		shown  bool // only reading the whole message finds it
	}{
		{"message", replace("body body", "body bodi"), true},
		{"message cut", func(b []byte) []byte { return b[:bytes.Index(b, []byte("body"))] }, false},
		{"message shorter", replace("body ", ""), false},
		{"envelope", replace("www-data@", "www-dato@"), false},
		{"message's sum", replace("\nsha256: ", "\nsha256: 0"), false},
		{"size", replace("size: 0", "size: 1"), false},
		{"version", replace("spool 2", "spool 3"), false},
		{"version before", replace("spool 2", "spool 1"), false},
		{"head cut", func(b []byte) []byte { return b[:100] }, false},
		{"empty", func([]byte) []byte { return nil }, false},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }, false},
		{"no progress", func(b []byte) []byte { return b[:bytes.Index(b, []byte(progressStart))] }, false},
		{"progress", replace(`"attempts":0`, `"attempts":1`), false},
		{"progress cut", func(b []byte) []byte { return b[:len(b)-1] }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zap.ErrorLevel)
			s := open(t, t.TempDir(), Options{Logger: zap.New(core)})
			id, other := put(t, s, sampleEntry(), text), put(t, s, sampleEntry(), text)
			changed := change(t, s.queuePath(id, Hold), tt.change)
			r, err := OpenReadOnly(s.dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Read(id); !errors.Is(err, ErrDamaged) || len(files(t, s, queueDir)) != 2 {
				t.Errorf("read only: %v", err)
			}
			if tt.shown {
				if _, err := s.Show(id); err != nil {
					t.Errorf("shown: %v", err)
				}
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
			if ids := list(t, s); len(ids) != 1 || ids[0] != other {
				t.Errorf("listed %v", ids)
			}
			checkCorrupt(t, s, id)
		})
	}
}

// change rewrites a file and returns what is in it then.
func change(t testing.TB, path string, how func([]byte) []byte) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := how(bytes.Clone(b))
	if bytes.Equal(changed, b) {
		t.Fatal("nothing was changed")
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	return changed
}

// checkCorrupt looks at the one corrupt message, across a restart, and drops it.
func checkCorrupt(t *testing.T, s *Spool, id string) {
	t.Helper()
	s.Close()
	s = open(t, s.dir, Options{})
	if ids, err := s.Corrupt(); err != nil || len(ids) != 1 || ids[0] != id {
		t.Errorf("corrupt: %v, %v", ids, err)
	}
	if n := s.Counts(); !reflect.DeepEqual(n, map[State]int{Corrupt: 1, Hold: 1}) {
		t.Errorf("counted %v", n)
	}
	if err := s.Remove(id); !errors.Is(err, ErrUnknown) {
		t.Errorf("removed: %v", err)
	}
	if err := s.Drop(id); err != nil {
		t.Errorf("dropped: %v", err)
	}
	if err := s.Drop(id); !errors.Is(err, ErrUnknown) {
		t.Errorf("dropped again: %v", err)
	}
	if len(files(t, s, corruptDir)) != 0 || used(s) != blockSize {
		t.Errorf("%v, %d bytes", files(t, s, corruptDir), used(s))
	}
}

// TestDamagedTail: what a crash or a full disk has left at the end of a file does
// no harm, but says that the relay may have had the message since.
func TestDamagedTail(t *testing.T) {
	settled, err := Progress{Attempts: 2, Rest: []Due{}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		add      string
		attempts int
		torn     bool
	}{
		{"nothing", "", 1, false},
		{"a line", string(settled), 2, false},
		{"a line cut", string(settled[:len(settled)-1]), 1, true},
		{"a line begun", "progr", 1, true},
		{"zeros", string(make([]byte, 300)), 1, true},
		{"a line changed", strings.Replace(string(settled), ":2", ":3", 1), 1, true},
		{"a line after one that was cut", string(settled[:20]) + string(settled), 2, false},
		{"a line after zeros", string(make([]byte, 5000)) + string(settled), 2, false},
		{"a line after one changed", strings.Replace(string(settled), ":2", ":3", 1) + string(settled), 2, false},
		{"much after a line", string(settled) + strings.Repeat("x", 3*nearTail), 2, true},
		{"lines after a line", string(settled) + strings.Repeat("x\n", 3*nearTail), 2, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			id := put(t, s, sampleEntry(), "no end of line")
			if err := s.Settle(id, Progress{Attempts: 1}, Deferred); err != nil {
				t.Fatal(err)
			}
			path := s.queuePath(id, Deferred)
			if tt.add != "" {
				change(t, path, func(b []byte) []byte { return append(b, tt.add...) })
			}
			item, err := s.Show(id)
			if err != nil || item.Progress.Attempts != tt.attempts || item.Progress.PossibleDuplicate != tt.torn {
				t.Fatalf("%+v, %v", item.Progress, err)
			}
			if len(item.Recipients()) == 0 != (tt.attempts == 2) {
				t.Errorf("due: %v", item.Recipients())
			}
			if err := s.Settle(id, Progress{Attempts: 3}, Hold); err != nil {
				t.Fatal(err)
			}
			item, text := get(t, s, id)
			if item.Progress.Attempts != 3 || item.Progress.PossibleDuplicate || text != "no end of line" {
				t.Errorf("%+v, %q", item.Progress, text)
			}
		})
	}
}

// TestRestOfAnother: progress that names recipients that are not there is no
// progress of this message.
func TestRestOfAnother(t *testing.T) {
	for _, rcpt := range []int{-1, 2} {
		s := open(t, t.TempDir(), Options{})
		id := put(t, s, sampleEntry(), "x")
		if err := s.Settle(id, Progress{Rest: []Due{{Rcpt: rcpt}}}, Deferred); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Show(id); !errors.Is(err, ErrDamaged) {
			t.Errorf("recipient %d of 2: %v", rcpt, err)
		}
	}
}

// TestSwapped: a whole file under another message's name is not that message.
func TestSwapped(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	a, b := put(t, s, sampleEntry(), "a"), put(t, s, sampleEntry(), "b")
	if err := os.Rename(s.queuePath(a, Hold), s.queuePath(b, Hold)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(b); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Read(a); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v for the one that is gone", err)
	}
	if _, messages := s.Used(); messages != 0 || used(s) != blockSize {
		t.Errorf("%d messages, %d bytes", messages, used(s))
	}
}

func TestAllReportsDamage(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	good, bad := put(t, s, sampleEntry(), "good"), put(t, s, sampleEntry(), "bad")
	if err := os.Truncate(s.queuePath(bad, Hold), 50); err != nil {
		t.Fatal(err)
	}
	for item, err := range s.All() {
		switch item.ID {
		case good:
			if err != nil {
				t.Error(err)
			}
		case bad:
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), bad) {
				t.Errorf("error %v does not name %s", err, bad)
			}
		default:
			t.Errorf("listed %+v", item)
		}
	}
	if ids := list(t, s); len(ids) != 1 || ids[0] != good {
		t.Errorf("listed %v", ids)
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

// FuzzProgress: whatever a relay says, and whatever was left of a line before, a
// line comes back as it was written.
func FuzzProgress(f *testing.F) {
	f.Add("450 later", []byte{})
	f.Add("progress: {} 44136fa355b3678a", []byte("progress: {\"time\":"))
	f.Add("\n\r\x00\xff\u2028\"\\", []byte("\n\n"))
	f.Fuzz(func(t *testing.T, reply string, before []byte) {
		want := Progress{Attempts: 7, Reason: reply, Rest: []Due{{Rcpt: 1, Reply: reply}}}
		line, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		want.Reason, want.Rest[0].Reply = clip(reply, maxText), clip(reply, maxReply)
		if bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("%q is not one line", line)
		}
		if got, ok := lastLine(append(before, line...)); !ok || got.torn || !reflect.DeepEqual(got.Progress, want) {
			t.Errorf("%q became %+v", line, got)
		}
		// A part of a line is none, and hides none before it.
		for _, n := range []int{1, len(line) / 2, len(line) - 1} {
			if got, ok := lastLine(append(bytes.Clone(line), line[:n]...)); !ok || !got.torn || !reflect.DeepEqual(got.Progress, want) {
				t.Errorf("after %d bytes of another: %+v", n, got)
			}
		}
	})
}

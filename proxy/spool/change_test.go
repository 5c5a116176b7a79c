package spool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// defer1 commits a message that waits to be tried.
func defer1(t testing.TB, s *Spool) string {
	t.Helper()
	id, err := tryPut(s, sampleEntry(), "text", Deferred)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestTry follows a message of two recipients through two tries.
func TestTry(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	id := defer1(t, s)
	if err := errors.Join(s.Activate(id), s.Sync(context.Background())); err != nil {
		t.Fatal(err)
	}
	if got := files(t, s, queueDir); !slices.Equal(got, []string{id + ".active"}) {
		t.Errorf("queue has %v", got)
	}
	item, err := s.Show(id)
	if err != nil || len(item.Recipients()) != 2 || len(item.DueReplies()) != 2 || item.State != Active {
		t.Fatalf("%+v, %v", item, err)
	}
	want := Progress{
		Time: time.UnixMilli(1_800_000_060_000).UTC(), Next: time.UnixMilli(1_800_000_120_000).UTC(), Attempts: 1,
		Reason: "some are <later>", Relay: "main", Rest: []Due{{Rcpt: 1, Reply: "450 4.2.0 greylisted"}}, PossibleDuplicate: true, DelayTold: true,
	}
	if err := s.Settle(id, want, Deferred); err != nil {
		t.Fatal(err)
	}
	item, text := get(t, s, id)
	if !reflect.DeepEqual(item.Progress, want) || text != "text" || item.State != Deferred {
		t.Errorf("got %+v, %q", item, text)
	}
	if due := item.Recipients(); len(due) != 1 || due[0] != sampleEntry().Envelope.Recipients[1] || item.DueReplies()[0] != want.Rest[0].Reply {
		t.Errorf("due: %+v, %q", due, item.DueReplies())
	}
	if err := errors.Join(s.Activate(id), s.Remove(id)); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(id, want, Hold); !errors.Is(err, ErrUnknown) {
		t.Errorf("settled what is gone: %v", err)
	}
	if err := s.Activate(id); !errors.Is(err, ErrUnknown) {
		t.Errorf("activated what is gone: %v", err)
	}
	if n := s.Counts(); len(n) != 0 || used(s) != 0 {
		t.Errorf("%v, %d bytes", n, used(s))
	}
}

func TestSettleTo(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, from := range queued {
		for _, to := range queued {
			id, err := tryPut(s, sampleEntry(), "x", from)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Settle(id, Progress{Hold: HoldPerson}, to); err != nil {
				t.Errorf("%s to %s: %v", from, to, err)
			}
			if item, err := s.Show(id); err != nil || item.State != to || item.Progress.Hold != HoldPerson || item.Progress.Time.IsZero() {
				t.Errorf("%s to %s: %+v, %v", from, to, item, err)
			}
			if got := files(t, s, queueDir); !slices.Equal(got, []string{id + "." + string(to)}) {
				t.Errorf("%s to %s: queue has %v", from, to, got)
			}
			if err := s.Drop(id); err != nil {
				t.Error(err)
			}
		}
	}
	id := defer1(t, s)
	for _, to := range []State{Incoming, Corrupt, "", "../x"} {
		if err := s.Settle(id, Progress{}, to); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("to %q: %v", to, err)
		}
		w, err := s.Create(sampleEntry())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(to, Progress{}); err == nil {
			t.Errorf("committed to %q", to)
		}
	}
	if got := files(t, s, queueDir); !slices.Equal(got, []string{id + ".deferred"}) || used(s) != blockSize {
		t.Errorf("queue has %v, %d bytes", got, used(s))
	}
}

func TestActivateFrom(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, from := range queued {
		id, err := tryPut(s, sampleEntry(), "x", from)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Activate(id); err != nil {
			t.Errorf("from %s: %v", from, err)
		}
		if item, err := s.Show(id); err != nil || item.State != Active || item.Progress.PossibleDuplicate {
			t.Errorf("from %s: %+v, %v", from, item, err)
		}
	}
}

// TestDiscard takes away what is in a state, and nothing that has left it.
func TestDiscard(t *testing.T) {
	for _, state := range queued {
		s := open(t, t.TempDir(), Options{})
		id, err := tryPut(s, sampleEntry(), "x", state)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []State{Deferred, Active, Hold, Incoming, Corrupt, ""} {
			if other == state {
				continue
			}
			if err := s.Discard(id, other); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s message discarded from %q: %v", state, other, err)
			}
		}
		if got := files(t, s, queueDir); !slices.Equal(got, []string{id + "." + string(state)}) {
			t.Errorf("queue has %v", got)
		}
		if err := s.Discard(id, state); err != nil {
			t.Errorf("discarding a message that is %s: %v", state, err)
		}
		if err := s.Discard(id, state); !errors.Is(err, ErrUnknown) {
			t.Errorf("discarded twice: %v", err)
		}
		if len(files(t, s, queueDir)) != 0 || used(s) != 0 {
			t.Errorf("%v, %d bytes", files(t, s, queueDir), used(s))
		}
		w, err := s.Create(sampleEntry())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Discard(w.ID(), Incoming); !errors.Is(err, ErrUnknown) {
			t.Errorf("discarded while it was written: %v", err)
		}
		if err := w.Commit(state, Progress{}); err != nil {
			t.Error(err)
		}
	}
}

func TestAllStates(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	ids := map[State]string{}
	for _, state := range queued {
		id, err := tryPut(s, sampleEntry(), "x", state)
		if err != nil {
			t.Fatal(err)
		}
		ids[state] = id
	}
	for state, id := range ids {
		if got := list(t, s, state); !slices.Equal(got, []string{id}) {
			t.Errorf("%s: %v", state, got)
		}
	}
	if got := list(t, s, Hold, Active); len(got) != 2 {
		t.Errorf("two states: %v", got)
	}
	if got := list(t, s); len(got) != 3 {
		t.Errorf("all: %v", got)
	}
	if got := list(t, s, Incoming); len(got) != 0 {
		t.Errorf("incoming: %v", got)
	}
	if n := s.Counts(); !reflect.DeepEqual(n, map[State]int{Active: 1, Deferred: 1, Hold: 1}) {
		t.Errorf("counted %v", n)
	}
	for range s.All() {
		break // its readers end too, or closing would fail
	}
}

// TestInterrupted: what was active when a process ended is deferred, and says
// that the relay may have it.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	id := defer1(t, s)
	progress := Progress{Attempts: 4, Reason: "no answer", Rest: []Due{{Rcpt: 1}}}
	if err := errors.Join(s.Settle(id, progress, Active), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	item, err := s.Show(id)
	p := item.Progress
	if err != nil || item.State != Deferred || !p.PossibleDuplicate || p.Attempts != 4 || p.Reason != "no answer" || len(p.Rest) != 1 {
		t.Errorf("%+v, %v", item, err)
	}
	if got := files(t, s, queueDir); !slices.Equal(got, []string{id + ".deferred"}) {
		t.Errorf("queue has %v", got)
	}
	s.Close()
	s = open(t, dir, Options{})
	if again, err := s.Show(id); err != nil || !reflect.DeepEqual(again, item) {
		t.Errorf("after another restart %+v, %v", again, err)
	}
}

// TestVersion1: messages of the first format are held as before, and can be
// tried like any other.
func TestVersion1(t *testing.T) {
	const first, second, damaged = "01KAKVN5KVHELD1FROMF0RMAT1", "01KAKVN5KVHELD2FROMF0RMAT1", "01KAKVN5KVDAMAGEDFR0MV1"
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/v1")); err != nil {
		t.Fatal(err)
	}
	want := sampleEntry()
	want.ID, want.Reason, want.Size = first, "no relay is configured <yet>", 38
	want.Time = time.Date(2026, 11, 21, 21, 40, 0, 123e6, time.UTC)
	check := func(s interface {
		Read(string) (*Message, error)
	}) {
		t.Helper()
		item, text := get(t, s, first)
		if !reflect.DeepEqual(item.Entry, want) || text != "Subject: hello\r\n\r\nKept by version 1.\r\n" {
			t.Errorf("got %+v, %q", item.Entry, text)
		}
		if !reflect.DeepEqual(item.Progress, Progress{Time: want.Time, Reason: want.Reason, Hold: HoldNoRelay}) || item.State != Hold {
			t.Errorf("got %+v", item)
		}
		if item, text := get(t, s, second); len(text) != 570 || !strings.HasSuffix(text, "end") || item.Identity.Key() != "account:shop" {
			t.Errorf("got %+v, %q", item, text)
		}
		if _, err := s.Read(damaged); !errors.Is(err, ErrDamaged) {
			t.Errorf("the damaged one: %v", err)
		}
	}
	r, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	check(r)
	if ids := list(t, r); !slices.Equal(ids, []string{damaged, first, second}) {
		t.Errorf("listed %v before it was adopted", ids)
	}
	s := open(t, dir, Options{})
	check(s)
	check(open(t, dir2(t, s), Options{}))
	if _, err := os.Stat(filepath.Join(dir, holdDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("hold/ is still there: %v", err)
	}
	if err := s.Settle(second, Progress{Attempts: 1}, Deferred); err != nil {
		t.Fatal(err)
	}
	if item, text := get(t, s, second); item.Progress.Attempts != 1 || item.State != Deferred || len(text) != 570 {
		t.Errorf("after a try: %+v, %d bytes", item, len(text))
	}
	if got := files(t, s, queueDir); !slices.Equal(got, []string{first + ".hold", second + ".deferred"}) {
		t.Errorf("queue has %v", got)
	}
}

// dir2 is a copy of a spool, with the damaged message back in its place.
func dir2(t *testing.T, s *Spool) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	ids, err := s.Corrupt()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := os.Rename(filepath.Join(dir, corruptDir, id), filepath.Join(dir, queueDir, id+".hold")); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTwoFiles: of two files of one message, one is put aside, and the other
// tells the most.
func TestTwoFiles(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	dir := t.TempDir()
	s := open(t, dir, Options{})
	id, old := defer1(t, s), put(t, s, sampleEntry(), "old")
	for from, to := range map[string]string{
		s.queuePath(id, Deferred): s.queuePath(id, Active),
		s.queuePath(old, Hold):    s.path(holdDir, old), // as after a crash while it was adopted
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.Link(from, to)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = open(t, dir, Options{Logger: zap.New(core)})
	if item, err := s.Show(id); err != nil || !item.Progress.PossibleDuplicate {
		t.Errorf("%+v, %v", item, err)
	}
	if got := files(t, s, queueDir); len(got) != 2 {
		t.Errorf("queue has %v", got)
	}
	if ids, _ := s.Corrupt(); !slices.Equal(ids, []string{id}) {
		t.Errorf("corrupt: %v", ids)
	}
	if logs.FilterMessage("second file of a message put aside").Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
	if _, text := get(t, s, old); text != "old" {
		t.Errorf("got %q", text)
	}
}

// TestTogether lets many goroutines work at the same messages.
func TestTogether(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	var ids []string
	for range 4 {
		ids = append(ids, defer1(t, s))
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 40 {
				id := ids[(i+worker)%len(ids)]
				var err error
				switch (i + worker) % 5 {
				case 0:
					err = s.Activate(id)
				case 1:
					err = s.Settle(id, Progress{Attempts: i}, Deferred)
				case 2:
					var m *Message
					if m, err = s.Read(id); err == nil {
						m.Close()
					}
				case 3:
					err = s.Settle(id, Progress{Attempts: i}, Hold)
				default:
					for item, err := range s.All() {
						if err != nil {
							t.Errorf("%s: %v", item.ID, err)
						}
					}
				}
				if err != nil && !errors.Is(err, ErrUnknown) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := files(t, s, queueDir); len(got) != len(ids) {
		t.Errorf("queue has %v", got)
	}
	if ids, _ := s.Corrupt(); len(ids) != 0 {
		t.Errorf("corrupt: %v", ids)
	}
}

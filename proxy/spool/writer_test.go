package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestAbort(t *testing.T) {
	for name, text := range map[string]string{"held": "half", "spilt": strings.Repeat("x", 100_000)} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), Options{})
			w, err := s.Create(sampleEntry())
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, text)
			w.Abort()
			w.Abort()
			if _, err := w.Write([]byte("x")); !errors.Is(err, errDone) {
				t.Errorf("write after abort: %v", err)
			}
			if err := w.Commit(Hold, Progress{}); !errors.Is(err, errDone) {
				t.Errorf("commit after abort: %v", err)
			}
			if used(s) != 0 || s.UsedBy("uid:33") != 0 || s.Counts()[Incoming] != 0 {
				t.Errorf("left: %d bytes", used(s))
			}
			if s.Close(); len(files(t, s, incomingDir)) != 0 {
				t.Errorf("left: %v", files(t, s, incomingDir))
			}
		})
	}
}

func TestAbortAfterCommit(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	w, err := s.Create(sampleEntry())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(Active, Progress{}); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if item, err := s.Show(w.ID()); err != nil || item.State != Active || item.Progress.Time.IsZero() {
		t.Errorf("%+v, %v", item, err)
	}
}

// TestTee: nothing is done for a message that is not kept.
func TestTee(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	asked := 0
	tee := func() *Writer {
		return s.Tee(func() Entry { asked++; return sampleEntry() })
	}
	w := tee()
	io.WriteString(w, strings.Repeat("x", spillSize))
	if asked != 0 || used(s) != 0 || len(files(t, s, incomingDir)) != 0 {
		t.Error("something was done before it was needed")
	}
	w.Abort()
	w = tee()
	text := strings.Repeat("0123456789abcde\n", 10_000)
	for part := range strings.SplitSeq(text, "") {
		io.WriteString(w, part)
	}
	if asked != 1 || len(files(t, s, incomingDir)) != 1 || used(s) < 100_000 {
		t.Errorf("asked %d times, %v, %d bytes", asked, files(t, s, incomingDir), used(s))
	}
	if err := w.Commit(Deferred, Progress{Reason: "later"}); err != nil {
		t.Fatal(err)
	}
	if item, got := get(t, s, w.ID()); got != text || item.State != Deferred || item.Progress.Reason != "later" || asked != 1 {
		t.Errorf("%d bytes of %d, %+v", len(got), len(text), item)
	}
}

// TestTeeFull: a tee for which there is no room says so once it matters, and
// again and again, and takes none.
func TestTeeFull(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 100_000, MaxIdentityBytes: 100_000})
	w := s.Tee(sampleEntry)
	if _, err := io.WriteString(w, strings.Repeat("x", 200_000)); !errors.Is(err, ErrFull) {
		t.Errorf("written: %v", err)
	}
	if _, err := io.WriteString(w, "x"); !errors.Is(err, ErrFull) {
		t.Errorf("went on: %v", err)
	}
	if used(s) != 0 || len(files(t, s, incomingDir)) != 0 {
		t.Errorf("%d bytes, %v", used(s), files(t, s, incomingDir))
	}
	if err := w.Commit(Deferred, Progress{}); !errors.Is(err, ErrFull) {
		t.Errorf("committed: %v", err)
	}
	w.Abort()
	put(t, s, sampleEntry(), "fits")
}

func TestLimit(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 40_960, MaxIdentityBytes: 40_960})
	e := sampleEntry()
	e.Envelope.Params.Size = 41_000
	if _, err := s.Create(e); !errors.Is(err, ErrFull) || errors.Is(err, ErrIdentityFull) {
		t.Errorf("declared too much: %v", err)
	}
	w, err := s.Create(sampleEntry())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 80_000)); !errors.Is(err, ErrFull) {
		t.Errorf("wrote too much: %v", err)
	}
	if err := w.Commit(Hold, Progress{}); !errors.Is(err, ErrFull) {
		t.Errorf("committed: %v", err)
	}
	if used(s) != 0 {
		t.Errorf("%d bytes are still taken", used(s))
	}
	put(t, s, sampleEntry(), "fits")
	if bytes, messages := s.Used(); bytes != blockSize || messages != 1 {
		t.Errorf("%d bytes in %d messages", bytes, messages)
	}
}

func TestIdentityLimit(t *testing.T) {
	dir := t.TempDir()
	options := Options{MaxBytes: 10 * blockSize, MaxIdentityBytes: 2 * blockSize}
	s := open(t, dir, options)
	mine := sampleEntry()
	other := Entry{Identity: Identity{Account: "shop"}}
	a, b := put(t, s, mine, "1"), put(t, s, mine, "2")
	if _, err := s.Create(mine); !errors.Is(err, ErrIdentityFull) || !errors.Is(err, ErrFull) {
		t.Errorf("created: %v", err)
	}
	w := s.Tee(func() Entry { return mine })
	if err := w.Commit(Deferred, Progress{}); !errors.Is(err, ErrIdentityFull) {
		t.Errorf("committed: %v", err)
	}
	put(t, s, other, "others have room")
	if s.UsedBy("uid:33") != 2*blockSize || s.UsedBy("account:shop") != blockSize || s.UsedBy("unknown") != 0 {
		t.Errorf("%d and %d bytes", s.UsedBy("uid:33"), s.UsedBy("account:shop"))
	}
	// What was settled is ours, whatever the limit.
	if err := s.Settle(a, Progress{Reason: strings.Repeat("x", 1000), Rest: dues(40)}, Deferred); err != nil {
		t.Fatal(err)
	}
	if s.UsedBy("uid:33") != 4*blockSize {
		t.Errorf("%d bytes with a long tail", s.UsedBy("uid:33"))
	}
	s.Close()
	s = open(t, dir, options)
	if n := s.UsedBy("uid:33"); n != 0 {
		t.Errorf("%d bytes before anything was read", n)
	}
	list(t, s)
	if s.UsedBy("uid:33") != 4*blockSize || used(s) != 5*blockSize {
		t.Errorf("%d bytes of %d after a restart", s.UsedBy("uid:33"), used(s))
	}
	if err := errors.Join(s.Remove(a), s.Remove(b)); err != nil {
		t.Fatal(err)
	}
	put(t, s, mine, "there is room again")
}

// TestNoticeLimit: who has filled his part of the spool, or all of it, can be told
// of it still, but not without end.
func TestNoticeLimit(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 32 * blockSize, MaxIdentityBytes: 32 * blockSize})
	mine := sampleEntry()
	for range 32 {
		put(t, s, mine, "x")
	}
	if _, err := s.Create(mine); !errors.Is(err, ErrFull) {
		t.Fatalf("not full: %v", err)
	}
	notice := mine
	notice.Identity.Notice = true
	put(t, s, notice, "told")
	last := put(t, s, notice, "told again")
	if _, err := s.Create(notice); !errors.Is(err, ErrFull) {
		t.Errorf("a third notice: %v", err)
	}
	if s.UsedBy("notice") != 2*blockSize || s.UsedBy("uid:33") != 32*blockSize {
		t.Errorf("%d bytes of notices, %d of the sender's", s.UsedBy("notice"), s.UsedBy("uid:33"))
	}
	if err := s.Remove(last); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(mine); !errors.Is(err, ErrFull) {
		t.Errorf("the notices' room was taken: %v", err)
	}
	put(t, s, notice, "told once more")
}

// TestNoticesAlone: notices do not fill a spool in which others have room.
func TestNoticesAlone(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 16 * blockSize})
	notice := Entry{Identity: Identity{Notice: true}}
	put(t, s, notice, "told")
	if _, err := s.Create(notice); !errors.Is(err, ErrIdentityFull) {
		t.Errorf("a second notice: %v", err)
	}
}

// dues are n that have much to say, all of the first recipient.
func dues(n int) []Due {
	rest := make([]Due, n)
	for i := range rest {
		rest[i].Reply = fmt.Sprintf("450 %s %d", strings.Repeat("later ", 30), i)
	}
	return rest
}

func TestLimitTogether(t *testing.T) {
	const limit = 300_000
	s := open(t, t.TempDir(), Options{MaxBytes: limit, MaxIdentityBytes: limit})
	var all sync.WaitGroup
	var mu sync.Mutex
	var kept []string
	for i := range 64 {
		all.Go(func() {
			id, err := tryPut(s, sampleEntry(), strings.Repeat("x", 10_000+1000*i), Deferred)
			if errors.Is(err, ErrFull) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, id)
		})
	}
	all.Wait()
	var total int64
	for _, id := range kept {
		st, err := os.Stat(s.queuePath(id, Deferred))
		if err != nil {
			t.Fatal(err)
		}
		total += blocks(st.Size())
	}
	if total > limit || total != used(s) || s.UsedBy("uid:33") != total {
		t.Errorf("%d bytes in files, %d counted, limit %d", total, used(s), limit)
	}
	if len(kept) < 2 || len(kept) != len(files(t, s, queueDir)) || len(files(t, s, incomingDir)) != 0 {
		t.Errorf("%d kept of %v, incoming %v", len(kept), files(t, s, queueDir), files(t, s, incomingDir))
	}
	// The count is the same after a restart.
	s.Close()
	if s = open(t, s.dir, Options{MaxBytes: limit}); used(s) != total {
		t.Errorf("%d bytes after a restart, want %d", used(s), total)
	}
}

package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/proxy/smtp"
)

// open opens a spool in dir and closes it with the test.
func open(t testing.TB, dir string, opts Options) *Spool {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// entry is a message's entry that uses every field.
func sampleEntry() Entry {
	uid := uint32(33)
	return Entry{
		Reason: "no relay is configured <yet>",
		Envelope: smtp.Envelope{
			ReversePath: "www-data@example.com",
			Params:      smtp.MailParams{Body: "8BITMIME", UTF8: true, Ret: "HDRS", EnvID: "a+2Bb"},
			Recipients: []smtp.Recipient{
				{Address: "käthe@example.net", Params: smtp.RcptParams{Notify: "NEVER"}},
				{Address: `"odd name"@example.org`, Params: smtp.RcptParams{ORcpt: "rfc822;x@example.org"}},
			},
		},
		Identity: Identity{UID: &uid, User: "www-data", Groups: []string{"www-data", "mail"}, Unit: "php8.2-fpm.service", Account: "shop", Listener: "submission"},
	}
}

// put commits a message.
func put(t testing.TB, s *Spool, e Entry, text string) string {
	t.Helper()
	id, err := tryPut(s, e, text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func tryPut(s *Spool, e Entry, text string) (string, error) {
	w, err := s.Create(e)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := io.WriteString(w, text); err != nil {
		return "", err
	}
	return w.Commit()
}

// get reads a message.
func get(t testing.TB, s *Spool, id string) (Entry, string) {
	t.Helper()
	m, err := s.Read(id)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	text, err := io.ReadAll(m)
	if err != nil {
		t.Fatal(err)
	}
	return m.Entry, string(text)
}

// files are the names in a state's directory.
func files(t testing.TB, s *Spool, state string) []string {
	t.Helper()
	entries, err := os.ReadDir(s.path(state))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "var", "spool")
	s := open(t, dir, Options{})
	texts := map[string]string{
		"Empty": "", "Plain": "Subject: x\r\n\r\nbody\r\n", "NoEnd": "no end of line", "Blank": "\n\n\r\n\x00\xff",
		"Big": strings.Repeat("0123456789abcdef", 100_000),
	}
	before := time.Now().Add(-time.Millisecond)
	for id, text := range texts {
		e := sampleEntry()
		e.ID = id
		if got := put(t, s, e, text); got != id {
			t.Errorf("committed as %q, want %q", got, id)
		}
	}
	s.Close()
	s = open(t, dir, Options{})
	for id, text := range texts {
		got, gotText := get(t, s, id)
		want := sampleEntry()
		want.ID, want.Size, want.Time = id, int64(len(text)), got.Time
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", id, got, want)
		}
		if got.Time.Before(before) || got.Time.After(time.Now()) {
			t.Errorf("%s: taken at %v", id, got.Time)
		}
		if gotText != text {
			t.Errorf("%s: %d bytes became %d", id, len(text), len(gotText))
		}
	}
	if entries, err := s.List(); len(entries) != len(texts) || err != nil {
		t.Errorf("listed %d, %v, want %d", len(entries), err, len(texts))
	}
	for id := range texts {
		if err := s.Remove(id); err != nil {
			t.Error(err)
		}
	}
	if left := files(t, s, holdDir); len(left) != 0 || s.Used() != 0 {
		t.Errorf("left: %v, %d bytes", left, s.Used())
	}
}

func TestModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, dir, Options{})
	id := put(t, s, sampleEntry(), "x")
	for path, want := range map[string]fs.FileMode{
		dir: 0o700, s.path(incomingDir): 0o700, s.path(holdDir): 0o700, s.path(corruptDir): 0o700, s.path(holdDir, id): 0o600,
	} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, st.Mode().Perm(), err, want)
		}
	}
}

// TestOrdinaryTools keeps what docs/spool-format.md promises to people.
func TestOrdinaryTools(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	const text = "Subject: hello\r\n\r\n\r\nbody\r\n"
	file := s.path(holdDir, put(t, s, sampleEntry(), text))
	for script, want := range map[string]string{
		`head -n 1 "$0"`:             "smtpwall-spool 1\n",
		`sed '1,/^$/d' "$0"`:         text,
		`sed -n 's/^size: //p' "$0"`: fmt.Sprintf("%019d\n", len(text)),
		`test "$(sed '1,/^$/d' "$0" | sha256sum | cut -c 1-64)" = "$(sed -n 's/^sha256: //p' "$0")"`:                "",
		`test "$(sed '/^head-sha256/,$d' "$0" | sha256sum | cut -c 1-64)" = "$(sed -n 's/^head-sha256: //p' "$0")"`: "",
	} {
		out, err := exec.Command("sh", "-c", script, file).Output()
		if err != nil || want != "" && string(out) != want {
			t.Errorf("%s: %q, %v, want %q", script, out, err, want)
		}
	}
}

func TestIDs(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, id := range []string{"../x", "a/b", ".", "a.b", "ä", strings.Repeat("x", 65), "a b", "-a"} {
		e := sampleEntry()
		e.ID = id
		if _, err := s.Create(e); err == nil {
			t.Errorf("created %q", id)
		}
		if _, err := s.Read(id); !errors.Is(err, ErrUnknown) {
			t.Errorf("read %q: %v", id, err)
		}
		if err := s.Remove(id); !errors.Is(err, ErrUnknown) {
			t.Errorf("removed %q: %v", id, err)
		}
	}
	early, late := newID(time.UnixMilli(1_800_000_000_000)), newID(time.UnixMilli(1_800_000_000_001))
	if early >= late || !validID(early) || len(early) != 26 {
		t.Errorf("ids do not sort by time: %q, %q", early, late)
	}
}

func TestSameID(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	e := sampleEntry()
	e.ID = "Twice"
	put(t, s, e, "first")
	used := s.Used()
	if _, err := s.Create(e); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created again: %v", err)
	}
	if _, text := get(t, s, "Twice"); text != "first" || s.Used() != used || len(files(t, s, incomingDir)) != 0 {
		t.Errorf("the first was disturbed: %q, %d bytes", text, s.Used())
	}
}

func TestRewrite(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 3000})
	id := put(t, s, sampleEntry(), strings.Repeat("x", 2000))
	before, _ := get(t, s, id)
	// There is no room for a second message, and none is needed.
	err := s.Rewrite(id, func(e *Entry) {
		e.ID, e.Time, e.Reason = "Other", time.Time{}, "550 5.1.1 no such user"
		e.Envelope.Recipients = e.Envelope.Recipients[1:]
	})
	if err != nil {
		t.Fatal(err)
	}
	after, got := get(t, s, id)
	want := before
	want.Reason, want.Envelope.Recipients = "550 5.1.1 no such user", before.Envelope.Recipients[1:]
	if !reflect.DeepEqual(after, want) || got != strings.Repeat("x", 2000) {
		t.Errorf("got %+v, want %+v", after, want)
	}
	st, err := os.Stat(s.path(holdDir, id))
	if err != nil || st.Size() != s.Used() || len(files(t, s, holdDir)) != 1 || len(files(t, s, incomingDir)) != 0 {
		t.Errorf("%d bytes counted, file of %d, %v", s.Used(), st.Size(), err)
	}
	if err := s.Rewrite("Unknown", func(*Entry) {}); !errors.Is(err, ErrUnknown) {
		t.Errorf("no message: %v", err)
	}
}

func TestAbort(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	w, err := s.Create(sampleEntry())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "half")
	w.Abort()
	w.Abort()
	if _, err := w.Write([]byte("x")); !errors.Is(err, errDone) {
		t.Errorf("write after abort: %v", err)
	}
	if _, err := w.Commit(); !errors.Is(err, errDone) {
		t.Errorf("commit after abort: %v", err)
	}
	if s.Used() != 0 || len(files(t, s, incomingDir)) != 0 {
		t.Errorf("left: %v, %d bytes", files(t, s, incomingDir), s.Used())
	}
	// After Commit, Abort does nothing.
	w, _ = s.Create(sampleEntry())
	id, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, err := s.Read(id); err != nil {
		t.Error(err)
	}
}

func TestNotUTF8(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	e := sampleEntry()
	e.Envelope.Recipients[1].Address = "\xff@example.org"
	if _, err := s.Create(e); err == nil {
		t.Error("an address that JSON would change was taken")
	}
}

func TestLockedByAnother(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	s.Close()
	open(t, dir, Options{})
}

func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	id := put(t, s, sampleEntry(), "kept")
	w, err := s.Create(sampleEntry())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "unfinished")
	for _, stranger := range []string{"hold/README.txt", "incoming/.swp"} {
		if err := os.WriteFile(filepath.Join(dir, stranger), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = open(t, dir, Options{})
	if left := files(t, s, incomingDir); len(left) != 1 || left[0] != ".swp" {
		t.Errorf("incoming has %v", left)
	}
	entries, err := s.List()
	if err != nil || len(entries) != 1 || entries[0].ID != id {
		t.Errorf("listed %v, %v", entries, err)
	}
}

func TestLimit(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 10_000})
	e := sampleEntry()
	e.Envelope.Params.Size = 20_000
	if _, err := s.Create(e); !errors.Is(err, ErrFull) {
		t.Errorf("declared too much: %v", err)
	}
	w, err := s.Create(sampleEntry())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 20_000)); !errors.Is(err, ErrFull) {
		t.Errorf("wrote too much: %v", err)
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, ErrFull) {
		t.Errorf("went on: %v", err)
	}
	if _, err := w.Commit(); !errors.Is(err, ErrFull) {
		t.Errorf("committed: %v", err)
	}
	if s.Used() != 0 {
		t.Errorf("%d bytes are still taken", s.Used())
	}
	put(t, s, sampleEntry(), "fits")
}

func TestLimitTogether(t *testing.T) {
	const limit = 300_000
	s := open(t, t.TempDir(), Options{MaxBytes: limit})
	var all sync.WaitGroup
	var mu sync.Mutex
	var kept []string
	for i := range 64 {
		all.Go(func() {
			id, err := tryPut(s, sampleEntry(), strings.Repeat("x", 10_000+i))
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
	for _, name := range files(t, s, holdDir) {
		st, err := os.Stat(s.path(holdDir, name))
		if err != nil {
			t.Fatal(err)
		}
		total += st.Size()
	}
	if total > limit || total != s.Used() {
		t.Errorf("%d bytes in files, %d counted, limit %d", total, s.Used(), limit)
	}
	if len(kept) < 2 || len(kept) != len(files(t, s, holdDir)) || len(files(t, s, incomingDir)) != 0 {
		t.Errorf("%d kept of %v, incoming %v", len(kept), files(t, s, holdDir), files(t, s, incomingDir))
	}
	// The count is the same after a restart.
	used := s.Used()
	s.Close()
	if s = open(t, s.dir, Options{MaxBytes: limit}); s.Used() != used {
		t.Errorf("%d bytes after a restart, want %d", s.Used(), used)
	}
}

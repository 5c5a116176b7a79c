package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/durable/simdisk"
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

// waiting is the progress of a message that was committed with put.
var waiting = Progress{Reason: "no relay is configured <yet>", Hold: HoldNoRelay}

// put commits a message to hold.
func put(t testing.TB, s *Spool, e Entry, text string) string {
	t.Helper()
	id, err := tryPut(s, e, text, Hold)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func tryPut(s *Spool, e Entry, text string, state State) (string, error) {
	w, err := s.Create(e)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := io.WriteString(w, text); err != nil {
		return "", err
	}
	p := waiting
	p.Time = time.UnixMilli(1_800_000_000_000).UTC()
	return w.ID(), w.Commit(state, p)
}

// get reads a message.
func get(t testing.TB, s interface {
	Read(string) (*Message, error)
}, id string) (Item, string) {
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
	return m.Item, string(text)
}

// list is what All has, the ids sorted.
func list(t testing.TB, s interface {
	All(...State) iter.Seq2[Item, error]
}, states ...State) (ids []string) {
	t.Helper()
	for item, err := range s.All(states...) {
		if err != nil {
			t.Errorf("listing %s: %v", item.ID, err)
			continue
		}
		ids = append(ids, item.ID)
	}
	slices.Sort(ids)
	return ids
}

// used is what the spool counts.
func used(s *Spool) int64 {
	bytes, _ := s.Used()
	return bytes
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
		"Buffer": strings.Repeat("x", holdSize), "Spilt": strings.Repeat("y", holdSize+1), "Twice": strings.Repeat("z", 2*spillSize),
		"Big": strings.Repeat("0123456789abcdef", 100_000), "Progress": "progress: {} 44136fa355b3678a\n",
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
		want := Item{Entry: sampleEntry(), State: Hold, Progress: waiting, Stored: got.Stored}
		want.ID, want.Size, want.Time = id, int64(len(text)), got.Time
		want.Progress.Time = time.UnixMilli(1_800_000_000_000).UTC()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", id, got, want)
		}
		if got.Time.Before(before) || got.Time.After(time.Now()) {
			t.Errorf("%s: taken at %v", id, got.Time)
		}
		if st, err := os.Stat(s.queuePath(id, Hold)); err != nil || st.Size() != got.Stored {
			t.Errorf("%s: %d bytes stored, %v", id, got.Stored, err)
		}
		if gotText != text {
			t.Errorf("%s: %d bytes became %d", id, len(text), len(gotText))
		}
		if shown, err := s.Show(id); err != nil || !reflect.DeepEqual(shown, want) {
			t.Errorf("%s: shown %+v, %v", id, shown, err)
		}
	}
	if ids := list(t, s); len(ids) != len(texts) {
		t.Errorf("listed %v, want %d", ids, len(texts))
	}
	for id := range texts {
		if err := s.Remove(id); err != nil {
			t.Error(err)
		}
	}
	if left := files(t, s, queueDir); len(left) != 0 || used(s) != 0 {
		t.Errorf("left: %v, %d bytes", left, used(s))
	}
}

func TestModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, dir, Options{})
	id := put(t, s, sampleEntry(), "x")
	for path, want := range map[string]fs.FileMode{
		dir: 0o700, s.path(incomingDir): 0o700, s.path(queueDir): 0o700, s.path(corruptDir): 0o700, s.queuePath(id, Hold): 0o600,
	} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, st.Mode().Perm(), err, want)
		}
	}
}

// TestOrdinaryTools keeps what docs/spool-format.md promises to people.
func TestOrdinaryTools(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, text := range []string{"Subject: hello\r\n\r\n\r\nsize: 5\r\nprogress: {}\r\n", "no end", ""} {
		id := put(t, s, sampleEntry(), text)
		if err := s.Settle(id, Progress{Attempts: 1, Reason: "later"}, Deferred); err != nil {
			t.Fatal(err)
		}
		const size = `SIZE=$(sed -n '/^$/q;s/^size: //p' "$0"); `
		for script, want := range map[string]string{
			`head -n 1 "$0"`: "smtpwall-spool 2\n",
			size + `sed '1,/^$/d' "$0" | head -c "$SIZE"`:                                            text,
			size + `sed '1,/^$/d' "$0" | tail -c +$((10#$SIZE + 1)) | tail -n 1 | grep -o '"later"'`: "\"later\"\n",
			size + `echo $SIZE`: fmt.Sprintf("%019d\n", len(text)),
			size + `test "$(sed '1,/^$/d' "$0" | head -c "$SIZE" | sha256sum | cut -c 1-64)" = "$(sed -n '/^$/q;s/^sha256: //p' "$0")"`:              "",
			`test "$(sed '/^head-sha256/,$d' "$0" | sha256sum | cut -c 1-64)" = "$(sed -n '/^$/q;s/^head-sha256: //p' "$0")"`:                        "",
			`L=$(tail -n 1 "$0" | grep -o 'progress: {.*'); L=${L#progress: }; test "$(printf %s "${L% *}" | sha256sum | cut -c 1-16)" = "${L##* }"`: "",
		} {
			out, err := exec.Command("bash", "-c", script, s.queuePath(id, Deferred)).Output()
			if err != nil || want != "" && string(out) != want {
				t.Errorf("%s: %q, %v, want %q", script, out, err, want)
			}
		}
	}
}

func TestIDs(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	r, err := OpenReadOnly(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"../x", "a/b", ".", "a.b", "ä", strings.Repeat("x", 65), "a b", "-a"} {
		e := sampleEntry()
		e.ID = id
		if _, err := s.Create(e); err == nil {
			t.Errorf("created %q", id)
		}
		_, read := s.Read(id)
		_, readOnly := r.Read(id)
		for call, err := range map[string]error{
			"read": read, "reader": readOnly, "remove": s.Remove(id), "drop": s.Drop(id), "activate": s.Activate(id), "settle": s.Settle(id, Progress{}, Hold),
		} {
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("%s %q: %v", call, id, err)
			}
		}
	}
	early, late := NewID(time.UnixMilli(1_800_000_000_000)), NewID(time.UnixMilli(1_800_000_000_001))
	if early >= late || !validID(early) || len(early) != 26 {
		t.Errorf("ids do not sort by time: %q, %q", early, late)
	}
}

func TestSameID(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	e := sampleEntry()
	e.ID = "Twice"
	w, err := s.Create(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(e); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created while it is written: %v", err)
	}
	w.Abort()
	put(t, s, e, "first")
	before := used(s)
	if _, err := s.Create(e); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created again: %v", err)
	}
	tee := s.Tee(func() Entry { return e })
	io.WriteString(tee, "second")
	if err := tee.Commit(Deferred, Progress{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("committed again: %v", err)
	}
	if _, text := get(t, s, "Twice"); text != "first" || used(s) != before || len(files(t, s, incomingDir)) != 0 {
		t.Errorf("the first was disturbed: %q, %d bytes", text, used(s))
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
	io.WriteString(w, strings.Repeat("unfinished", 10_000))
	strangers := []string{"queue/README.txt", "queue/ID", "queue/A.deferred.bak", "queue/B.corrupt", "incoming/.swp", "corrupt/notes.txt"}
	for _, stranger := range strangers {
		if err := os.WriteFile(filepath.Join(dir, stranger), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	s = open(t, dir, Options{})
	if left := files(t, s, incomingDir); len(left) != 1 || left[0] != ".swp" {
		t.Errorf("incoming has %v", left)
	}
	for _, stranger := range strangers {
		if _, err := os.Stat(filepath.Join(dir, stranger)); err != nil {
			t.Error(err)
		}
	}
	if ids := list(t, s); len(ids) != 1 || ids[0] != id {
		t.Errorf("listed %v", ids)
	}
}

// TestWaiting: what is held does not make the spool look old, and can be found
// by its age.
func TestWaiting(t *testing.T) {
	s, err := Open("/var/spool", Options{FS: simdisk.New(), MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	held, waiting := NewID(now.Add(-48*time.Hour)), NewID(now.Add(-time.Hour))
	for id, state := range map[string]State{held: Hold, waiting: Deferred} {
		if _, err := tryPut(s, Entry{ID: id}, "x", state); err != nil {
			t.Fatal(err)
		}
	}
	if u := s.Usage(); !u.Oldest.Equal(timeOf(waiting)) || u.Messages != 2 {
		t.Errorf("%+v, want the oldest of %s", u, timeOf(waiting))
	}
	if ids := s.TakenBefore(now.Add(-24*time.Hour), Hold, Deferred); !slices.Equal(ids, []string{held}) {
		t.Errorf("taken before: %v, want %s", ids, held)
	}
	if ids := s.TakenBefore(now.Add(-24*time.Hour), Deferred); len(ids) > 0 {
		t.Errorf("taken before: %v, want none", ids)
	}
}

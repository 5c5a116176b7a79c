package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

func openLog(t *testing.T, path string) *Log {
	t.Helper()
	log, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return log
}

func write(t *testing.T, log *Log, txn string) {
	t.Helper()
	if err := log.Write(&Event{Kind: KindTransaction, Txn: txn}); err != nil {
		t.Fatalf("writing %s: %v", txn, err)
	}
}

// txns returns the transaction ids in a file, each line of which must parse.
func txns(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		t.Errorf("%s ends within a line", path)
	}
	var ids []string
	for line := range bytes.Lines(data) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		ids = append(ids, e.Txn)
	}
	return strings.Join(ids, " ")
}

func TestLogConcurrentWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log := openLog(t, path)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := log.Write(&Event{Kind: KindAttempt, Txn: "x", Reason: strings.Repeat("r", 900)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(strings.Fields(txns(t, path))); n != 400 {
		t.Errorf("%d whole lines, want 400", n)
	}
}

func TestLogModeWhateverTheUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "log")
	openLog(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o640 {
		t.Errorf("mode %v, want -rw-r-----", info.Mode())
	}
}

func TestLogSetsTimeWithoutTouchingTheEvent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log := openLog(t, path)
	before := time.Now().Add(-time.Millisecond)
	event := Event{Kind: KindSession}
	if err := log.Write(&event); err != nil {
		t.Fatal(err)
	}
	if !event.Time.IsZero() {
		t.Error("the caller's event was changed")
	}
	data, _ := os.ReadFile(path)
	var got Event
	if err := json.Unmarshal(data, &got); err != nil || got.Time.Before(before) || got.Time.After(time.Now()) {
		t.Errorf("time %v (%v) is not now", got.Time, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	paths := map[string]func(path string) error{
		"symbolic link": func(p string) error { return os.Symlink(victim, p) },
		"hard link":     func(p string) error { return os.Link(victim, p) },
		"dangling link": func(p string) error { return os.Symlink(filepath.Join(dir, "made"), p) },
		"fifo":          func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory":     func(p string) error { return os.Mkdir(p, 0o700) },
	}
	for name, plant := range paths {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := plant(path); err != nil {
			t.Fatal(err)
		}
		if log, err := Open(path, Options{}); err == nil {
			log.Close()
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
		t.Error("a file was made through a dangling link")
	}
}

func TestLogFollowsRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		log := openLog(t, path)
		write(t, log, "a")
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		write(t, log, "b") // within the second: still the old file
		time.Sleep(checkInterval)
		write(t, log, "c")
		if old, current := txns(t, path+".1"), txns(t, path); old != "a b" || current != "c" {
			t.Errorf("old file has %q, new one %q; want \"a b\" and \"c\"", old, current)
		}
	})
}

func TestLogKeepsOldFileWhileItCannotReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		log := openLog(t, path)
		write(t, log, "a")
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkInterval)
		write(t, log, "b")
		if log.Err() == nil {
			t.Error("Err is nil though the path cannot be opened")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkInterval)
		write(t, log, "c")
		if err := log.Err(); err != nil {
			t.Errorf("Err stays %v", err)
		}
		if old, current := txns(t, path+".1"), txns(t, path); old != "a b" || current != "c" {
			t.Errorf("old file has %q, new one %q; want \"a b\" and \"c\"", old, current)
		}
	})
}

// TestLogFullDisk lets the kernel cut a write short, by the limit of a file's
// size, as a full disk does.
func TestLogFullDisk(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	path := filepath.Join(t.TempDir(), "log")
	log, err := Open(path, Options{Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	write(t, log, "a")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	withFileLimit(t, uint64(info.Size())+20, func() {
		for range 3 {
			if err := log.Write(&Event{Kind: KindTransaction, Txn: "lost"}); !errors.Is(err, unix.EFBIG) {
				t.Errorf("Write on a full disk: %v, want EFBIG", err)
			}
		}
		if log.Err() == nil {
			t.Error("Err is nil while the disk is full")
		}
	})
	if got := txns(t, path); got != "a" {
		t.Errorf("after the failures the file has %q, want the whole lines only", got)
	}
	write(t, log, "b")
	if log.Err() != nil || txns(t, path) != "a b" {
		t.Errorf("after the disk has room: %v, %q", log.Err(), txns(t, path))
	}
	if got := fmt.Sprint(messages(logs)); got != "[audit log fails audit log works again]" {
		t.Errorf("the program log has %s", got)
	}
}

func messages(logs *observer.ObservedLogs) (all []string) {
	for _, entry := range logs.All() {
		all = append(all, entry.Message)
	}
	return all
}

// withFileLimit runs f while no file may grow beyond limit.
func withFileLimit(t *testing.T, limit uint64, f func()) {
	t.Helper()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGXFSZ) // else it ends the process
	defer signal.Stop(signals)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
	}()
	f()
}

func TestLogAfterCrashWithinALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(`{"time":"2026-`), 0o640); err != nil {
		t.Fatal(err)
	}
	write(t, openLog(t, path), "b")
	data, _ := os.ReadFile(path)
	fragment, rest, _ := strings.Cut(string(data), "\n")
	var e Event
	if err := json.Unmarshal([]byte(rest), &e); err != nil || e.Txn != "b" || fragment != `{"time":"2026-` {
		t.Errorf("the fragment spoils the next line: %q", data)
	}
}

func TestLogClosed(t *testing.T) {
	log := openLog(t, filepath.Join(t.TempDir(), "log"))
	if err := errors.Join(log.Close(), log.Close()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if err := log.Write(&Event{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Write after Close: %v, want ErrClosed", err)
	}
}

func BenchmarkLogWrite(b *testing.B) {
	log, err := Open(filepath.Join(b.TempDir(), "log"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	e := fullEvent()
	b.ReportAllocs()
	for b.Loop() {
		if err := log.Write(&e); err != nil {
			b.Fatal(err)
		}
	}
}

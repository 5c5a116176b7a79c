package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var epoch = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// line is the event id at the given second.
func line(second int, id string) string {
	e := Event{Time: epoch.Add(time.Duration(second) * time.Second), Kind: KindTransaction, Txn: id, PeerUID: KnownUID(33)}
	return string(e.AppendJSON(nil)) + "\n"
}

func file(t *testing.T, dir, name string, content ...string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(content, "")), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// collect reads all there is; an error shows as "!".
func collect(paths []string, filter Filter) (ids string, errs []error) {
	var got []string
	for event, err := range Read(context.Background(), paths, filter, false) {
		if err != nil {
			got, errs = append(got, "!"), append(errs, err)
			continue
		}
		got = append(got, event.Txn)
	}
	return strings.Join(got, " "), errs
}

func TestReadMergesByTime(t *testing.T) {
	dir := t.TempDir()
	a := file(t, dir, "a", line(1, "a1"), line(4, "a4"), line(5, "a5"))
	b := file(t, dir, "b", line(2, "b2"), line(3, "b3"), line(4, "b4"), line(9, "b9"))
	if got, errs := collect([]string{a, b}, Filter{}); got != "a1 b2 b3 a4 b4 a5 b9" || errs != nil {
		t.Errorf("got %q, %v", got, errs)
	}
}

func TestReadDamage(t *testing.T) {
	dir := t.TempDir()
	long := `{"txn":"` + strings.Repeat("x", maxLine) + "\"}\n"
	for name, c := range map[string]struct{ content, want, err string }{
		"torn last line":  {line(1, "a") + `{"time":"20`, "a", ""},
		"only a torn one": {`{"ti`, "", ""},
		"empty lines":     {"\n" + line(1, "a") + "\n\n" + line(2, "b"), "a b", ""},
		"bad line":        {line(1, "a") + "junk\n" + line(2, "b"), "a ! b", "line 2"},
		"bad type":        {`{"size":"x"}` + "\n" + line(2, "b"), "! b", "line 1"},
		"too long a line": {line(1, "a") + long + line(2, "b"), "a ! b", "line 2: line is too long"},
		"unknown key":     {`{"txn":"n","new_key":{"a":[1]}}` + "\n", "n", ""},
		"empty file":      {"", "", ""},
	} {
		got, errs := collect([]string{file(t, dir, "log", c.content)}, Filter{})
		if got != c.want {
			t.Errorf("%s: got %q, want %q (%v)", name, got, c.want, errs)
		}
		if c.err != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), c.err)) {
			t.Errorf("%s: errors %v, want one with %q", name, errs, c.err)
		}
	}
}

func TestReadFilesRefusesKindsOfOthers(t *testing.T) {
	dir := t.TempDir()
	forged := `{"time":"2026-11-21T00:00:02.000Z","kind":"attempt","txn":"forged","peer_uid":4242}` + "\n"
	kindless := `{"time":"2026-11-21T00:00:02.000Z","txn":"kindless"}` + "\n"
	files := []File{
		{file(t, dir, "a", line(1, "a"), forged, kindless, line(3, "b")), []Kind{KindTransaction, KindSession}},
		{file(t, dir, "b", forged), []Kind{KindAttempt, KindDrift}},
	}
	got := ""
	for event, err := range ReadFiles(t.Context(), files, Filter{}, false) {
		if err != nil && !strings.Contains(err.Error(), "does not belong here") {
			t.Error(err)
		}
		got += event.Txn + "|"
	}
	if want := "a|||forged|b|"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadMissingFiles(t *testing.T) {
	dir := t.TempDir()
	a, none := file(t, dir, "a", line(1, "a")), filepath.Join(dir, "none")
	if got, _ := collect([]string{none, a}, Filter{}); got != "a" {
		t.Errorf("with one file missing: %q, want the other", got)
	}
	if _, errs := collect([]string{none}, Filter{}); len(errs) != 1 || !errors.Is(errs[0], fs.ErrNotExist) {
		t.Errorf("with all missing: %v, want one ErrNotExist", errs)
	}
	if got, errs := collect([]string{dir, a}, Filter{}); got != "! a" {
		t.Errorf("with an unreadable one: %q, %v", got, errs)
	}
}

func TestReadStopsWhenTheCallerDoes(t *testing.T) {
	path := file(t, t.TempDir(), "log", line(1, "a"), "junk\n", line(2, "b"))
	n := 0
	for range Read(context.Background(), []string{path}, Filter{}, true) {
		if n++; n == 2 {
			break
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for event := range Read(ctx, []string{path}, Filter{}, true) {
		t.Errorf("a cancelled Read yields %v", event)
	}
}

func TestReadFollowsAcrossRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "log")
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		done := make(chan struct{})
		go func() { // ends with ctx; done says so
			defer close(done)
			for event, err := range Read(ctx, []string{path}, Filter{}, true) {
				if err != nil {
					event.Txn = "!"
				}
				got = append(got, event.Txn)
			}
		}()
		expect := func(want string) {
			t.Helper()
			time.Sleep(2 * pollInterval)
			synctest.Wait()
			if now := strings.Join(got, " "); now != want {
				t.Fatalf("got %q, want %q", now, want)
			}
		}
		expect("") // the file is not there yet
		log := openLog(t, path)
		write(t, log, "a")
		expect("a")
		if _, err := log.file.WriteString(`{"txn":`); err != nil { // a line under way
			t.Fatal(err)
		}
		expect("a")
		if _, err := log.file.WriteString("\"b\"}\n"); err != nil {
			t.Fatal(err)
		}
		expect("a b")
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		file(t, dir, "log") // as logrotate's "create" does
		expect("a b")       // the reader sees it before the writer does
		if _, err := log.file.WriteString("{\"txn\":\"c\"}\n"); err != nil {
			t.Fatal(err) // the writer has not noticed yet
		}
		expect("a b c")
		time.Sleep(checkInterval)
		write(t, log, "d")
		time.Sleep(2 * checkInterval)
		expect("a b c d")
		cancel()
		<-done
	})
}

func TestFilter(t *testing.T) {
	event := fullEvent()
	event.PeerUID, event.PeerUser = KnownUID(33), "www-data"
	at := event.Time
	for i, f := range []Filter{
		{}, {Kind: KindTransaction}, {ID: "01J9S"}, {ID: "01J9T"}, {Decision: "allow"}, {User: "www-data"}, {User: "33"},
		{Unit: "php8.2-fpm.service"}, {Unit: "d4f1"}, {Account: "webshop"}, {Since: at}, {Until: at.Add(1)},
	} {
		if !f.Match(&event) {
			t.Errorf("filter %d %+v does not match", i, f)
		}
	}
	for i, f := range []Filter{
		{Kind: KindAttempt}, {ID: "01J9"}, {Decision: "deny"}, {User: "root"}, {User: "0"}, {Unit: "d4"},
		{Account: "other"}, {Since: at.Add(1)}, {Until: at}, {User: "33", Decision: "deny"},
	} {
		if f.Match(&event) {
			t.Errorf("filter %d %+v matches", i, f)
		}
	}
	event.PeerUID = UID{}
	if (&Filter{User: "0"}).Match(&event) {
		t.Error("unknown matches uid 0")
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte(line(1, "a") + "junk\n{\"peer_uid\":0}\n{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for event, err := range Read(context.Background(), []string{path}, Filter{}, false) {
			if text := Text(event); err == nil && strings.ContainsAny(strings.Replace(text, "\n    ", "", 1), "\n\r\x1b\u009b\u2028\u202e") {
				t.Errorf("unsafe text %q", text)
			}
			_ = fmt.Sprint(err)
		}
	})
}

package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// eventLine is a line of a log, of an hour of a day.
func eventLine(hour int, id string) string {
	at := time.Date(2026, 1, 2, hour, 0, 0, 0, time.UTC)
	return fmt.Sprintf(`{"time":%q,"kind":"attempt","session":%q}`+"\n", at.Format(time.RFC3339Nano), id)
}

// keepLog writes a file of a log, compressed if its name says so, last changed
// in an hour of that day.
func keepLog(t *testing.T, path string, hour int, text string) {
	t.Helper()
	content := []byte(text)
	if strings.HasSuffix(path, ".gz") {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write(content)
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		content = packed.Bytes()
	}
	at := time.Date(2026, 1, 2, hour, 30, 0, 0, time.UTC)
	if err := errors.Join(os.WriteFile(path, content, 0o600), os.Chtimes(path, at, at)); err != nil {
		t.Fatal(err)
	}
}

func TestHistory(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "a[b]*c") // the names are no patterns
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(directory, "attempts.jsonl")
	keepLog(t, log, 1, eventLine(5, "e")+`{"time":"2026`)
	keepLog(t, log+".1", 4, eventLine(4, "d"))
	keepLog(t, log+".2.gz", 3, eventLine(3, "c")+"\nno event\n"+`{"time":"2026-01-02T03:00:00Z","kind":"transaction"}`+"\n"+`{"torn`)
	keepLog(t, log+"-20260102-17.gz", 2, eventLine(1, "a")+eventLine(2, "b"))
	keepLog(t, filepath.Join(directory, "attempts.jsonlx"), 2, eventLine(1, "no log"))
	keepLog(t, log+"-broken.gz.tmp", 2, "")
	logs := []audit.File{
		{Path: filepath.Join(directory, "none.jsonl")},
		{Path: log, Kinds: []audit.Kind{audit.KindAttempt}},
	}
	for _, test := range []struct {
		since  int // hour, 0 for all
		want   string
		errors int
	}{{0, "a b c d e", 2}, {2, "b c d e", 2}, {4, "d e", 0}, {5, "e", 0}, {6, "", 0}} {
		var since time.Time
		if test.since > 0 {
			since = time.Date(2026, 1, 2, test.since, 0, 0, 0, time.UTC)
		}
		var got []string
		bad := 0
		for event, err := range history(t.Context(), logs, since) {
			if err != nil {
				bad++
				if !strings.Contains(err.Error(), log+".2.gz, line ") {
					t.Error(err)
				}
				continue
			}
			got = append(got, event.Session)
		}
		if strings.Join(got, " ") != test.want || bad != test.errors {
			t.Errorf("since %d: %q, %d errors; want %q, %d", test.since, got, bad, test.want, test.errors)
		}
	}
	for event := range history(t.Context(), logs, time.Time{}) {
		if event.Session == "b" {
			break // within a compressed file
		}
	}
}

func TestHistoryOfNothing(t *testing.T) {
	n := 0
	for _, err := range history(t.Context(), []audit.File{{Path: filepath.Join(t.TempDir(), "attempts.jsonl")}}, time.Time{}) {
		if n++; !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d answers", n)
	}
}

// A compressed log that is cut off gives what is there, and its error.
func TestHistoryOfHalfAFile(t *testing.T) {
	log := filepath.Join(t.TempDir(), "attempts.jsonl")
	keepLog(t, log+".1.gz", 1, eventLine(1, "a")+strings.Repeat(eventLine(2, "bcdefgh"), 10_000))
	info, err := os.Stat(log + ".1.gz")
	if err == nil {
		err = os.Truncate(log+".1.gz", info.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
	n, bad := 0, 0
	for _, err := range history(t.Context(), []audit.File{{Path: log}}, time.Time{}) {
		if err != nil {
			bad++
			continue
		}
		n++
	}
	if n < 1000 || n > 9000 || bad != 1 {
		t.Errorf("%d events, %d errors", n, bad)
	}
}

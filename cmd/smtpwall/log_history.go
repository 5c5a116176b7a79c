package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// maxEventLine is more than the longest event, as package audit writes it.
const maxEventLine = 1 << 20

// history yields the events of the logs and of what logrotate made of them,
// from since on; a zero since is all that is there. Each log comes whole, the
// oldest of its files first; the logs are not merged. An error concerns one
// file or one line and does not end the sequence; that no log has a file is
// fs.ErrNotExist.
func history(ctx context.Context, logs []audit.File, since time.Time) iter.Seq2[audit.Event, error] {
	return func(yield func(audit.Event, error) bool) {
		found := 0
		for _, log := range logs {
			for _, path := range rotated(log.Path, since) {
				found++
				if !readLog(ctx, audit.File{Path: path, Kinds: log.Kinds}, since, yield) {
					return
				}
			}
		}
		if found == 0 && len(logs) > 0 {
			_, err := os.Stat(logs[0].Path)
			yield(audit.Event{}, cmp.Or(err, fs.ErrNotExist))
		}
	}
}

// rotated are the files of a log that may have events from since on, the oldest
// first: NAME.1, NAME.2.gz, or NAME-DATE, and NAME itself.
func rotated(path string, since time.Time) []string {
	type part struct {
		path    string
		changed time.Time
	}
	var parts []part
	entries, _ := os.ReadDir(filepath.Dir(path)) // what cannot be listed can still be there by its name
	names := []string{path}
	for _, entry := range entries {
		if suffix, ok := strings.CutPrefix(entry.Name(), filepath.Base(path)); ok && suffix != "" && strings.ContainsRune(".-", rune(suffix[0])) {
			names = append(names, filepath.Join(filepath.Dir(path), entry.Name()))
		}
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() || name != path && info.ModTime().Before(since) {
			continue // logrotate and gzip keep the time of the last event
		}
		parts = append(parts, part{name, info.ModTime()})
	}
	slices.SortStableFunc(parts, func(a, b part) int {
		if (a.path == path) != (b.path == path) { // what is written to now is the newest, whatever its clock says
			return map[bool]int{true: 1, false: -1}[a.path == path]
		}
		return cmp.Or(a.changed.Compare(b.changed), cmp.Compare(b.path, a.path))
	})
	paths := make([]string, 0, len(parts))
	for _, p := range parts {
		paths = append(paths, p.path)
	}
	return paths
}

// readLog yields one file's events, and reports whether more are wanted.
func readLog(ctx context.Context, file audit.File, since time.Time, yield func(audit.Event, error) bool) bool {
	if !strings.HasSuffix(file.Path, ".gz") {
		for event, err := range audit.ReadFiles(ctx, []audit.File{file}, audit.Filter{Since: since}, false) {
			if !yield(event, err) {
				return false
			}
		}
		return ctx.Err() == nil
	}
	if err := readCompressed(ctx, file, since, yield); err != nil {
		return !errors.Is(err, errEnough) && yield(audit.Event{}, fmt.Errorf("reading audit log %s: %w", file.Path, err))
	}
	return ctx.Err() == nil
}

// errEnough ends a file before its end.
var errEnough = errors.New("no more is wanted")

func readCompressed(ctx context.Context, file audit.File, since time.Time, yield func(audit.Event, error) bool) error {
	opened, err := os.Open(file.Path)
	if err != nil {
		return err
	}
	defer opened.Close()
	plain, err := gzip.NewReader(bufio.NewReaderSize(opened, 64<<10))
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(plain)
	lines.Buffer(make([]byte, 64<<10), maxEventLine)
	lines.Split(wholeLines)
	for number := 1; ctx.Err() == nil && lines.Scan(); number++ {
		event, err := parseEvent(lines.Bytes(), file.Kinds)
		if err != nil {
			err = fmt.Errorf("reading audit log %s, line %d: %w", file.Path, number, err)
		}
		if err == nil && (event.Time.IsZero() || event.Time.Before(since)) {
			continue
		}
		if !yield(event, err) {
			return errEnough
		}
	}
	return lines.Err()
}

// wholeLines splits as bufio.ScanLines does, and drops a last line without its
// end: a crash tore it.
func wholeLines(data []byte, atEOF bool) (advance int, line []byte, err error) {
	if end := bytes.IndexByte(data, '\n'); end >= 0 {
		return end + 1, data[:end], nil
	}
	if atEOF {
		return len(data), nil, nil
	}
	return 0, nil, nil
}

// parseEvent reads a line as package audit does. An empty line, which is what
// follows a torn one, gives an event without a time.
func parseEvent(line []byte, kinds []audit.Kind) (event audit.Event, err error) {
	if len(line) == 0 {
		return event, nil
	}
	if err := event.UnmarshalJSON(line); err != nil {
		return audit.Event{}, err
	}
	if len(kinds) > 0 && !slices.Contains(kinds, event.Kind) {
		return audit.Event{}, fmt.Errorf("an event of kind %.40q does not belong here", event.Kind)
	}
	return event, nil
}

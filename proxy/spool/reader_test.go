package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestReader: a reader sees what the spool has, beside the daemon or without it,
// and leaves no trace.
func TestReader(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	id := defer1(t, s)
	active, err := tryPut(s, sampleEntry(), "being tried", Active)
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"beside the daemon", "without it"} {
		if got, err := r.Show(id); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
		if got, text := get(t, r, id); !reflect.DeepEqual(got, want) || text != "text" {
			t.Errorf("%s: %+v, %q", when, got, text)
		}
		if ids := list(t, r); len(ids) != 2 {
			t.Errorf("%s: %v", when, ids)
		}
		if ids := list(t, r, Active); !slices.Equal(ids, []string{active}) {
			t.Errorf("%s: active %v", when, ids)
		}
		if ids, err := r.Corrupt(); err != nil || len(ids) != 0 {
			t.Errorf("%s: corrupt %v, %v", when, ids, err)
		}
		s.Close()
	}
	if got := files(t, s, queueDir); len(got) != 2 || !slices.Contains(got, active+".active") {
		t.Errorf("queue has %v", got)
	}
}

func TestReaderOfNothing(t *testing.T) {
	if _, err := OpenReadOnly(filepath.Join(t.TempDir(), "spool")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	r, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if ids := list(t, r); len(ids) != 0 {
		t.Errorf("listed %v", ids)
	}
	if _, err := r.Read("Unknown"); !errors.Is(err, ErrUnknown) {
		t.Errorf("read: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("made %v, %v", entries, err)
	}
}

func TestFilter(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	item := Item{
		Entry: sampleEntry(), State: Deferred,
		Progress: Progress{Relay: "main", Reason: "The relay is away", Rest: []Due{{Rcpt: 0}, {Rcpt: 1, Reply: "450 Greylisted"}}},
	}
	item.ID, item.Time, item.Identity.Container = "A", now.Add(-time.Hour), "shop-1"
	tests := []struct {
		name   string
		filter Filter
		want   bool
	}{
		{"nothing", Filter{}, true},
		{"id", Filter{IDs: []string{"B", "A"}}, true},
		{"another id", Filter{IDs: []string{"B"}}, false},
		{"state", Filter{States: []State{Active, Deferred}}, true},
		{"another state", Filter{States: []State{Hold}}, false},
		{"key", Filter{Identity: "container:shop-1"}, true},
		{"a key that is not the one", Filter{Identity: "uid:33"}, false},
		{"uid", Filter{Identity: "33"}, true},
		{"user", Filter{Identity: "www-data"}, true},
		{"unit", Filter{Identity: "php8.2-fpm.service"}, true},
		{"container", Filter{Identity: "shop-1"}, true},
		{"account", Filter{Identity: "shop"}, true},
		{"another", Filter{Identity: "sho"}, false},
		{"relay", Filter{Relay: "main"}, true},
		{"another relay", Filter{Relay: "mai"}, false},
		{"reason", Filter{Reason: "RELAY is"}, true},
		{"reply", Filter{Reason: "greylist"}, true},
		{"another reason", Filter{Reason: "550"}, false},
		{"old enough", Filter{OlderThan: time.Hour}, true},
		{"too young", Filter{OlderThan: time.Hour + 1}, false},
		{"all of it", Filter{IDs: []string{"A"}, Relay: "main", Reason: "away", OlderThan: time.Minute, Identity: "shop"}, true},
		{"all but one", Filter{IDs: []string{"A"}, Relay: "main", Reason: "full", OlderThan: time.Minute, Identity: "shop"}, false},
	}
	for _, tt := range tests {
		if got := tt.filter.Match(item, now); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestKey(t *testing.T) {
	root := uint32(0)
	for want, id := range map[string]Identity{
		"container:c1": {Container: "c1", UID: &root, Account: "a", User: "u"},
		"uid:0":        {UID: &root, Account: "a", Unit: "x.service"},
		"account:a":    {Account: "a", User: "u"},
		"notice":       {Notice: true, Container: "c1", UID: &root, Account: "a", User: "u"},
		"unknown":      {User: "u", Listener: "submission"},
	} {
		if got := id.Key(); got != want {
			t.Errorf("%+v: %q, want %q", id, got, want)
		}
	}
}

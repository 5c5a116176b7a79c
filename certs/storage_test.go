package certs

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestMemory holds what certmagic.Storage promises of keys, directories and locks.
func TestMemory(t *testing.T) {
	ctx, m := context.Background(), newMemory()
	content := []byte("one")
	for _, key := range []string{"a/b/c", "a/b/d", "a/e", "ab/f"} {
		if err := m.Store(ctx, key, content); err != nil {
			t.Fatal(err)
		}
	}
	content[0] = 'X'
	if got, err := m.Load(ctx, "a/e"); string(got) != "one" || err != nil {
		t.Errorf("loaded %q: %v", got, err)
	}
	lists := []struct {
		prefix    string
		recursive bool
		want      []string
	}{
		{"a", false, []string{"a/b", "a/e"}},
		{"a", true, []string{"a/b/c", "a/b/d", "a/e"}},
		{"a/b", false, []string{"a/b/c", "a/b/d"}},
	}
	for _, test := range lists {
		if got, err := m.List(ctx, test.prefix, test.recursive); !slices.Equal(got, test.want) || err != nil {
			t.Errorf("list %s: %v, want %v: %v", test.prefix, got, test.want, err)
		}
	}
	if info, err := m.Stat(ctx, "a/b"); info.IsTerminal || err != nil {
		t.Errorf("directory: %+v: %v", info, err)
	}
	if info, err := m.Stat(ctx, "a/e"); !info.IsTerminal || info.Size != 3 || err != nil {
		t.Errorf("file: %+v: %v", info, err)
	}
	if err := m.Delete(ctx, "a"); err != nil || m.Exists(ctx, "a") || m.Exists(ctx, "a/e") || !m.Exists(ctx, "ab/f") {
		t.Errorf("after deleting a: %v", err)
	}
	_, loadErr := m.Load(ctx, "a/e")
	_, listErr := m.List(ctx, "a", true)
	if !errors.Is(loadErr, fs.ErrNotExist) || !errors.Is(listErr, fs.ErrNotExist) {
		t.Errorf("what is not there: %v, %v", loadErr, listErr)
	}
}

func TestMemoryLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		if err := m.Lock(context.Background(), "x"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if err := m.Lock(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("locked twice: %v", err)
		}
		if err := m.Lock(context.Background(), "y"); err != nil { // another name is another lock
			t.Error(err)
		}
		time.AfterFunc(time.Hour, func() { m.Unlock(context.Background(), "x") })
		if err := m.Lock(context.Background(), "x"); err != nil {
			t.Error(err)
		}
		m.Unlock(context.Background(), "x")
		if err := m.Unlock(context.Background(), "x"); err == nil {
			t.Error("unlocked what was not locked")
		}
	})
}

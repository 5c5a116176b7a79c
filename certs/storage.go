package certs

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// memory is certmagic's storage for what the local CA issues. It lives and dies with the process: a new certificate
// costs less than reading the old one, no leaf key lies on a disk, a full or read-only disk stops no renewal, and a
// kill between writing a key and its certificate leaves nothing to repair.
type memory struct {
	mu     sync.Mutex
	values map[string]value
	locks  map[string]chan struct{} // of capacity 1; full while held
}

type value struct {
	content  []byte
	modified time.Time
}

var _ certmagic.Storage = (*memory)(nil)

func newMemory() *memory {
	return &memory{values: map[string]value{}, locks: map[string]chan struct{}{}}
}

func (m *memory) Store(_ context.Context, key string, content []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = value{content: slices.Clone(content), modified: time.Now()}
	return nil
}

func (m *memory) Load(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(v.content), nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.values, func(k string, _ value) bool { return within(key, k) })
	return nil
}

func (m *memory) Exists(ctx context.Context, key string) bool {
	_, err := m.Stat(ctx, key)
	return err == nil
}

func (m *memory) List(_ context.Context, prefix string, recursive bool) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[string]bool{}
	for key := range m.values {
		if !within(prefix, key) || key == prefix {
			continue
		}
		if next := strings.IndexByte(key[len(prefix)+1:], '/'); next >= 0 && !recursive {
			key = key[:len(prefix)+1+next]
		}
		found[key] = true
	}
	if len(found) == 0 {
		return nil, fs.ErrNotExist
	}
	return slices.Sorted(maps.Keys(found)), nil
}

func (m *memory) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.values[key]; ok {
		return certmagic.KeyInfo{Key: key, Modified: v.modified, Size: int64(len(v.content)), IsTerminal: true}, nil
	}
	for k := range m.values {
		if within(key, k) {
			return certmagic.KeyInfo{Key: key}, nil
		}
	}
	return certmagic.KeyInfo{}, fs.ErrNotExist
}

func (m *memory) Lock(ctx context.Context, name string) error {
	select {
	case m.lock(name) <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *memory) Unlock(_ context.Context, name string) error {
	select {
	case <-m.lock(name):
		return nil
	default:
		return fs.ErrNotExist
	}
}

func (m *memory) lock(name string) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] == nil {
		m.locks[name] = make(chan struct{}, 1)
	}
	return m.locks[name]
}

// within reports whether key is prefix or lies below it; "a" is above "a/b", not above "ab".
func within(prefix, key string) bool {
	rest, ok := strings.CutPrefix(key, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

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
	locks
	mu     sync.Mutex
	values map[string]value
}

type value struct {
	content  []byte
	modified time.Time
}

var _ certmagic.Storage = (*memory)(nil)

func newMemory() *memory { return &memory{values: map[string]value{}} }

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

// locks are those of one process. They keep certmagic's operations on a name apart. The zero value holds none.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // of capacity 1; full while held
}

// Lock waits for the lock, or for the end of ctx.
func (l *locks) Lock(ctx context.Context, name string) error {
	select {
	case l.lock(name) <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TryLock reports whether it took the lock.
func (l *locks) TryLock(_ context.Context, name string) (bool, error) {
	select {
	case l.lock(name) <- struct{}{}:
		return true, nil
	default:
		return false, nil
	}
}

// Unlock fails if nobody holds the lock.
func (l *locks) Unlock(_ context.Context, name string) error {
	select {
	case <-l.lock(name):
		return nil
	default:
		return fs.ErrNotExist
	}
}

func (l *locks) lock(name string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]chan struct{}{}
	}
	if l.held[name] == nil {
		l.held[name] = make(chan struct{}, 1)
	}
	return l.held[name]
}

// within reports whether key is prefix or lies below it; "a" is above "a/b", not above "ab".
func within(prefix, key string) bool {
	rest, ok := strings.CutPrefix(key, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

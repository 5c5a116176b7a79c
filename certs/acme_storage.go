package certs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// acmeDirectory holds what CAs gave us: account keys, certificates and their keys. Directories are 0700 and files 0600.
const acmeDirectory = "acme"

// presenter shows a CA what it wants to see. Both may be called for the same challenge again.
type presenter interface {
	Present(challenge acme.Challenge) error
	CleanUp(challenge acme.Challenge) error
}

// acmeStorage is certmagic's storage in files, with two differences.
//
// Challenges pass through it, by which all of http-01, files for a web server and tls-alpn-01 learn of them: certmagic
// stores each before it asks the CA to look, and deletes it when the CA has looked. It does so for clusters; here it is
// the one place where a challenge can be had without the package's global memory of all of them. That they are on the
// disk as well tells the next process what a killed one left behind in a web root.
//
// Locks are this process's own. A file as a lock waits ten seconds after a kill, and for ever where the clock went back.
type acmeStorage struct {
	*certmagic.FileStorage
	locks     *locks
	presenter presenter
}

var _ interface {
	certmagic.Storage
	certmagic.TryLocker
} = (*acmeStorage)(nil)

// openStorage makes the directory and cleans up after challenges that a killed process was in.
func openStorage(directory string, held *locks, p presenter) (*acmeStorage, error) {
	s := &acmeStorage{&certmagic.FileStorage{Path: filepath.Join(directory, acmeDirectory)}, held, p}
	if err := os.MkdirAll(s.Path, 0o700); err != nil {
		return s, err
	}
	if err := os.Chmod(s.Path, 0o700); err != nil { // whoever opened it: keys are in it
		return s, err
	}
	return s, s.sweep(context.Background())
}

func (s *acmeStorage) sweep(ctx context.Context) error {
	keys, err := s.List(ctx, "acme", true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, key := range keys {
		if isChallenge(key) {
			errs = append(errs, s.Delete(ctx, key))
		}
	}
	return errors.Join(errs...)
}

// isChallenge knows the keys of certmagic's distributed solver.
func isChallenge(key string) bool {
	return path.Base(path.Dir(key)) == "challenge_tokens" && strings.HasSuffix(key, ".json")
}

// Store presents a challenge when it is on the disk.
func (s *acmeStorage) Store(ctx context.Context, key string, content []byte) error {
	if err := s.FileStorage.Store(ctx, key, content); err != nil || !isChallenge(key) {
		return err
	}
	var challenge acme.Challenge
	if err := json.Unmarshal(content, &challenge); err != nil {
		return fmt.Errorf("reading a challenge: %w", err)
	}
	return s.presenter.Present(challenge)
}

// Delete cleans up after a challenge before it is forgotten.
func (s *acmeStorage) Delete(ctx context.Context, key string) error {
	if isChallenge(key) {
		content, err := s.Load(ctx, key)
		var challenge acme.Challenge
		if err == nil && json.Unmarshal(content, &challenge) == nil {
			if err := s.presenter.CleanUp(challenge); err != nil {
				return err
			}
		}
	}
	return s.FileStorage.Delete(ctx, key)
}

func (s *acmeStorage) Lock(ctx context.Context, name string) error { return s.locks.Lock(ctx, name) }

func (s *acmeStorage) TryLock(ctx context.Context, name string) (bool, error) {
	return s.locks.TryLock(ctx, name)
}

func (s *acmeStorage) Unlock(ctx context.Context, name string) error {
	return s.locks.Unlock(ctx, name)
}

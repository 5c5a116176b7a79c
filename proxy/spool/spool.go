package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
)

// The directories of a spool. A message is in one of them at any instant; its
// file keeps its name when it moves.
const (
	incomingDir = "incoming" // being written; nobody was promised anything
	holdDir     = "hold"     // ours, parked until it is released
	corruptDir  = "corrupt"  // ours, and damaged: for a person to look at

	lockFile = "lock"
)

// ErrFull says that there is no room: the client shall come again later (452
// 4.3.1). Nothing of the message is kept.
var ErrFull = errors.New("the spool is full")

// ErrUnknown says that the spool has no message of this id.
var ErrUnknown = fmt.Errorf("no such message: %w", fs.ErrNotExist)

// Options are the settings of a Spool.
type Options struct {
	// MaxBytes bounds all files of the spool together. Zero or less is 1 GiB.
	MaxBytes int64
	// MinFree is how many bytes of the file system are left to others. Zero
	// or less is 64 MiB.
	MinFree int64
	// FS is where the spool lives; nil is the host's file system.
	FS durable.FS
	// Logger gets damage and failures that nobody else is told. Nil is none.
	Logger *zap.Logger
}

// Spool is a directory of messages that we have custody of. Make it with Open.
type Spool struct {
	dir  string
	fs   durable.FS
	log  *zap.Logger
	lock io.Closer
	now  func() time.Time

	maxBytes, minFree int64

	mu   sync.Mutex
	used int64 // bytes of all files, written or reserved
}

// Open takes the spool in dir for this process, making it (mode 0700) if it is
// not there. If another process has it the error is durable.ErrLocked.
//
// Custody: what a crash has left in incoming/ was never promised to anybody and
// is removed. Everything in hold/ is there, as it was.
func Open(dir string, opts Options) (*Spool, error) {
	s := newSpool(dir, opts)
	for _, sub := range []string{"", incomingDir, holdDir, corruptDir} {
		if err := durable.MkdirAll(s.fs, filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("opening the spool: %w", err)
		}
	}
	lock, err := s.fs.Lock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("opening the spool %s: %w", dir, err)
	}
	s.lock = lock
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the spool: %w", err), lock.Close())
	}
	return s, nil
}

func newSpool(dir string, opts Options) *Spool {
	s := &Spool{dir: dir, fs: opts.FS, log: opts.Logger, now: time.Now, maxBytes: opts.MaxBytes, minFree: opts.MinFree}
	if s.fs == nil {
		s.fs = durable.OS{}
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.maxBytes <= 0 {
		s.maxBytes = 1 << 30
	}
	if s.minFree <= 0 {
		s.minFree = 64 << 20
	}
	return s
}

// Close lets other processes have the spool. No Writer may be at work.
func (s *Spool) Close() error { return s.lock.Close() }

// recover brings the spool to a known state after whatever ended the last
// process.
func (s *Spool) recover() error {
	err := s.eachFile(incomingDir, func(e fs.DirEntry) error {
		s.log.Info("unfinished message removed", zap.String(logfields.Txn, e.Name()))
		return s.fs.Remove(s.path(incomingDir, e.Name()))
	})
	if err != nil {
		return err
	}
	for _, state := range []string{holdDir, corruptDir} {
		if err := s.eachFile(state, s.count); err != nil {
			return err
		}
	}
	// A message may have been renamed by a process that was killed before it
	// could sync, and is listed from now on: make sure that it stays.
	return errors.Join(s.sync(holdDir), s.sync(corruptDir))
}

// count adds a file to the bytes used.
func (s *Spool) count(e fs.DirEntry) error {
	st, err := e.Info()
	if err != nil {
		return err
	}
	s.used += st.Size()
	return nil
}

// eachFile calls fn for every message file in a state's directory; fn may remove
// the file.
func (s *Spool) eachFile(state string, fn func(fs.DirEntry) error) error {
	d, err := s.fs.OpenFile(s.path(state), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(512)
		for _, e := range entries {
			if !validID(e.Name()) || !e.Type().IsRegular() {
				s.log.Warn("not a message, left alone", zap.String(logfields.Path, s.path(state, e.Name())))
				continue
			}
			if err := fn(e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Used is how many bytes the spool's files take, those being written included.
func (s *Spool) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// reserve takes n bytes of the limit, or returns ErrFull and takes none.
func (s *Spool) reserve(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.maxBytes-s.used {
		return ErrFull
	}
	s.used += n
	return nil
}

// release gives n bytes back.
func (s *Spool) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
}

func (s *Spool) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *Spool) sync(state string) error {
	if err := s.fs.SyncDir(s.path(state)); err != nil {
		return fmt.Errorf("syncing %s: %w", state, err)
	}
	return nil
}

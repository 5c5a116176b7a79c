package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/durable"
)

// ErrFull says that there is no room: the client shall come again later (452
// 4.3.1). Nothing of the message is kept.
var ErrFull = errors.New("the spool is full")

// ErrIdentityFull is an ErrFull for this identity alone: others have room.
var ErrIdentityFull = fmt.Errorf("%w of this identity's messages", ErrFull)

// ErrUnknown says that the spool has no message of this id, or none in a state
// that the call is for.
var ErrUnknown = fmt.Errorf("no such message: %w", fs.ErrNotExist)

// Options are the settings of a Spool.
type Options struct {
	// MaxBytes bounds all files of the spool together, each rounded up to
	// whole blocks of 4 KiB. Zero or less is 1 GiB. Our own notices may take a
	// sixteenth of it besides, whatever the others take.
	MaxBytes int64
	// MaxIdentityBytes bounds the files of one Identity.Key likewise. Zero
	// or less is half of MaxBytes.
	MaxIdentityBytes int64
	// MinFree is how many bytes of the file system are left to others. Zero
	// or less is 64 MiB.
	MinFree int64
	// FS is where the spool lives; nil is the host's file system.
	FS durable.FS
	// Logger gets damage and failures that nobody else is told. Nil is none.
	Logger *zap.Logger
}

// withDefaults fills in what was not given.
func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = durable.OS{}
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 1 << 30
	}
	if o.MaxIdentityBytes <= 0 {
		o.MaxIdentityBytes = o.MaxBytes / 2
	}
	if o.MinFree <= 0 {
		o.MinFree = 64 << 20
	}
	return o
}

// Spool is a directory of messages that we have custody of. Make it with Open.
type Spool struct {
	store
	log   *zap.Logger
	lock  io.Closer
	now   func() time.Time
	group *group // syncs queue/

	minFree int64
	buffers sync.Pool // of *[bufferSize]byte

	mu     sync.Mutex
	index  index         // under mu
	spares spares        // under mu
	files  atomic.Uint64 // made in incoming/ so far

	moving sync.Mutex // held while queue/ is synced, or left for corrupt/
	moved  bool       // corrupt/ has names that are not synced; under moving
}

// Open takes the spool in dir for this process, making it (mode 0700) if it is
// not there. If another process has it the error is durable.ErrLocked.
//
// Custody: what a crash has left in incoming/ was never promised to anybody and
// is removed. Everything in queue/ is there, as it was; what was active then is
// deferred now, with Progress.PossibleDuplicate. Messages of format 1 come from
// hold/ to queue/.
func Open(dir string, opts Options) (*Spool, error) {
	s := newSpool(dir, opts.withDefaults())
	for _, sub := range []string{"", incomingDir, queueDir, corruptDir} {
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

func newSpool(dir string, o Options) *Spool {
	s := &Spool{
		store: store{dir: dir, fs: o.FS}, log: o.Logger, now: time.Now, minFree: o.MinFree,
		index: newIndex(o.MaxBytes, o.MaxIdentityBytes),
	}
	s.buffers.New = func() any { return new([bufferSize]byte) }
	s.spares.rest = spareRest
	s.group = newGroup(s.syncQueue, s.log)
	return s
}

// Close lets other processes have the spool. Nobody may be at work in it.
func (s *Spool) Close() error {
	s.closeSpares()
	s.group.close()
	return s.lock.Close()
}

// Sync returns nil when every change of state so far is durable. All who call it
// at a time share one sync of the directory. After an error, which all of them
// get, none of it may be relied on, until a later Sync returns nil.
func (s *Spool) Sync(ctx context.Context) error {
	return s.group.wait(ctx)
}

// Used is what counts towards Options.MaxBytes, the messages being written and
// the corrupt ones included, but not the files of none that give way to them, and
// how many messages we have custody of and can deliver.
func (s *Spool) Used() (bytes int64, messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.used, s.index.counts[Active] + s.index.counts[Deferred] + s.index.counts[Hold]
}

// UsedBy is what counts towards Options.MaxIdentityBytes for an Identity.Key. A
// message that is older than this process counts from when it was read first, by
// All, Show or Read.
func (s *Spool) UsedBy(identity string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.index.tallies[identity]; t != nil {
		return t.bytes
	}
	return 0
}

// Counts is how many messages are in each state, those without any left out.
func (s *Spool) Counts() map[State]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := map[State]int{}
	for state, n := range s.index.counts {
		if n > 0 {
			counts[state] = n
		}
	}
	if n := len(s.index.corrupt); n > 0 {
		counts[Corrupt] = n
	}
	return counts
}

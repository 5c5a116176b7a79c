package limit

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Options are what a Limiter is made of.
type Options struct {
	Store  Store       // nil: nothing outlives the process
	Logger *zap.Logger // nil: nothing is logged
}

// bounds are what a Limiter keeps at most.
type bounds struct {
	entries       int64
	seen, seenAll int64 // recipients of an identity, and of all
}

// Limiter counts for all sessions. Make it with Open.
type Limiter struct {
	logger *zap.Logger
	bounds bounds
	hash   maphash.Seed
	seed   uint64 // of the recipients' digests
	clock  clock
	tight  tight

	shards  [shardCount]shard
	orders  atomic.Uint64
	count   atomic.Int64 // entries
	seenAll atomic.Int64

	raises      register[raise]
	suspensions register[Suspension]

	keeper
	stop chan struct{}
	done sync.WaitGroup
}

// Open loads what the store knows and starts to save what changes, until Close.
// A damaged store is set aside and reported by Condition; an error is that it
// cannot be read at all, and the store is then closed.
func Open(o Options) (*Limiter, error) {
	l := newLimiter(o)
	if err := l.load(); err != nil {
		if l.store != nil {
			err = errors.Join(err, l.store.Close())
		}
		return nil, fmt.Errorf("loading limits: %w", err)
	}
	l.done.Go(func() { l.flushEach(time.Second) }) // until Close
	return l, nil
}

func newLimiter(o Options) *Limiter {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	l := &Limiter{
		logger: o.Logger,
		bounds: bounds{entries: 1_000_000, seen: 10_000, seenAll: 4_000_000},
		hash:   maphash.MakeSeed(),
		seed:   randomSeed(),
		stop:   make(chan struct{}),
	}
	l.store = o.Store
	for i := range l.shards {
		l.shards[i].entries = map[string]*entry{}
		l.shards[i].seen = map[string]*circle{}
	}
	return l
}

func randomSeed() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails, says crypto/rand
	return binary.LittleEndian.Uint64(b[:])
}

// Close saves what changed and closes the store. Claims may go on; they are not
// saved any more.
func (l *Limiter) Close() error {
	close(l.stop)
	l.done.Wait()
	if l.store == nil {
		return nil
	}
	return errors.Join(l.flush(), l.store.Close())
}

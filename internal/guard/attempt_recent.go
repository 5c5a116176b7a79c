package guard

import (
	"net/netip"
	"sync"
	"time"

	"github.com/smtpwall/smtpwall/rules/nft"
)

const (
	// maxRecent bounds the logged attempts that wait for their count.
	maxRecent = 1024
	// recentAge is when a logged attempt is too old to be that of a count just
	// read.
	recentAge = 5 * time.Second
)

// recentAttempts keeps what the log said until the counters tell of the same.
// The log knows no cgroup, so two owners of the same uid with the same
// destination look alike to it.
type recentAttempts struct {
	mu    sync.Mutex
	known map[recentKey]nft.Attempt
}

type recentKey struct {
	forwarded   bool
	uid         uint32
	source      netip.Addr // only if forwarded
	destination netip.AddrPort
}

func (r *recentAttempts) note(a nft.Attempt) {
	if !a.HasUID && !a.Forwarded {
		return // nobody's: its count will be, too
	}
	k := recentKey{forwarded: a.Forwarded, uid: a.UID, destination: a.Destination}
	if a.Forwarded {
		k.uid, k.source = 0, a.Source.Addr()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= maxRecent {
		r.known = map[recentKey]nft.Attempt{}
	}
	r.known[k] = a
}

// take returns the last logged attempt of a kind, zero if there is none, and
// forgets it.
func (r *recentAttempts) take(kind kindOfAttempt) nft.Attempt {
	k := recentKey{forwarded: kind.forwarded, uid: kind.uid, source: kind.source, destination: kind.destination}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.known[k]
	delete(r.known, k)
	if time.Since(a.Time) > recentAge {
		return nft.Attempt{}
	}
	return a
}

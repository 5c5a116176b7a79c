package auth

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// How failures slow a peer: not at first, then 1 s, twice that each time, at
// most 30 s; one failure is forgiven for each minute without another.
const (
	firstDelay = time.Second
	mostDelay  = 30 * time.Second
	mostLevel  = 6 // firstDelay<<5 passes mostDelay
	forgive    = time.Minute
)

// throttleKeys bounds the peers remembered: about 1 MiB. The one not seen for
// longest is forgotten first.
const throttleKeys = 8192

// Throttle slows the guessing of passwords. A success does not clear it: who has
// one account would otherwise guess at the next one between his own logins.
type Throttle struct {
	mu    sync.Mutex
	peers *simplelru.LRU[string, failures]
}

// failures of one peer.
type failures struct {
	level int
	last  time.Time
}

// NewThrottle makes a Throttle that knows no peer.
func NewThrottle() *Throttle {
	peers, err := simplelru.NewLRU[string, failures](throttleKeys, nil)
	if err != nil {
		panic(err) // the size is a positive constant
	}
	return &Throttle{peers: peers}
}

// Delay is how long a peer must wait before its attempt at now is looked at. key
// names the peer: its uid if that is proven, else its address (for IPv6 the /64,
// of which one host has all).
func (t *Throttle) Delay(key string, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, known := t.peers.Get(key)
	if !known {
		return 0
	}
	level := f.at(now)
	if level == 0 {
		t.peers.Remove(key)
		return 0
	}
	return min(firstDelay<<(level-1), mostDelay)
}

// Fail counts one failed attempt of a peer, be it a wrong password or an
// exchange that could not be read.
func (t *Throttle) Fail(key string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, _ := t.peers.Get(key)
	t.peers.Add(key, failures{level: min(f.at(now)+1, mostLevel), last: now})
}

// at is the level that is left at now. A clock that went back forgives nothing.
func (f failures) at(now time.Time) int {
	return max(0, f.level-int(max(0, now.Sub(f.last))/forgive))
}

package proxy

import "sync"

// attic is the disk space of messages that wait for the word of filters. It is
// not the spool's, and so has bounds of its own: all together, and half of that
// for each identity.
type attic struct {
	mu   sync.Mutex
	used int64
	by   map[string]int64 // identity
}

func newAttic() *attic { return &attic{by: map[string]int64{}} }

// take reserves n octets of max; false if they are not there.
func (a *attic) take(identity string, n, max int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used+n > max || a.by[identity]+n > max/2 {
		return false
	}
	a.used += n
	a.by[identity] += n
	return true
}

// give returns what was taken.
func (a *attic) give(identity string, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= n
	if a.by[identity] -= n; a.by[identity] <= 0 {
		delete(a.by, identity)
	}
}

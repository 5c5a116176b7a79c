package certs

import (
	"errors"
	"net"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// What askers of ever new names can make us sign. A signature takes 0.15 ms of a processor, about as much as the rest of
// our part in the handshake that asks for it (BenchmarkIssue, BenchmarkHandshake), so that the rate over all is for less
// than a tenth of one. The burst of an asker fills the cache, as after a restart; four may do so at once.
const (
	issueRate  = 500 // a second, over all
	issueBurst = 4 * askerBurst
	askerRate  = 50 // a second, for one asker
	askerBurst = maxIssued

	// maxAskers are remembered, in less than 1 MiB. One that was forgotten has a whole burst again, out of that over all.
	maxAskers = 1024
)

var (
	errTooManyOfAsker = errors.New("too many new names of one asker")
	errTooMany        = errors.New("too many new names over all")
)

// budget bounds the signatures, for each asker and over all.
type budget struct {
	all    *rate.Limiter
	askers *lru.Cache[string, *rate.Limiter]
}

func newBudget() (*budget, error) {
	askers, err := lru.New[string, *rate.Limiter](maxAskers)
	return &budget{all: rate.NewLimiter(issueRate, issueBurst), askers: askers}, err
}

// spend takes one signature from the asker's budget and from that of all. The asker's comes first: one who has none left
// takes nothing from the others.
func (b *budget) spend(asker string, now time.Time) error {
	limiter, ok := b.askers.Get(asker)
	if !ok {
		limiter = rate.NewLimiter(askerRate, askerBurst)
		if other, raced, _ := b.askers.PeekOrAdd(asker, limiter); raced {
			limiter = other
		}
	}
	if !limiter.AllowN(now, 1) {
		return errTooManyOfAsker
	}
	if !b.all.AllowN(now, 1) {
		return errTooMany
	}
	return nil
}

// peerKey is who asks: the connection that the listener hands to TLS may say so. Those who are not told apart share one
// budget.
func peerKey(conn net.Conn) string {
	known, ok := conn.(interface{ PeerKey() string })
	if !ok {
		return ""
	}
	return known.PeerKey()
}

package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

const (
	// maxIssued is how many certificates for redirected connections are kept.
	maxIssued = 1000
	// issueRate, a second, and issueBurst bound what a client that asks for ever new names can make us sign: about a
	// hundredth of one processor. The burst fills the cache after a start.
	issueRate  = 100
	issueBurst = maxIssued
)

// redirected keeps the certificates that redirected connections were shown. One key serves them all: they have the same
// holder and the same life, and a key of its own for each would protect nothing. The cache is a 2Q, so names asked for
// once, however many, do not push out those in use.
type redirected struct {
	authority *authority
	host      subjects
	allow     func(name string) bool
	logger    *zap.Logger

	key     *ecdsa.PrivateKey
	issued  *lru.TwoQueueCache[string, leaf]
	flights singleflight.Group // one signature for all who ask for a name at once
	limiter *rate.Limiter
	warn    rate.Sometimes
}

var (
	errNotAllowed = errors.New("not a host name, or not allowed")
	errTooMany    = errors.New("too many new names")
)

// leaf is one certificate for redirected connections.
type leaf struct {
	certificate          *tls.Certificate
	renewAfter, notAfter time.Time
}

func newRedirected(a *authority, host subjects, allow func(string) bool, logger *zap.Logger) (*redirected, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key for redirected connections: %w", err)
	}
	issued, err := lru.New2Q[string, leaf](maxIssued)
	if err != nil {
		return nil, err
	}
	return &redirected{
		authority: a, host: host, allow: allow, logger: logger, key: key, issued: issued,
		limiter: rate.NewLimiter(issueRate, issueBurst),
		warn:    rate.Sometimes{Interval: time.Minute},
	}, nil
}

// byName returns a certificate for name, in lower case, or nil if there can be none: name is no host name, is not
// allowed, or too many are asked for.
func (r *redirected) byName(name string) *tls.Certificate {
	return r.get(name, func() (subjects, bool) {
		if !validHostName(name) || r.allow != nil && !r.allow(name) {
			return subjects{}, false
		}
		return subjects{names: []string{name}}, true
	})
}

// byAddress returns a certificate for a client that names no host and so can only check the address that it dialled, or
// a name of this host.
func (r *redirected) byAddress(address netip.Addr) *tls.Certificate {
	address = address.Unmap().WithZone("")
	return r.get(address.String(), func() (subjects, bool) {
		s := subjects{names: r.host.names, addresses: append([]netip.Addr(nil), r.host.addresses...)}
		s.addAddress(address)
		return s, true
	})
}

// get looks key up and issues on a miss. A host name cannot be mistaken for an address: validHostName refuses those.
func (r *redirected) get(key string, want func() (subjects, bool)) *tls.Certificate {
	now := r.authority.now()
	have, ok := r.issued.Get(key)
	if ok && now.Before(have.renewAfter) {
		return have.certificate
	}
	made, err, _ := r.flights.Do(key, func() (any, error) { return r.issue(key, want, now) })
	if err == nil {
		return made.(leaf).certificate
	}
	r.logger.Debug("issued no certificate for a redirected connection", zap.String(logfields.TLSName, key), zap.Error(err))
	if ok && now.Before(have.notAfter) {
		return have.certificate
	}
	return nil
}

func (r *redirected) issue(key string, want func() (subjects, bool), now time.Time) (leaf, error) {
	// The flight before this one may have issued it after our look-up.
	if have, ok := r.issued.Get(key); ok && now.Before(have.renewAfter) {
		return have, nil
	}
	s, ok := want()
	if !ok {
		return leaf{}, errNotAllowed
	}
	if !r.limiter.AllowN(now, 1) {
		r.warn.Do(func() {
			r.logger.Warn("too many new names asked for on redirected connections; showing the host's certificate",
				zap.Int("per_second", issueRate))
		})
		return leaf{}, errTooMany
	}
	der, notAfter, err := r.authority.issue(s, r.key.Public())
	if err != nil {
		return leaf{}, err
	}
	made := leaf{
		certificate: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: r.key},
		renewAfter:  r.authority.renewAfter(notAfter),
		notAfter:    notAfter,
	}
	r.issued.Add(key, made)
	return made, nil
}

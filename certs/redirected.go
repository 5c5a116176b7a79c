package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

const (
	// maxIssued is how many certificates for redirected connections are kept: about 10 MiB (TestNamesAreBounded), and
	// 20 if somebody has the longest names looked up.
	maxIssued = 10_000
	// maxLookedUp is how many names one certificate for an address has beside the host's, and maxLookedUpOctets how long
	// they are together: whoever has a name server chooses them.
	maxLookedUp       = 16
	maxLookedUpOctets = 1 << 10
)

// redirected keeps the certificates that redirected connections were shown. One key serves them all: they have the same
// holder and the same life, and a key of its own for each would protect nothing. The cache is a 2Q, so names asked for
// once, however many, do not push out those in use.
type redirected struct {
	authority *authority
	host      subjects
	allow     func(name string) bool
	lookedUp  func(address netip.Addr) []string
	logger    *zap.Logger

	key     *ecdsa.PrivateKey
	issued  *lru.TwoQueueCache[string, leaf]
	flights singleflight.Group // one signature for all connections of one asker that want it at once
	budget  *budget
	warn    rate.Sometimes
}

var errNotAllowed = errors.New("not a host name, or not allowed")

// leaf is one certificate for redirected connections.
type leaf struct {
	certificate          *tls.Certificate
	renewAfter, notAfter time.Time
}

// newRedirected takes the host's names and addresses as far as the root permits them.
func newRedirected(a *authority, host subjects, o Options, logger *zap.Logger) (*redirected, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key for redirected connections: %w", err)
	}
	issued, err := lru.New2Q[string, leaf](maxIssued)
	if err != nil {
		return nil, err
	}
	limits, err := newBudget()
	if err != nil {
		return nil, err
	}
	return &redirected{
		authority: a, host: host, allow: o.AllowName, lookedUp: o.LookedUp, logger: logger, key: key, issued: issued,
		budget: limits, warn: rate.Sometimes{Interval: time.Minute},
	}, nil
}

// wanted is a certificate that somebody asks for.
type wanted struct {
	asker    string // whose budget pays for it
	key      string // under which it is kept
	subjects func() (subjects, error)
}

// byName returns a certificate for name, in lower case, or nil if there can be none: name is no host name, is not
// allowed, or too many are asked for.
func (r *redirected) byName(asker, name string) *tls.Certificate {
	return r.get(wanted{asker: asker, key: name, subjects: func() (subjects, error) {
		if !r.mayName(name) {
			return subjects{}, errNotAllowed
		}
		if !r.authority.permitsName(name) {
			return subjects{}, errNotPermitted
		}
		return subjects{names: []string{name}}, nil
	}})
}

// byAddress returns a certificate for a client that names no host and so can only check the name that it looked up, the
// address that it dialled, or a name of this host. Nil is as for byName.
func (r *redirected) byAddress(asker string, address netip.Addr) *tls.Certificate {
	address = address.Unmap().WithZone("")
	names := r.namesOf(address)
	return r.get(wanted{asker: asker, key: addressKey(address, names), subjects: func() (subjects, error) {
		s := subjects{names: slices.DeleteFunc(names, func(name string) bool { return !r.allowed(name) })}
		s.addAddress(address)
		if s = r.authority.certifiable(s); len(s.names)+len(s.addresses) == 0 {
			return subjects{}, errNotPermitted
		}
		for _, name := range r.host.names {
			if !isWildcard(name) { // nobody asked AllowName what is below it
				s.addName(name)
			}
		}
		for _, own := range r.host.addresses {
			s.addAddress(own)
		}
		return s, nil
	}})
}

// ofHost returns a certificate that is for the host's own names, not for what a wildcard of its stands for. It is one,
// so no budget is asked. Nil: it cannot be signed.
func (r *redirected) ofHost() *tls.Certificate {
	return r.get(wanted{key: hostKey, subjects: func() (subjects, error) {
		return subjects{names: slices.DeleteFunc(slices.Clone(r.host.names), isWildcard), addresses: r.host.addresses}, nil
	}})
}

// hostKey is no name and no address.
const hostKey = "the host's"

// namesOf returns the names by which the host looked address up, newest first, not yet put before AllowName. Others
// wrote them: what is no host name is dropped.
func (r *redirected) namesOf(address netip.Addr) []string {
	if r.lookedUp == nil {
		return nil
	}
	var s subjects
	octets := 0
	for _, name := range r.lookedUp(address) {
		if name = lowerASCII(name); !validHostName(name) || slices.Contains(s.names, name) {
			continue
		}
		if octets += len(name); len(s.names) == maxLookedUp || octets > maxLookedUpOctets {
			break
		}
		s.names = append(s.names, name)
	}
	return s.names
}

// addressKey has the names in it, so that a new look-up makes a new certificate, but not their order, which each look-up
// changes. It is short however long they are, and no host name.
func addressKey(address netip.Addr, names []string) string {
	if len(names) == 0 {
		return address.String()
	}
	sum := sha256.Sum256([]byte(strings.Join(slices.Sorted(slices.Values(names)), " ")))
	return address.String() + " " + hex.EncodeToString(sum[:])
}

// mayName reports whether a redirected client may be shown a certificate for name, in lower case, which it chose.
func (r *redirected) mayName(name string) bool { return validHostName(name) && r.allowed(name) }

func (r *redirected) allowed(name string) bool { return r.allow == nil || r.allow(name) }

// get looks a certificate up and issues it on a miss. A host name cannot be mistaken for an address: validHostName
// refuses those. Askers do not share a flight, so that nobody is refused for the budget of another.
func (r *redirected) get(w wanted) *tls.Certificate {
	now := r.authority.now()
	have, ok := r.issued.Get(w.key)
	if ok && now.Before(have.renewAfter) {
		return have.certificate
	}
	made, err, _ := r.flights.Do(w.asker+"\x00"+w.key, func() (any, error) { return r.issue(w, now) })
	if err == nil {
		return made.(leaf).certificate
	}
	r.logger.Debug("issued no certificate for a redirected connection", zap.String(logfields.TLSName, toldName(w.key)),
		zap.String(logfields.Identity, w.asker), zap.Error(err))
	if ok && now.Before(have.notAfter) {
		return have.certificate
	}
	return nil
}

func (r *redirected) issue(w wanted, now time.Time) (leaf, error) {
	// The flight before this one may have issued it after our look-up.
	if have, ok := r.issued.Get(w.key); ok && now.Before(have.renewAfter) {
		return have, nil
	}
	s, err := w.subjects()
	if err != nil {
		return leaf{}, err
	}
	if w.key == hostKey {
		return r.sign(w.key, s)
	}
	if err := r.budget.spend(w.asker, now); err != nil {
		r.warn.Do(func() {
			r.logger.Warn("too many new names asked for on redirected connections; showing the host's certificate",
				zap.String(logfields.Identity, w.asker), zap.Error(err))
		})
		return leaf{}, err
	}
	return r.sign(w.key, s)
}

// sign issues a certificate and keeps it under key.
func (r *redirected) sign(key string, s subjects) (leaf, error) {
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

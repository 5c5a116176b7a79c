package guard

import (
	"net/netip"
	"sync"
	"time"

	"github.com/smtpwall/smtpwall/rules/nft"
)

const (
	// maxRecent bounds the logged attempts that wait for their count.
	maxRecent = 4096
	// recentAge is when a logged attempt is too old to be that of a count just
	// read. Big sets are read that seldom.
	recentAge = maxPause + 5*time.Second
)

// recentAttempts keeps what the log said until the counters tell of the same.
// The log knows no cgroup, so two owners of the same uid with the same
// destination look alike to it.
type recentAttempts struct {
	mu    sync.Mutex
	known map[recentKey]loggedAttempt
}

// loggedAttempt is the last attempt of a kind, and how many there were lately.
type loggedAttempt struct {
	nft.Attempt
	packets uint64
}

type recentKey struct {
	recentOwner
	destination netip.AddrPort
}

// recentOwner is who made an attempt, as far as the log knows.
type recentOwner struct {
	forwarded bool
	uid       uint32
	in        string // interface, only if forwarded
	source    netip.Addr
}

// within is what the kernel tells of an owner when it has no room for more.
func (o recentOwner) within() recentOwner {
	o.source = netip.Addr{}
	return o
}

func ownerOfCount(c nft.Count) recentOwner {
	if c.Forwarded {
		return recentOwner{forwarded: true, in: c.InInterface, source: c.Source}
	}
	return recentOwner{uid: c.UID}
}

func keyOfCount(c nft.Count) recentKey {
	return recentKey{recentOwner: ownerOfCount(c), destination: c.Destination}
}

func keyOfKind(k kindOfAttempt) recentKey {
	return recentKey{recentOwner{k.forwarded, k.uid, k.in, k.source}, k.destination}
}

func (r *recentAttempts) note(a nft.Attempt) {
	if !a.HasUID && !a.Forwarded {
		return // nobody's: its count will be, too
	}
	k := recentKey{recentOwner{uid: a.UID}, a.Destination}
	if a.Forwarded {
		k.recentOwner = recentOwner{forwarded: true, in: a.InInterface, source: a.Source.Addr()}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= maxRecent {
		r.known = map[recentKey]loggedAttempt{}
	}
	l := r.known[k]
	if time.Since(l.Time) > recentAge {
		l.packets = 0
	}
	r.known[k] = loggedAttempt{Attempt: a, packets: l.packets + 1}
}

// take returns the last logged attempt of a kind, zero if there is none, and
// forgets it.
func (r *recentAttempts) take(kind kindOfAttempt) nft.Attempt {
	k := keyOfKind(kind)
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.known[k].Attempt
	delete(r.known, k)
	if time.Since(a.Time) > recentAge {
		return nft.Attempt{}
	}
	return a
}

// complete gives counts the destinations and owners that the kernel had no room
// for, as far as the log saw them; the sum stays. What the log saw of kinds that
// have a count, now or in open, is not used: it is theirs. Packets without
// any owner were there at the reading before this one, so only what was logged
// before that can tell of them.
func (r *recentAttempts) complete(counts nft.Counts, open map[kindOfAttempt]*gathering, before time.Time) nft.Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.settle(counts) {
		return counts
	}
	c := completion{counts: nft.Counts{OtherOut: counts.OtherOut, OtherForward: counts.OtherForward}, before: before}
	c.learn(counts, open)
	unused := map[recentOwner][]loggedKey{}
	for k, l := range r.known {
		if l.packets > 0 && time.Since(l.Time) <= recentAge && !c.kinds[k] {
			unused[k.within()] = append(unused[k.within()], loggedKey{k, l})
		}
	}
	for _, n := range counts.Counts {
		owner := ownerOfCount(n).within()
		if !n.Destination.IsValid() {
			unused[owner] = c.destinations(&n, unused[owner], r.known)
		}
		if n.Packets > 0 {
			c.counts.Counts = append(c.counts.Counts, n)
		}
	}
	for _, list := range unused {
		c.owners(list, r.known)
	}
	return c.counts
}

// settle takes what has a count of its own off what the log has seen, and tells
// whether there is anything to complete.
func (r *recentAttempts) settle(counts nft.Counts) (incomplete bool) {
	for _, n := range counts.Counts {
		if k := keyOfCount(n); !n.Destination.IsValid() {
			incomplete = true
		} else if l, ok := r.known[k]; ok {
			l.packets = 0
			r.known[k] = l
		}
	}
	return incomplete || counts.OtherOut > 0 || counts.OtherForward > 0
}

type loggedKey struct {
	key recentKey
	loggedAttempt
}

// completion is one use of complete.
type completion struct {
	counts nft.Counts
	before time.Time
	kinds  map[recentKey]bool   // that have a count
	told   map[recentOwner]bool // that have any
}

func (c *completion) learn(counts nft.Counts, open map[kindOfAttempt]*gathering) {
	c.kinds, c.told = map[recentKey]bool{}, map[recentOwner]bool{}
	learn := func(k recentKey) {
		c.kinds[k], c.told[k.recentOwner] = true, true
	}
	for _, n := range counts.Counts {
		learn(keyOfCount(n))
	}
	for k, g := range open {
		if k.known {
			learn(keyOfKind(k))
		}
		for member := range g.known {
			learn(keyOfKind(kindOfAttempt{subject: member}))
		}
	}
}

// destinations moves packets of a count without a destination to those of the
// log, and returns what it did not use.
func (c *completion) destinations(n *nft.Count, list []loggedKey, known map[recentKey]loggedAttempt) []loggedKey {
	for len(list) > 0 && n.Packets > 0 {
		l := list[0]
		one := *n
		one.Source, one.Destination = l.key.source, l.key.destination
		one.Packets = min(l.packets, n.Packets)
		n.Packets -= one.Packets
		c.counts.Counts = append(c.counts.Counts, one)
		c.use(l, one.Packets, known)
		list = list[1:]
	}
	return list
}

// owners moves packets of which the kernel told nothing to owners that have no
// count.
func (c *completion) owners(list []loggedKey, known map[recentKey]loggedAttempt) {
	for _, l := range list {
		other := &c.counts.OtherOut
		if l.key.forwarded {
			other = &c.counts.OtherForward
		}
		n := min(l.packets, *other)
		if n == 0 || c.told[l.key.recentOwner] || !l.Time.Before(c.before) {
			continue
		}
		*other -= n
		c.counts.Counts = append(c.counts.Counts, nft.Count{
			UID: l.key.uid, Forwarded: l.key.forwarded, InInterface: l.key.in, Source: l.key.source,
			Destination: l.key.destination, Packets: n,
		})
		c.use(l, n, known)
	}
}

// use takes packets off what the log has seen. The attempt itself stays, as the
// detail of a first report.
func (c *completion) use(l loggedKey, packets uint64, known map[recentKey]loggedAttempt) {
	l.packets -= packets
	known[l.key] = l.loggedAttempt
}

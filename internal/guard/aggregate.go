package guard

import (
	"net/netip"
	"time"

	"github.com/smtpwall/smtpwall/rules/nft"
)

// window is how long attempts of one kind are gathered into one event after the
// first.
const window = 10 * time.Second

// Bounds of what is kept apart at a time, and so of the events of a window.
// Beyond them attempts are still counted, but together: those of one subject to
// many destinations first, then those of the subjects of a group. Sources can
// be forged and a user may have 65,536 uids, so none of them may fill the log,
// or take all the room from other groups.
const (
	maxKinds        = 200 // in all, besides the groups
	maxOfGroup      = 90  // kinds of one group
	maxApart        = 60  // kinds of one group; beyond, subjects are kept apart but not their destinations
	maxDestinations = 16  // of one subject; it may have one more kind, for the rest
	maxGroups       = 16  // that are told as such; what is beyond has no subject at all
	maxMembers      = 4096
)

// uidBlock is how many uids make a group: as many as a user gets for containers
// (subuid(5)).
const uidBlock = 1 << 16

// subject is who makes attempts, as far as the kernel's counts tell: an owner, a
// source, or a group of them.
type subject struct {
	known     bool // an owner or a source; false: a group, or nothing is known
	group     bool // all that come in by one interface, or of one block of uids
	forwarded bool
	uid       uint32 // of a group, the first of its block
	cgroup    uint64 // 0 is unknown
	in        string // interface
	source    netip.Addr
}

// groupOf returns what a subject is counted with when there are too many.
func (s subject) groupOf() subject {
	if s.forwarded {
		return subject{group: true, forwarded: true, in: s.in}
	}
	return subject{group: true, uid: s.uid - s.uid%uidBlock}
}

// kindOfAttempt is what is counted together. An invalid destination means those
// that are not kept apart.
type kindOfAttempt struct {
	subject
	destination netip.AddrPort
}

// report is a number of attempts that becomes one event.
type report struct {
	kindOfAttempt
	count   uint64
	first   bool // nothing like it was reported in the last window
	members members
}

// members is what is known of those that a group stands for.
type members struct {
	count     int
	atLeast   bool   // there are more
	low, high uint32 // uids
}

// aggregator turns counts into reports: the first of a kind at once, what
// follows gathered by window. The sum of the reports is the sum of the counts.
// It is not for concurrent use, and time is passed in.
type aggregator struct {
	open         map[kindOfAttempt]*gathering
	destinations map[subject]int // kinds of each known subject in open
	kinds        map[subject]int // kinds of the subjects of each group in open
	groups       int             // groups in open
	due          time.Time       // no window ends before
}

// gathering is a window under way.
type gathering struct {
	count uint64
	until time.Time
	// Of a group:
	known     map[subject]bool // members, up to maxMembers
	more      bool             // and there are others
	low, high uint32           // uids of all
}

func newAggregator() *aggregator {
	return &aggregator{
		open:         map[kindOfAttempt]*gathering{},
		destinations: map[subject]int{},
		kinds:        map[subject]int{},
	}
}

// add takes what the kernel counted since the last time. It returns the reports
// that are due.
func (a *aggregator) add(now time.Time, counts nft.Counts) []report {
	reports := a.flush(now)
	var fresh []kindOfAttempt
	take := func(own kindOfAttempt, n uint64) {
		if n == 0 {
			return
		}
		k := a.place(own)
		g := a.open[k]
		if g == nil {
			g = a.begin(k)
			fresh = append(fresh, k)
		}
		g.count += n
		if k.group {
			g.note(own.subject)
		}
	}
	for _, c := range counts.Counts {
		take(kindOf(c), c.Packets)
	}
	take(kindOfAttempt{}, counts.OtherOut)
	take(kindOfAttempt{subject: subject{forwarded: true}}, counts.OtherForward)
	for _, k := range fresh {
		reports = append(reports, a.open[k].report(k, now, true))
	}
	return reports
}

func kindOf(c nft.Count) kindOfAttempt {
	if !c.Forwarded {
		return kindOfAttempt{subject: subject{known: true, uid: c.UID, cgroup: c.CGroup}, destination: c.Destination}
	}
	s := subject{known: true, forwarded: true, in: c.InInterface, source: c.Source}
	if !c.Source.IsValid() {
		s = s.groupOf() // the kernel had no room for more
	}
	return kindOfAttempt{subject: s, destination: c.Destination}
}

// place returns the kind under which attempts are gathered: their own, that of
// the subject's other destinations, that of its group, or that of all others.
func (a *aggregator) place(k kindOfAttempt) kindOfAttempt {
	if a.open[k] != nil || !k.known && !k.group {
		return k
	}
	rest, group := kindOfAttempt{subject: k.subject}, kindOfAttempt{subject: k.groupOf()}
	room := k.known && len(a.open) < maxKinds && a.kinds[group.subject] < maxOfGroup
	switch {
	case room && a.destinations[k.subject] < maxDestinations && a.kinds[group.subject] < maxApart:
		return k
	case room || a.open[rest] != nil:
		return rest
	case a.open[group] != nil || a.groups < maxGroups:
		return group
	}
	return kindOfAttempt{subject: subject{forwarded: k.forwarded}}
}

func (a *aggregator) begin(k kindOfAttempt) *gathering {
	g := &gathering{}
	a.open[k] = g
	switch {
	case k.known:
		a.destinations[k.subject]++
		a.kinds[k.groupOf()]++
	case k.group:
		a.groups++
		g.known = map[subject]bool{}
	}
	return g
}

func (a *aggregator) forget(k kindOfAttempt) {
	delete(a.open, k)
	switch {
	case k.known:
		decrease(a.destinations, k.subject)
		decrease(a.kinds, k.groupOf())
	case k.group:
		a.groups--
	}
}

// note adds a member of a group.
func (g *gathering) note(s subject) {
	if !s.known {
		g.more = true // the kernel did not tell
		return
	}
	if len(g.known) == 0 {
		g.low, g.high = s.uid, s.uid
	}
	g.low, g.high = min(g.low, s.uid), max(g.high, s.uid)
	if len(g.known) == maxMembers && !g.known[s] {
		g.more = true
		return
	}
	g.known[s] = true
}

func decrease(counts map[subject]int, s subject) {
	if counts[s]--; counts[s] <= 0 {
		delete(counts, s)
	}
}

// report ends a window and begins the next. A group of one is that one.
func (g *gathering) report(k kindOfAttempt, now time.Time, first bool) report {
	r := report{kindOfAttempt: k, count: g.count, first: first, members: members{len(g.known), g.more, g.low, g.high}}
	if len(g.known) == 1 && !g.more {
		for only := range g.known {
			r.subject = only
		}
	}
	g.count, g.until, g.more = 0, now.Add(window), false
	clear(g.known)
	return r
}

// flush ends the windows that are over: one with attempts is reported and
// begins anew, one without is forgotten, so that the next attempt of its kind
// is a first one.
func (a *aggregator) flush(now time.Time) []report {
	if now.Before(a.due) {
		return nil
	}
	a.due = now.Add(window)
	var reports []report
	for k, g := range a.open {
		switch {
		case now.Before(g.until):
			a.due = earlier(a.due, g.until)
		case g.count > 0:
			reports = append(reports, g.report(k, now, false))
		default:
			a.forget(k)
		}
	}
	return reports
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// drain reports whatever is gathered, at the end.
func (a *aggregator) drain(now time.Time) []report {
	var reports []report
	for k, g := range a.open {
		if g.count > 0 {
			reports = append(reports, g.report(k, now, false))
		}
	}
	return reports
}

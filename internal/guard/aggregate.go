package guard

import (
	"net/netip"
	"time"

	"github.com/smtpwall/smtpwall/rules/nft"
)

// window is how long attempts of one kind are gathered into one event after the
// first.
const window = 10 * time.Second

// Bounds of what is kept apart at a time. Beyond them attempts are still
// counted, but together: those of one subject to many destinations, and those
// of too many subjects.
const (
	maxSubjects     = 2048
	maxDestinations = 16   // of one subject
	maxKinds        = 8192 // in all; each subject may have one more, for the rest
)

// subject is who makes attempts, as far as the kernel's counts tell.
type subject struct {
	known     bool // false: packets without an owner, or more subjects than are kept apart
	forwarded bool
	uid       uint32
	cgroup    uint64
	source    netip.Addr
}

// kindOfAttempt is what is counted together. An invalid destination means many.
type kindOfAttempt struct {
	subject
	destination netip.AddrPort
}

// report is a number of attempts that becomes one event.
type report struct {
	kindOfAttempt
	count uint64
	first bool // nothing like it was reported in the last window
}

// aggregator turns counts into reports: the first of a kind at once, what
// follows gathered by window. The sum of the reports is the sum of the counts.
// It is not for concurrent use, and time is passed in.
type aggregator struct {
	open map[kindOfAttempt]*gathering
	// destinations of each subject in open.
	destinations map[subject]int
	due          time.Time // no window ends before
}

// gathering is a window under way.
type gathering struct {
	count uint64
	until time.Time
}

func newAggregator() *aggregator {
	return &aggregator{open: map[kindOfAttempt]*gathering{}, destinations: map[subject]int{}}
}

// add takes what the kernel counted since the last time. It returns the reports
// that are due.
func (a *aggregator) add(now time.Time, counts nft.Counts) []report {
	reports := a.flush(now)
	var fresh []kindOfAttempt
	take := func(k kindOfAttempt, n uint64) {
		if n == 0 {
			return
		}
		k = a.place(k)
		g := a.open[k]
		if g == nil {
			g = &gathering{}
			a.open[k] = g
			a.destinations[k.subject]++
			fresh = append(fresh, k)
		}
		g.count += n
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
	s := subject{known: true, forwarded: c.Forwarded}
	if c.Forwarded {
		s.source = c.Source
	} else {
		s.uid, s.cgroup = c.UID, c.CGroup
	}
	return kindOfAttempt{subject: s, destination: c.Destination}
}

// place returns the kind under which attempts are gathered: their own, that of
// all other destinations of the subject, or that of all other subjects.
func (a *aggregator) place(k kindOfAttempt) kindOfAttempt {
	if a.open[k] != nil || !k.known {
		return k
	}
	n := a.destinations[k.subject]
	switch {
	case n == 0 && len(a.destinations) >= maxSubjects:
		return kindOfAttempt{subject: subject{forwarded: k.forwarded}}
	case n >= maxDestinations, len(a.open) >= maxKinds:
		return kindOfAttempt{subject: k.subject}
	}
	return k
}

func (g *gathering) report(k kindOfAttempt, now time.Time, first bool) report {
	r := report{kindOfAttempt: k, count: g.count, first: first}
	g.count, g.until = 0, now.Add(window)
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

func (a *aggregator) forget(k kindOfAttempt) {
	delete(a.open, k)
	if a.destinations[k.subject]--; a.destinations[k.subject] <= 0 {
		delete(a.destinations, k.subject)
	}
}

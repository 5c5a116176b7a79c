package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// Bounds of what is kept apart. Sources can be forged, and a list of mail
// servers may be long.
const (
	maxIdentities   = 10_000
	maxDestinations = 300 // of one identity
	maxSenders      = 50  // of one identity
)

// Options say what the events are held against.
type Options struct {
	Firewall Firewall
	// Decide asks the policy in force about an identity; ok is false if it cannot
	// say. Nil cannot.
	Decide func(id Identity) (d Decision, ok bool)
	// Rules are the names of the policy's rules; without any all proven identities
	// may send.
	Rules []string
	// Now is the time of the plan, Running that the guard runs then.
	Now     time.Time
	Running bool
	// LeftAlone is what the guard has counted of what it left alone.
	LeftAlone []Count
	// Since is how far back the events were asked for; zero: all there are.
	Since time.Time
	// Started and Ended are the reasons of the guard's mode events when it starts
	// and when it ends.
	Started, Ended string
}

// Gatherer takes events in any order. Make it with New.
type Gatherer struct {
	options Options
	life    life
	entries map[Identity]*gathered
	crowded uint64 // what was put down to nobody for want of room
	unread  int
}

// gathered is an Entry in the making.
type gathered struct {
	Entry
	to      map[target]*Destination
	senders map[string]uint64
	hour    time.Time // that is being counted
	hourly  uint64
}

type target struct {
	address netip.AddrPort
	fate    Fate
}

// New makes a Gatherer that knows nothing yet.
func New(o Options) *Gatherer {
	return &Gatherer{options: o, life: life{started: o.Started, ended: o.Ended}, entries: map[Identity]*gathered{}}
}

// Add takes one event.
func (g *Gatherer) Add(e *audit.Event) {
	switch e.Kind {
	case audit.KindMode, audit.KindDrift:
		g.life.add(e)
	case audit.KindAttempt:
		g.life.add(e)
		g.attempt(e)
	case audit.KindTransaction:
		g.transaction(e)
	}
}

// Unreadable counts a line of the logs that could not be read.
func (g *Gatherer) Unreadable() { g.unread++ }

func (g *Gatherer) attempt(e *audit.Event) {
	id, forwarded := identify(e)
	entry := g.entry(id)
	n := max(e.Count, 1)
	entry.see(e.Time, n)
	entry.Forwarded = entry.Forwarded || forwarded
	fate, by := g.options.Firewall.fate(&entry.Identity, e, forwarded)
	switch fate {
	case Refuse:
		entry.Refused += n
	case Redirect:
		entry.Redirected += n
	case Allow:
		entry.Allowed += n
	}
	entry.note(e, fate, by, n)
}

// transaction counts a message, or what came of it, at the proxy.
func (g *Gatherer) transaction(e *audit.Event) {
	id, _ := identify(e)
	entry := g.entry(id)
	entry.see(e.Time, 1)
	if entry.Submitted == nil {
		entry.Submitted, entry.senders = map[string]uint64{}, map[string]uint64{}
	}
	entry.Submitted[cmp.Or(e.Decision, "none")]++
	if pattern := senderPattern(e.ReversePath); pattern != "" {
		if _, known := entry.senders[pattern]; known || len(entry.senders) < maxSenders {
			entry.senders[pattern]++
		}
	}
}

// entry is that of an identity, or of nobody where there are too many.
func (g *Gatherer) entry(id Identity) *gathered {
	key := id.key()
	entry := g.entries[key]
	if entry == nil && len(g.entries) >= maxIdentities && id.Kind != KindUnknown {
		g.crowded++
		return g.entry(Identity{Kind: KindUnknown})
	}
	if entry == nil {
		entry = &gathered{Entry: Entry{Identity: key}, to: map[target]*Destination{}}
		g.entries[key] = entry
	}
	entry.merge(id)
	return entry
}

// see widens the time in which it was seen.
func (g *gathered) see(at time.Time, n uint64) {
	if g.First.IsZero() || at.Before(g.First) {
		g.First = at
	}
	if at.After(g.Last) {
		g.Last = at
	}
	if hour := at.Truncate(time.Hour); !hour.Equal(g.hour) {
		g.hour, g.hourly = hour, 0
	}
	g.hourly += n
	g.BusiestHour = max(g.BusiestHour, g.hourly)
}

// note counts a destination.
func (g *gathered) note(e *audit.Event, fate Fate, by string, n uint64) {
	t := target{e.Destination, fate}
	d := g.to[t]
	if d == nil {
		if len(g.to) >= maxDestinations {
			g.Others += n
			return
		}
		d = &Destination{Address: e.Destination, Fate: fate, By: by, First: e.Time}
		g.to[t] = d
	}
	d.Count += n
	if e.Time.Before(d.First) {
		d.First = e.Time
	}
	if e.Time.After(d.Last) {
		d.Last = e.Time
	}
}

// senderPattern is the pattern for a reverse-path's domain; the null
// reverse-path is its own.
func senderPattern(path string) string {
	if path == audit.NullReversePath {
		return path
	}
	at := strings.LastIndexByte(path, '@')
	if at < 0 || at == len(path)-1 {
		return ""
	}
	return "*@" + strings.ToLower(path[at+1:])
}

// Plan makes the plan of what was gathered.
func (g *Gatherer) Plan() Plan {
	p := Plan{Watch: g.watch(), LeftAlone: g.options.LeftAlone, Identities: []Entry{}}
	for _, entry := range g.entries {
		p.Refused += entry.Refused
		p.Redirected += entry.Redirected
		p.Allowed += entry.Allowed
		p.Identities = append(p.Identities, g.finish(entry))
	}
	slices.SortFunc(p.Identities, func(a, b Entry) int {
		return cmp.Or(
			cmp.Compare(b.Refused+b.Redirected, a.Refused+a.Redirected), cmp.Compare(b.submissions(), a.submissions()),
			compare(&a.Identity, &b.Identity),
		)
	})
	p.Missing = g.missing(&p)
	p.Proposal = propose(p.Identities, g.options.Rules)
	return p
}

func (e *Entry) submissions() (n uint64) {
	for _, count := range e.Submitted {
		n += count
	}
	return n
}

func (g *Gatherer) finish(from *gathered) Entry {
	e := from.Entry
	e.Destinations = []Destination{}
	for _, d := range from.to {
		e.Destinations = append(e.Destinations, *d)
	}
	slices.SortFunc(e.Destinations, func(a, b Destination) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Address.Compare(b.Address), cmp.Compare(a.Fate, b.Fate))
	})
	for _, name := range slices.Sorted(maps.Keys(from.senders)) {
		e.Senders = append(e.Senders, Count{name, from.senders[name]})
	}
	slices.SortStableFunc(e.Senders, func(a, b Count) int { return cmp.Compare(b.Count, a.Count) })
	if g.options.Decide != nil {
		if d, ok := g.options.Decide(e.Identity); ok {
			e.Decision = &d
		}
	}
	return e
}

package plan

import (
	"fmt"
	"time"

	"github.com/smtpwall/smtpwall/proxy/audit"
)

// Watch is when the guard watched.
type Watch struct {
	// From is when it began, as far as the logs reach and were asked for, and To
	// when it ended; zero: it never watched.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Seconds is how long it watched between the two.
	Seconds int64 `json:"seconds"`
	// Running says that it watches now.
	Running bool `json:"running"`
	// Gaps are when it did not, the first of them at most maxGaps.
	Gaps []Gap `json:"gaps"`
	// Cut says that it watched before From, and that the logs do not reach there.
	Cut bool `json:"cut,omitzero"`
}

// Duration is how long it watched.
func (w *Watch) Duration() time.Duration { return time.Duration(w.Seconds) * time.Second }

// Gap is a time without a guard.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Crashed says that the guard ended without a word: From is its last sign of
	// life, and it may have watched longer.
	Crashed bool `json:"crashed,omitzero"`
}

const (
	maxGaps = 1000
	// shortGap is how long a restart may take: the rules and their counters stay
	// in the kernel meanwhile, and are read afterwards.
	shortGap = 10 * time.Second
)

// life follows the guard through its log, in the order of the log.
type life struct {
	first   time.Time
	cut     bool // the log began within its life
	alive   bool
	since   time.Time // of this life
	sign    time.Time // the last
	watched time.Duration
	gaps    []Gap
	started string // reasons of the mode events at a start and at an end
	ended   string
}

func (l *life) add(e *audit.Event) {
	switch {
	case e.Kind == audit.KindMode && e.Reason == l.started:
		l.begin(e.Time)
	case !l.alive:
		// The log begins within a life, or the guard told of what it found in the
		// kernel before it told of itself.
		l.begin(e.Time)
		l.cut = l.cut || l.since.Equal(l.first)
	}
	if e.Time.After(l.sign) {
		l.sign = e.Time
	}
	if e.Kind == audit.KindMode && e.Reason == l.ended {
		l.end(e.Time)
	}
}

// begin notes a start, and the gap before it.
func (l *life) begin(at time.Time) {
	if l.first.IsZero() {
		l.first = at
	} else {
		crashed := l.alive
		l.end(l.sign)
		switch gap := at.Sub(l.sign); {
		case gap < shortGap:
			l.watched += max(gap, 0)
		case len(l.gaps) < maxGaps:
			l.gaps = append(l.gaps, Gap{l.sign, at, crashed})
		}
	}
	l.alive, l.since = true, at
	if at.After(l.sign) {
		l.sign = at
	}
}

func (l *life) end(at time.Time) {
	if l.alive {
		l.watched += max(at.Sub(l.since), 0) // a clock may be set
	}
	l.alive = false
}

// watch is the life up to now.
func (g *Gatherer) watch() Watch {
	l, now := g.life, g.options.Now
	w := Watch{From: l.first, To: l.sign, Running: g.options.Running, Cut: l.cut, Gaps: append([]Gap{}, l.gaps...)}
	if l.first.IsZero() {
		w.Cut = false
		return w
	}
	if l.cut && g.options.Since.Before(l.first) && !g.options.Since.IsZero() {
		// It did not start in the time that was asked for, so it was there before.
		l.watched += l.first.Sub(g.options.Since)
		w.From, w.Cut = g.options.Since, false
	}
	switch {
	case l.alive && w.Running:
		w.To = now
		l.end(now)
	case l.alive:
		l.end(l.sign)
	}
	w.Seconds = int64(l.watched / time.Second)
	return w
}

// How long a job may be silent.
const (
	day   = 24 * time.Hour
	week  = 7 * day
	month = 31 * day
)

// missing says what the plan may not know of.
func (g *Gatherer) missing(p *Plan) []string {
	says := []string{}
	say := func(format string, args ...any) { says = append(says, fmt.Sprintf(format, args...)) }
	w := &p.Watch
	switch watched := w.Duration(); {
	case w.From.IsZero():
		say("nothing was watched: the log of attempts is empty")
	case watched < day+time.Hour:
		say("it was watched for less than a day: daily, weekly and monthly jobs may be missing")
	case watched < week+day:
		say("it was watched for less than 8 days: weekly and monthly jobs may be missing")
	case watched < month+day:
		say("it was watched for less than 32 days: monthly jobs may be missing")
	}
	if !w.From.IsZero() && !w.Running {
		say("no guard runs now: nothing more is seen")
	}
	if n := len(w.Gaps); n > 0 {
		say("the guard did not run at %s", times(n))
	}
	if w.Cut {
		say("the logs begin within the watch: what is older was rotated away, or comes from a version that did not log its start")
	}
	g.missingNames(p, say)
	return says
}

// missingNames tells of what was counted and not told apart.
func (g *Gatherer) missingNames(p *Plan, say func(string, ...any)) {
	for i := range p.Identities {
		if e := &p.Identities[i]; e.Kind == KindUnknown && e.Refused+e.Redirected > 0 {
			say("%d connections came too many at a time, or too late, to be told apart: they are nobody's here", e.Refused+e.Redirected)
		}
	}
	if g.crowded > 0 {
		say("%d events are of more than %d identities: they are nobody's here", g.crowded, maxIdentities)
	}
	if g.unread > 0 {
		say("%d lines of the logs could not be read", g.unread)
	}
}

func times(n int) string {
	if n == 1 {
		return "one time between"
	}
	return fmt.Sprintf("%d times between", n)
}

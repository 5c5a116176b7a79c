package alert

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	maxNamed  = 3   // identities that a storm names, of each kind
	maxInText = 100 // octets of one of them in its text
)

// storm collects what is too much to be told one by one.
type storm struct {
	end    time.Time
	since  time.Time
	latest time.Time
	kinds  map[string]*gust
	first  Alert
	alerts int
}

// gust is what a storm has of one kind.
type gust struct {
	count  int
	named  []string // the first identities
	others bool     // there were more
}

func (s *storm) add(alert Alert) {
	s.alerts++
	if first := cmp.Or(alert.Since, alert.Time); first.Before(s.since) {
		s.since = first
	}
	if s.latest.Before(alert.Time) {
		s.latest = alert.Time
	}
	of := s.kinds[alert.Kind]
	if of == nil {
		of = &gust{}
		s.kinds[alert.Kind] = of
	}
	of.add(alert)
}

func (g *gust) add(alert Alert) {
	g.count += alert.Count
	switch {
	case alert.Identity == "" || slices.Contains(g.named, alert.Identity):
	case len(g.named) < maxNamed:
		g.named = append(g.named, alert.Identity)
	default:
		g.others = true
	}
}

// alert is the one for all of it. One alert alone is no storm, it only comes late.
func (s *storm) alert() Alert {
	if s.alerts == 1 {
		return s.first
	}
	alert := Alert{ID: rand.Text(), Kind: Storm, Text: s.text(), Time: s.latest, Since: s.since, Counts: map[string]int{}}
	for kind, of := range s.kinds {
		alert.Count += of.count
		alert.Counts[kind] = of.count
		if len(of.named) > 0 {
			if alert.Identities == nil {
				alert.Identities = map[string][]string{}
			}
			alert.Identities[kind] = of.named
		}
	}
	return alert
}

// text is such as "6 more events since the last alerts: 5 limit (uid:1, uid:2,
// uid:3, …), 1 login (account:shop)".
func (s *storm) text() string {
	kinds := slices.SortedFunc(maps.Keys(s.kinds), func(a, b string) int {
		return cmp.Or(s.kinds[b].count-s.kinds[a].count, strings.Compare(a, b))
	})
	total, words := 0, make([]string, 0, len(kinds))
	for _, kind := range kinds {
		total += s.kinds[kind].count
		words = append(words, fmt.Sprintf("%d %s%s", s.kinds[kind].count, kind, s.kinds[kind].names()))
	}
	return cut(fmt.Sprintf("%d more events since the last alerts: %s", total, strings.Join(words, ", ")))
}

func (g *gust) names() string {
	if len(g.named) == 0 {
		return ""
	}
	names := make([]string, 0, maxNamed+1)
	for _, name := range g.named {
		names = append(names, cutAt(name, maxInText))
	}
	if g.others {
		names = append(names, "…")
	}
	return " (" + strings.Join(names, ", ") + ")"
}

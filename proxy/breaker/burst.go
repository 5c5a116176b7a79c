package breaker

import (
	"fmt"
	"math"
)

const (
	// leastHistory is how many windows with mail make a usual.
	leastHistory = 3
	// memory is how many windows the usual looks back, about.
	memory = 8
)

// pace knows how much an identity sends: now, and usually. Its usual is the
// mean of those windows in which it sent at all, the later ones weighing more,
// so a site that sends one newsletter a week is measured by newsletters. What
// is beyond the breaker's threshold enters the mean only up to it: one flood
// does not make floods usual.
type pace struct {
	recent  ring    // slides
	window  uint32  // recipients in this window; windows here follow each other
	usual   float32 // recipients a window
	windows uint8   // how many made the usual; 255 are many
}

// trip counts, and returns how many recipients there were, with the reason, if
// the breaker trips.
func (p *pace) trip(now round, recipients uint32) (int64, string) {
	if now.moment.slot(now.Window/parts)/parts > p.recent.at/parts {
		p.close(now.Rule)
	}
	p.recent.add(now.moment, now.Window, recipients)
	p.window = plus(p.window, recipients)
	count := p.recent.sum()
	usual := float64(p.usual)
	tripped := p.windows >= leastHistory && count >= now.Least && float64(count) > now.Times*usual
	if now.quiet || !tripped {
		return 0, ""
	}
	p.recent.clear()
	return count, fmt.Sprintf("%d recipients within %s, more than %s times the usual %s",
		count, span(now.Window), number(now.Times), number(math.Round(usual*10)/10))
}

// close ends a window: it becomes part of the usual, if there was mail.
func (p *pace) close(rule *Rule) {
	sent := float64(p.window)
	p.window = 0
	if sent == 0 {
		return
	}
	if p.windows >= leastHistory {
		sent = min(sent, max(rule.Times*float64(p.usual), float64(rule.Least)))
	}
	if p.windows < math.MaxUint8 {
		p.windows++
	}
	p.usual += float32((sent - float64(p.usual)) / float64(min(int(p.windows), memory)))
}

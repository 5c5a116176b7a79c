package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

const (
	// barDelay is how long something may take before it needs a progress bar,
	// barPause how long the bar stands still at least.
	barDelay = time.Second
	barPause = 100 * time.Millisecond
	// barWidth is the width of a terminal that does not tell.
	barWidth = 80
)

// progress is a bar for people who wait, on a terminal alone. It is used by one
// goroutine.
type progress struct {
	out   io.Writer // nil: nobody looks
	what  string
	width int
	now   func() time.Time

	began, drawn time.Time
}

// progress begins a bar on stderr, which shows once it has taken a second.
func (c *console) progress(what string) *progress {
	p := &progress{what: what, width: barWidth, now: time.Now}
	if file, ok := c.err.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		p.out = file
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			p.width = width
		}
	}
	p.began = p.now()
	return p
}

// set says how much is done, of how much; a total of 0 is not known.
func (p *progress) set(done, total int) {
	if p.out == nil {
		return
	}
	now := p.now()
	if now.Sub(p.began) < barDelay || now.Sub(p.drawn) < barPause {
		return
	}
	p.drawn = now
	fmt.Fprintf(p.out, "\r%s\x1b[K", p.line(done, total, now.Sub(p.began)))
}

// line is the bar's text, which leaves the last column free: a terminal wraps
// there.
func (p *progress) line(done, total int, took time.Duration) string {
	if total <= 0 {
		return cut(fmt.Sprintf("%s: %d", p.what, done), p.width-1)
	}
	done = min(done, total)
	left := ""
	if done > 0 {
		left = ", " + spanText(time.Duration(float64(took)/float64(done)*float64(total-done))+time.Second-1) + " left"
	}
	head := p.what + " "
	tail := fmt.Sprintf(" %d of %d, %d%%%s", done, total, done*100/total, left)
	room := min(p.width-1-len(head)-len(tail)-len("[]"), 40)
	if room < 5 {
		return cut(head+strings.TrimSpace(tail), p.width-1)
	}
	full := room * done / total
	return head + "[" + strings.Repeat("#", full) + strings.Repeat("-", room-full) + "]" + tail
}

func cut(text string, width int) string { return text[:min(len(text), max(width, 0))] }

// end takes the bar away.
func (p *progress) end() {
	if p.out != nil && !p.drawn.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

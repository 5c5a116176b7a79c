package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/rules"
)

// modeFile, in the state directory, is there as long as the mode is not just the
// configured one.
const modeFile = "mode.json"

// storedMode is the content of modeFile.
type storedMode struct {
	Mode       string       `json:"mode"`
	Configured string       `json:"configured"` // over which it was ordered
	Since      time.Time    `json:"since"`
	By         string       `json:"by"`
	Until      time.Time    `json:"until,omitzero"`
	Trial      *storedTrial `json:"trial,omitzero"`
}

// storedTrial says how much of a trial is left. The clock since boot is not set
// by anybody, but is of use within the same boot only.
type storedTrial struct {
	Whole time.Duration `json:"whole_ns"`
	Boot  string        `json:"boot"`
	End   time.Duration `json:"end_ns"`
}

// clock is the time of the wall, that since the boot of the host, and which
// boot that was.
type clock struct {
	now       func() time.Time
	sinceBoot func() time.Duration
	boot      func() string
}

func realClock() clock {
	return clock{now: time.Now, sinceBoot: sinceBoot, boot: bootID}
}

// sinceBoot counts while the host sleeps, too.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("guard: reading the clock: " + err.Error()) // there since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// bootID is empty if it cannot be known, which equals no boot.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// openMode finds out which mode to begin in. What cannot be believed stays on disk
// to be looked at, until an order writes it anew; and what was ordered over a
// configuration that cannot be read may count again.
func (g *Guard) openMode() {
	if err := g.sweepState(); err != nil {
		g.log.Warn("the state directory is not tidy", zap.Error(err))
	}
	o := g.options()
	m, amiss := g.orderedOver(o.Rules.Mode)
	if !errors.Is(amiss, errNotBelieved) && !o.Guessed {
		switch err := g.keepMode(m); {
		case err != nil:
			amiss = errors.Join(amiss, fmt.Errorf("keeping the mode: %w", err))
		case amiss != nil:
			amiss = fmt.Errorf("%w; what it says is believed, and it is root's alone again", amiss)
		}
	}
	if amiss != nil {
		g.conditions.set("mode", amiss)
		g.log.Error("the mode file is not as a guard left it", zap.Stringer(logfields.Mode, m.running), zap.Error(amiss))
	}
	g.mu.Lock()
	g.mode, g.opts.Rules.Mode = m, m.running
	g.mu.Unlock()
}

// errNotBelieved is part of what is amiss with a mode file whose content does not
// count.
var errNotBelieved = errors.New("the mode that was ordered is not known, so enforce mode is on: smtpwall enforce or smtpwall observe orders it anew")

// orderedOver is the mode on disk if it was ordered over this configured one, else
// the configured one, and what is amiss with the file. A file is there only while
// another mode is ordered than the configured one. So if it says nothing that can
// be believed, and the configuration says observe, the order was to enforce; and to
// take the block down is an explicit act.
func (g *Guard) orderedOver(configured rules.Mode) (m mode, amiss error) {
	data, trust, amiss := g.readMode()
	if data == nil && trust == trustAll {
		return g.configuredMode(configured), amiss
	}
	if trust > trustNothing {
		s, err := parseMode(data)
		if err != nil {
			amiss = err
		} else if m, believed := g.fromDisk(s, configured, trust); believed {
			return m, amiss
		}
	}
	m = mode{configured: configured, running: rules.Enforce, since: g.clock.now(), by: byDamage}
	if configured == rules.Enforce {
		m.by = byConfiguration
	}
	return m, fmt.Errorf("%w: %w", errNotBelieved, amiss)
}

func (g *Guard) configuredMode(configured rules.Mode) mode {
	return mode{configured: configured, running: configured, since: g.clock.now(), by: byConfiguration}
}

// fromDisk is the mode that a whole file stands for, and whether that is to be
// believed.
func (g *Guard) fromDisk(s storedMode, configured rules.Mode, trust trust) (m mode, believed bool) {
	m = mode{configured: configured, running: modeNamed(s.Mode), since: s.Since, by: s.By}
	switch {
	case s.Configured != configured.String():
		m = g.configuredMode(configured) // it was changed while no guard ran
	case s.Trial != nil && trust >= trustTrial:
		left := g.left(s)
		if left <= 0 {
			return mode{configured: configured, running: rules.Observe, since: g.clock.now(), by: byTrial}, true
		}
		m.trial = g.newTrial(s.Trial.Whole, left)
	}
	return m, trust == trustAll || m.running == rules.Enforce
}

// left is what is left of a stored trial, never more than the whole of it. After
// another boot only the wall clock can tell. If that stands before the trial
// began it is wrong, and nobody has confirmed for who knows how long: then
// nothing is left.
func (g *Guard) left(s storedMode) time.Duration {
	boot := g.clock.boot()
	if boot != "" && boot == s.Trial.Boot {
		return min(s.Trial.End-g.clock.sinceBoot(), s.Trial.Whole)
	}
	now := g.clock.now()
	if now.Before(s.Until.Add(-s.Trial.Whole)) {
		return 0
	}
	return min(s.Until.Sub(now), s.Trial.Whole)
}

func modeNamed(name string) rules.Mode {
	if name == rules.Enforce.String() {
		return rules.Enforce
	}
	return rules.Observe
}

// parseMode reads the file strictly: half of what it says is worth nothing.
func parseMode(data []byte) (storedMode, error) {
	var s storedMode
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("reading %s: %w", modeFile, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return s, fmt.Errorf("reading %s: there is more than one value", modeFile)
	}
	isMode := func(name string) bool { return name == rules.Enforce.String() || name == rules.Observe.String() }
	t := s.Trial
	switch {
	case !isMode(s.Mode) || !isMode(s.Configured):
		return s, fmt.Errorf("reading %s: no such mode", modeFile)
	case s.Since.IsZero() || (t == nil) != s.Until.IsZero():
		return s, fmt.Errorf("reading %s: a time is missing", modeFile)
	case t != nil && (s.Mode != rules.Enforce.String() || t.End < 0 || t.Whole < minTrial || t.Whole > MaxTrial):
		return s, fmt.Errorf("reading %s: no such trial", modeFile)
	}
	return s, nil
}

// keepMode makes m outlive this process. Of the configured mode nothing is kept.
// What others could have put there is replaced, so the directory may be closed to
// them again.
func (g *Guard) keepMode(m mode) error {
	if err := g.closeState(); err != nil {
		return err
	}
	if m.isConfigured() {
		return g.removeState(modeFile)
	}
	s := storedMode{Mode: m.running.String(), Configured: m.configured.String(), Since: m.since, By: m.by}
	if t := m.trial; t != nil {
		s.Until = t.until
		s.Trial = &storedTrial{Whole: t.whole, Boot: g.clock.boot(), End: t.end}
	}
	return g.writeState(modeFile, s)
}

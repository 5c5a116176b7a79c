package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
)

// MaxTrial is the longest trial: whoever has not confirmed in a month has
// forgotten.
const MaxTrial = 30 * 24 * time.Hour

// minTrial keeps a trial from being over before its order is answered.
const minTrial = time.Second

// Who is behind a mode, where it was no person.
const (
	byConfiguration = "configuration"
	byTrial         = "end of the trial"
	byDamage        = "damaged mode file"
)

// Reasons of the mode events of a guard that starts and ends: between the two it
// has watched.
const (
	ReasonStarted = "the guard started"
	ReasonEnded   = "the guard ended"
)

var (
	errTrial   = fmt.Errorf("a trial takes from a second to %d days", MaxTrial/(24*time.Hour))
	errNoTrial = errors.New("there is no trial to confirm")
	errNoStep  = errors.New("enforce mode is on and confirmed, there is nothing to try")
)

// ModeState is which mode the guard is in, and why.
type ModeState struct {
	// Configured is the mode that the configuration states, Mode the one in
	// force: "observe" or "enforce".
	Configured string `json:"configured"`
	Mode       string `json:"mode"`
	// Since is when Mode began, or this guard if Mode is the configured one.
	Since time.Time `json:"since,omitzero"`
	// Until is when a trial that nobody confirms ends; zero without a trial.
	Until time.Time `json:"until,omitzero"`
	// Confirmed is false during a trial.
	Confirmed bool `json:"confirmed"`
	// By says who chose Mode: "configuration", "end of the trial", "damaged mode
	// file", or a person.
	By string `json:"by,omitzero"`
}

// mode is what is in force. A value is replaced as a whole, never changed, so
// that a trial is the same as long as its pointer is.
type mode struct {
	configured, running rules.Mode
	since               time.Time
	by                  string
	trial               *trial
}

// trial is enforce mode that goes back to observe mode by itself.
type trial struct {
	whole time.Duration
	until time.Time     // for people; clocks are set
	end   time.Duration // of the clock that counts from the boot of the host
}

func (m mode) state() ModeState {
	s := ModeState{
		Configured: m.configured.String(), Mode: m.running.String(), Since: m.since, Confirmed: m.trial == nil, By: m.by,
	}
	if m.trial != nil {
		s.Until = m.trial.until
	}
	return s
}

// isConfigured says that nothing has to be remembered of it.
func (m mode) isConfigured() bool { return m.trial == nil && m.running == m.configured }

// Mode tells which mode the guard is in.
func (g *Guard) Mode() ModeState {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mode.state()
}

// Enforce switches to enforce mode. Unless Confirm comes within that time, the
// guard goes back to observe mode by itself, also when it or the host was
// started anew meanwhile; 0 is for good. During a trial it begins another one.
// On an error nothing has changed.
func (g *Guard) Enforce(ctx context.Context, within time.Duration, by string) error {
	if within != 0 && (within < minTrial || within > MaxTrial) {
		return errTrial
	}
	return g.switchMode(ctx, func(now mode) (mode, error) {
		next := mode{configured: now.configured, running: rules.Enforce, since: g.clock.now(), by: by}
		if now.running == rules.Enforce {
			next.since = now.since
		}
		switch {
		case within == 0:
			return next, nil
		case now.running == rules.Enforce && now.trial == nil:
			return mode{}, errNoStep
		}
		next.trial = g.newTrial(within, within)
		return next, nil
	})
}

// Confirm makes the mode on trial the one that stays.
func (g *Guard) Confirm(ctx context.Context, by string) error {
	return g.switchMode(ctx, func(now mode) (mode, error) {
		if now.trial == nil {
			return mode{}, errNoTrial
		}
		now.trial, now.by = nil, by
		return now, nil
	})
}

// Observe switches to observe mode: nothing is blocked or redirected any more.
func (g *Guard) Observe(ctx context.Context, by string) error {
	return g.switchMode(ctx, func(now mode) (mode, error) {
		return mode{configured: now.configured, running: rules.Observe, since: g.clock.now(), by: by}, nil
	})
}

func (g *Guard) newTrial(whole, left time.Duration) *trial {
	return &trial{whole: whole, until: g.clock.now().Add(left), end: g.clock.sinceBoot() + left}
}

// switchMode puts the rules of another mode up, as decide says given the mode of
// now. The state is on disk before the rules are in the kernel: after a crash in
// between, a trial ends in time and an order is carried out.
func (g *Guard) switchMode(ctx context.Context, decide func(mode) (mode, error)) error {
	g.attempts.collect(ctx) // with the outcome that they had
	next, err := g.trySwitch(ctx, decide)
	if err == nil {
		g.tellMode(next, "")
	}
	return err
}

func (g *Guard) trySwitch(ctx context.Context, decide func(mode) (mode, error)) (mode, error) {
	g.applying.Lock()
	defer g.applying.Unlock()
	now := g.modeNow()
	next, err := decide(now)
	if err != nil {
		return mode{}, err
	}
	if err := g.keepMode(next); err != nil {
		return mode{}, fmt.Errorf("keeping the mode: %w", err)
	}
	if err := g.applyMode(ctx, next); err != nil {
		return mode{}, errors.Join(fmt.Errorf("switching to %s mode: %w", next.running, err), g.keepMode(now))
	}
	g.conditions.set("mode", nil)
	g.setMode(next)
	return next, nil
}

func (g *Guard) modeNow() mode {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mode
}

// applyMode needs applying. What was taken down on request comes back by an
// order only, not by the end of a trial.
func (g *Guard) applyMode(ctx context.Context, m mode) error {
	o := g.options().Rules
	o.Mode = m.running
	if err := g.apply(ctx, o); err != nil {
		return err
	}
	g.mu.Lock()
	g.released = false
	g.mu.Unlock()
	return nil
}

// setMode makes m the mode in force and wakes who waits for the end of a trial.
// It needs applying; telling of it does not, as it waits for a disk.
func (g *Guard) setMode(m mode) {
	g.mu.Lock()
	g.mode, g.opts.Rules.Mode, g.opts.Guessed = m, m.running, false
	g.mu.Unlock()
	select {
	case g.modeChanged <- struct{}{}:
	default: // the last one has not been seen yet
	}
}

// tellMode makes the event of a mode that began, or goes on.
func (g *Guard) tellMode(m mode, reason string) {
	e := &audit.Event{Kind: audit.KindMode, Time: g.clock.now(), Outcome: m.running.String(), By: m.by, Reason: reason}
	if m.trial != nil {
		e.Until = m.trial.until
		if reason == "" {
			e.Reason = "on trial, goes back to observe mode unless it is confirmed"
		}
	}
	fields := []zap.Field{zap.String(logfields.Mode, e.Outcome), zap.String(logfields.By, e.By), zap.String(logfields.Reason, e.Reason)}
	if m.trial != nil {
		fields = append(fields, zap.Time(logfields.Until, e.Until))
	}
	g.log.Info("mode", fields...)
	g.announce(e)
}

// awaitTrials ends trials that nobody confirms, until ctx is done.
func (g *Guard) awaitTrials(ctx context.Context) error {
	g.conditions.set("trial", nil)
	for {
		wait := trialLook
		if t := g.modeNow().trial; t != nil {
			left := t.end - g.clock.sinceBoot()
			if left <= 0 {
				left = g.tryEnd(ctx, t)
			}
			wait = min(left, trialLook)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		case <-g.modeChanged:
			timer.Stop()
		}
	}
}

const (
	// trialLook is how often the clock is looked at during a trial: timers stand
	// still while the host sleeps, the clock since its boot does not.
	trialLook = 5 * time.Second
	// trialRetry is when the end of a trial is tried again.
	trialRetry = time.Second
)

// tryEnd returns when to look again.
func (g *Guard) tryEnd(ctx context.Context, t *trial) time.Duration {
	err := g.endTrial(ctx, t)
	if err == nil {
		return trialLook
	}
	if g.conditions.set("mode", fmt.Errorf("the trial is over, but going back failed: %w", err)) {
		g.log.Error("the trial is over, but the rules stay", zap.Error(err))
	}
	return trialRetry
}

// endTrial goes back, unless the trial was confirmed or replaced meanwhile. A
// disk that does not take it hinders nothing: what it has says when the trial
// was over.
func (g *Guard) endTrial(ctx context.Context, t *trial) error {
	g.attempts.collect(ctx)
	ended, err := g.goBack(ctx, t)
	if ended {
		g.tellMode(g.modeNow(), "")
	}
	return err
}

func (g *Guard) goBack(ctx context.Context, t *trial) (ended bool, err error) {
	g.applying.Lock()
	defer g.applying.Unlock()
	now := g.modeNow()
	if now.trial != t {
		return false, nil
	}
	next := mode{configured: now.configured, running: rules.Observe, since: g.clock.now(), by: byTrial}
	if !g.isReleased() {
		if err := g.applyMode(ctx, next); err != nil {
			return false, err
		}
	}
	g.conditions.set("mode", g.keepMode(next))
	g.setMode(next)
	return true, nil
}

// reconfigured is the mode after the configuration was read again. A mode that
// somebody ordered stands until the file says something else than it did then:
// then the file is the later word.
func (g *Guard) reconfigured(configured rules.Mode) mode {
	now := g.modeNow()
	if now.configured == configured {
		return now
	}
	return mode{configured: configured, running: configured, since: g.clock.now(), by: byConfiguration}
}

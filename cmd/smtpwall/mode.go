package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
)

// minTrial is the shortest time in which a person can confirm anything.
const minTrial = 10 * time.Second

// switchTime is how long the guard may take to put up other rules.
const switchTime = time.Minute

// The modes, as the guard spells them.
const (
	enforcing = string(config.Enforce)
	observing = string(config.Observe)
)

// enforceCommand switches to enforce mode, on trial or for good.
func enforceCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("enforce")
	path := configFlag(set)
	var within age
	set.Var(&within, "confirm-within", "go back to observe mode by itself after this `DURATION` unless smtpwall confirm comes")
	yes := set.Bool("yes", false, "without a way back by itself, and without asking")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	trial := time.Duration(within).Round(time.Second)
	switch {
	case trial > 0 && *yes:
		return usageError("--yes enforces for good, --confirm-within does not", "leave one of them out")
	case within > 0 && (trial < minTrial || trial > guard.MaxTrial):
		return usageError(fmt.Sprintf("--confirm-within takes from %v to %d days", minTrial, guard.MaxTrial/(24*time.Hour)), "10m is a good start")
	}
	return c.order(ctx, func(ctx context.Context, client *guard.Client, now *guard.Status) error {
		return c.enforce(ctx, client, now, enforceOrder{*path, trial, *yes})
	})
}

// enforceOrder is one command line of enforce.
type enforceOrder struct {
	path  string // of the configuration
	trial time.Duration
	yes   bool
}

func (c *console) enforce(ctx context.Context, client *guard.Client, now *guard.Status, o enforceOrder) error {
	state := &now.ModeState
	if state.Mode == enforcing && state.Confirmed && !now.Released {
		if o.trial > 0 {
			return failed(errors.New("enforce mode is on and confirmed: there is nothing to try"), "smtpwall observe goes back to observe mode first")
		}
		fmt.Fprintln(c.err, "enforce mode is on already")
		return nil
	}
	c.warnBefore(ctx, o.path)
	if o.trial == 0 && !o.yes {
		if !c.interactive() {
			return usageError("enforce mode would stay, and there is nobody to ask",
				"--confirm-within 10m goes back by itself unless smtpwall confirm comes; --yes enforces for good")
		}
		if err := c.ask("Enforce from now on, with no way back by itself (--confirm-within 10m has one)?", "nothing was changed"); err != nil {
			return err
		}
	}
	if err := client.Enforce(ctx, o.trial); err != nil {
		return failed(err, "smtpwall status shows the mode")
	}
	c.tellEnforced(ctx, client, o.path)
	return nil
}

// warnBefore says what is not ready for enforcing. It stops nobody: held mail is
// no lost mail, and a block may be wanted at once.
func (c *console) warnBefore(ctx context.Context, path string) {
	cfg, _ := config.Load(path, config.Options{MissingOK: true, SkipSecrets: true}) // check tells what is wrong with it
	if cfg == nil {
		fmt.Fprintf(c.err, "smtpwall: warning: %s cannot be used: smtpwall check says why\n", visible(path))
		return
	}
	if _, err := app.ProxyStatus(ctx, cfg); errors.Is(err, app.ErrNoProxy) {
		fmt.Fprintln(c.err, "smtpwall: warning: no proxy is running: whoever is redirected to it finds nobody, until systemctl start smtpwall.service")
	}
	if len(cfg.Relays) == 0 {
		fmt.Fprintln(c.err, "smtpwall: warning: no relay is configured: mail is held until there is one")
	}
}

// tellEnforced says what holds from now on, and how to go back.
func (c *console) tellEnforced(ctx context.Context, client *guard.Client, path string) {
	fmt.Fprintln(c.err, "enforcing: port 25 elsewhere is refused to everybody but the relays' connections of smtpwall; the submission ports")
	fmt.Fprintln(c.err, "465, 587 and 2525 lead to smtpwall, where policy decides, or are refused, as firewall.submission_ports says")
	status, err := client.Status(ctx)
	if err != nil {
		fmt.Fprintf(c.err, "smtpwall: warning: %v\n", err)
		return
	}
	state := &status.ModeState
	if !state.Confirmed {
		fmt.Fprintf(c.err, "on trial until %s: back to observe mode then, over restarts and reboots too, unless smtpwall confirm comes\n", timeText(state.Until))
	}
	fmt.Fprintln(c.err, "hint: smtpwall observe goes back at once; smtpwall log --kind attempt --follow shows who is refused")
	if state.Configured != state.Mode {
		fmt.Fprintf(c.err, "hint: %s still says mode = %q: the order counts over it, also after a restart; write mode = %q there for it to stay for sure\n",
			visible(path), state.Configured, state.Mode)
	}
}

// confirmCommand makes enforce mode stay that is on trial.
func confirmCommand(ctx context.Context, c *console, args []string) error {
	path, err := c.onlyConfig("confirm", args)
	if err != nil {
		return err
	}
	return c.order(ctx, func(ctx context.Context, client *guard.Client, now *guard.Status) error {
		if now.ModeState.Confirmed {
			return failed(fmt.Errorf("there is no trial to confirm: %s", modeLine(&now.ModeState)), "smtpwall enforce --confirm-within 10m begins one")
		}
		if err := client.Confirm(ctx); err != nil {
			return failed(err, "smtpwall status shows the mode")
		}
		fmt.Fprintln(c.err, "enforce mode stays, over restarts and reboots too; smtpwall observe goes back")
		if configured := now.ModeState.Configured; configured != enforcing {
			fmt.Fprintf(c.err, "hint: %s still says mode = %q: write mode = %q there, so that both say the same\n", visible(path), configured, enforcing)
		}
		return nil
	})
}

// observeCommand switches to observe mode.
func observeCommand(ctx context.Context, c *console, args []string) error {
	path, err := c.onlyConfig("observe", args)
	if err != nil {
		return err
	}
	return c.order(ctx, func(ctx context.Context, client *guard.Client, now *guard.Status) error {
		if now.ModeState.Mode == observing && !now.Released {
			fmt.Fprintln(c.err, "observe mode is on already")
			return nil
		}
		if err := client.Observe(ctx); err != nil {
			return failed(err, "smtpwall firewall remove takes the rules away altogether")
		}
		fmt.Fprintln(c.err, "observing: the block is down, nothing is refused or redirected, and attempts are recorded")
		if configured := now.ModeState.Configured; configured != observing {
			fmt.Fprintf(c.err, "hint: %s says mode = %q: the order counts over it, also after a restart, until smtpwall enforce or another mode there\n",
				visible(path), configured)
		}
		return nil
	})
}

// order has the guard do something, given the state that it is in. The
// configuration is not needed for it: what is wrong there must not keep anybody
// from taking the block down.
func (c *console) order(ctx context.Context, give func(context.Context, *guard.Client, *guard.Status) error) error {
	now, err := app.GuardStatus(ctx)
	switch {
	case errors.Is(err, app.ErrNoGuard) && os.Geteuid() != 0:
		return failed(errors.New("no guard answers to this user"), "the mode is for root to change")
	case errors.Is(err, app.ErrNoGuard):
		return failed(err, "systemctl start smtpwall-guard.service, or smtpwall run")
	case err != nil:
		return failed(err, "the mode is for root to change")
	}
	ctx, cancel := context.WithTimeout(ctx, switchTime)
	defer cancel()
	client := guard.NewClient(app.GuardSocket(), zap.NewNop())
	defer func() { _ = client.Close() }()
	return give(ctx, client, &now)
}

// modeLine is the mode with why it is so.
func modeLine(s *guard.ModeState) string {
	text := s.Mode
	if !s.Since.IsZero() {
		text += " since " + timeText(s.Since)
	}
	switch {
	case !s.Confirmed && !s.Until.IsZero():
		text += fmt.Sprintf(", on trial until %s, then observe unless smtpwall confirm comes", timeText(s.Until))
	case s.Mode != s.Configured && s.Configured != "":
		text += fmt.Sprintf(", the configuration says %s", s.Configured)
	}
	if s.By != "" && s.By != "configuration" {
		text += ", by " + visible(s.By)
	}
	return text
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/internal/plan"
)

// planCommand says what enforcing would do to what was observed.
func planCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("plan")
	path := configFlag(set)
	asJSON := set.Bool("json", false, "print JSON")
	var since age
	set.Var(&since, "since", "only what is not older than this `DURATION`, such as 12h or 30d")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	cfg, err := c.loadConfig(*path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	status, guardErr := app.GuardStatus(ctx)
	o := c.planOptions(ctx, cfg, time.Now())
	o.Running = !errors.Is(guardErr, app.ErrNoGuard) // one that does not answer to us may be well
	for i := range status.Allow {
		o.LeftAlone = append(o.LeftAlone, plan.Count{Name: allowText(&status.Allow[i]), Count: status.Allow[i].Count})
	}
	if since > 0 {
		o.Since = o.Now.Add(-time.Duration(since))
	}
	p, err := c.gather(ctx, cfg, o)
	if err != nil {
		return err
	}
	if *asJSON {
		err = c.printJSON(p)
	} else {
		c.printPlan(&p, modeText(&status, guardErr), *path)
	}
	if err != nil {
		return failed(err, "")
	}
	return nil
}

// gather reads the logs, with what logrotate made of them.
func (c *console) gather(ctx context.Context, cfg *config.Config, o plan.Options) (plan.Plan, error) {
	bar := c.progress("reading events")
	defer bar.end()
	g := plan.New(o)
	n, bad := 0, 0
	for event, err := range history(ctx, logFiles(cfg.Audit.Directory), o.Since) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return plan.Plan{}, failed(fmt.Errorf("nothing was observed yet: %w", err),
				"the guard records attempts, in observe mode too: systemctl start smtpwall-guard.service, or smtpwall run")
		case errors.Is(err, fs.ErrPermission):
			return plan.Plan{}, failed(err, "run it as root, or as a member of the log's group")
		case err != nil:
			g.Unreadable()
			if bad++; bad <= maxLogErrors {
				fmt.Fprintf(c.err, "smtpwall: warning: %s\n", visible(err.Error()))
			}
		default:
			g.Add(&event)
		}
		n++
		bar.set(n, 0)
	}
	if err := ctx.Err(); err != nil {
		return plan.Plan{}, failed(err, "")
	}
	return g.Plan(), nil
}

// planOptions are what the events are held against: the configuration, as if it
// enforced.
func (c *console) planOptions(ctx context.Context, cfg *config.Config, now time.Time) plan.Options {
	o := plan.Options{
		Now: now.UTC(), Started: guard.ReasonStarted, Ended: guard.ReasonEnded,
		Firewall: plan.Firewall{Redirect: map[uint16]bool{}, Inside: cfg.Firewall.Inside, Allow: c.allowEntries(ctx, cfg, now)},
		Decide:   func(id plan.Identity) (plan.Decision, bool) { return decide(cfg, id, now) },
	}
	if cfg.Firewall.SubmissionPorts == config.SubmissionRedirect {
		for port := range cfg.Listen.Redirects() {
			o.Firewall.Redirect[port] = true
		}
	}
	for _, rule := range cfg.Policy.Rules {
		o.Rules = append(o.Rules, rule.Name)
	}
	return o
}

// decide asks the policy about an identity whose connection was redirected.
func decide(cfg *config.Config, from plan.Identity, now time.Time) (plan.Decision, bool) {
	who := app.Who{Unit: from.Unit, Container: from.Container, Account: from.Account}
	switch from.Kind {
	case plan.KindUser:
		who.UID = from.UID.String()
	case plan.KindContainer, plan.KindAccount:
	default:
		return plan.Decision{}, false
	}
	id, err := who.Identity()
	if err != nil {
		return plan.Decision{}, false
	}
	said, err := app.Explain(cfg, app.Question{Identity: id, Listener: config.RoleIntercepted, Time: now})
	if err != nil {
		return plan.Decision{}, false
	}
	return plan.Decision{Result: said.Result, Rule: said.Rule, Reason: said.Reason}, true
}

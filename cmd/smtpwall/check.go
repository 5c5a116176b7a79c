package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/systemd"
)

// checkCommand says everything that is wrong with a configuration in one run.
func checkCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("check")
	path := configFlag(set)
	offline := set.Bool("offline", false, "do not connect to relays, CAs and name servers")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if len(rest) == 1 {
		*path, rest = rest[0], nil
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	cfg, err := c.loadConfig(*path, config.Options{OutsideService: true, Credential: systemd.Credential})
	if err != nil {
		return err
	}
	c.warnSaved(savedRulesets())
	if err := app.Check(cfg); err != nil {
		return &userError{status: exitUsage, message: err.Error()}
	}
	if err := c.checkExpectations(cfg, *path); err != nil {
		return err
	}
	if !*offline {
		relayErr := c.checkRelays(ctx, cfg)
		if err := c.checkIssuers(ctx, cfg); err != nil && relayErr == nil {
			return err
		}
		if relayErr != nil {
			return relayErr
		}
	}
	fmt.Fprintf(c.out, "%s is fine: mode %s, %d relays, %d accounts, %d policy rules", *path, cfg.Mode, len(cfg.Relays), len(cfg.Accounts), len(cfg.Policy.Rules))
	if n := len(cfg.Expects); n > 0 {
		fmt.Fprintf(c.out, ", %d expectations met", n)
	}
	fmt.Fprintln(c.out)
	return nil
}

// checkExpectations tries each [[expect]].
func (c *console) checkExpectations(cfg *config.Config, path string) error {
	problems := app.Expectations(cfg, path, time.Now())
	c.printProblems(problems)
	if len(problems) > 0 {
		return &userError{
			status: exitUsage, message: fmt.Sprintf("%d of %d expectations are not met", len(problems), len(cfg.Expects)),
			hint: "correct the policy, or the [[expect]] where the policy is right",
		}
	}
	return nil
}

// checkRelays connects to each relay as a delivery would, up to AUTH.
func (c *console) checkRelays(ctx context.Context, cfg *config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	unreachable := 0
	for name, err := range app.ProbeRelays(ctx, cfg, zap.NewNop()) {
		if err != nil {
			unreachable++
			fmt.Fprintf(c.err, "smtpwall: error: relay %s: %v\n", name, err)
			continue
		}
		fmt.Fprintf(c.err, "relay %s: reached, verified and logged in\n", name)
	}
	if unreachable > 0 {
		return failed(fmt.Errorf("%d of %d relays cannot be used", unreachable, len(cfg.Relays)),
			"in enforce mode only the service's user reaches a relay: try `runuser -u smtpwall -- smtpwall check`, or --offline")
	}
	return nil
}

// checkIssuers asks the CAs for what they are, and the name server whether it
// takes the key.
func (c *console) checkIssuers(ctx context.Context, cfg *config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	wrong := 0
	for what, err := range app.ProbeCertificates(ctx, cfg) {
		if err != nil {
			wrong++
			for line := range strings.Lines(err.Error()) {
				fmt.Fprintf(c.err, "smtpwall: error: %s: %s\n", what, visible(strings.TrimSuffix(line, "\n")))
			}
			continue
		}
		fmt.Fprintf(c.err, "%s: asked, and well\n", what)
	}
	if wrong > 0 {
		return failed(errors.New("certificates cannot be had as [certificates] says"),
			"until they can, the local CA's are shown; docs/certificates.md says what each way needs")
	}
	return nil
}

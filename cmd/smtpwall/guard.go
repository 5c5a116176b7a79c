package main

import (
	"context"
	"errors"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
)

// guardCommand is the guard process: the firewall half, as root.
func guardCommand(ctx context.Context, c *console, args []string) error {
	path, err := c.onlyConfig("guard", args)
	if err != nil {
		return err
	}
	load := func() (*config.Config, error) { return c.loadConfig(path, config.Options{SkipSecrets: true}) }
	// A file with errors must not leave the host open at boot: what can be read
	// of it is used, until a reload with a good one.
	cfg, problems := config.Salvage(path)
	c.printProblems(problems)
	err = app.Guard(ctx, cfg, load)
	if errors.Is(err, app.ErrNoProxyUser) {
		return failed(err, "systemd-sysusers makes it from smtpwall's sysusers.d file; smtpwall run makes one by itself")
	}
	if err != nil {
		return failed(err, "the guard needs CAP_NET_ADMIN")
	}
	return nil
}

package main

import (
	"context"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
)

// serveCommand is the proxy process: the mail half, as its own user.
func serveCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("serve")
	path := configFlag(set)
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	load := func() (*config.Config, error) { return c.loadConfig(*path, config.Options{MissingOK: true}) }
	cfg, err := load()
	if err != nil {
		return err
	}
	if err := app.Serve(ctx, cfg, load); err != nil {
		return failed(err, "`smtpwall check` says what is wrong with the configuration")
	}
	return nil
}

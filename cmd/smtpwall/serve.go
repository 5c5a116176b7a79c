package main

import (
	"context"
	"errors"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/systemd"
)

// serveCommand is the proxy process: the mail half, as its own user.
func serveCommand(ctx context.Context, c *console, args []string) error {
	path, err := c.onlyConfig("serve", args)
	if err != nil {
		return err
	}
	load := c.loader(path, config.Options{Credential: systemd.Credential})
	cfg, err := load()
	if err != nil {
		return err
	}
	err = app.Serve(ctx, cfg, load)
	if errors.Is(err, app.ErrConfiguration) {
		return usageError(err.Error(), "the proxy runs as its own user, which must be able to read what the configuration names")
	}
	return err
}

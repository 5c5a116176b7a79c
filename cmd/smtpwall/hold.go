package main

import (
	"context"

	"github.com/smtpwall/smtpwall/proxy/spool"
)

// holdCommand shows and changes what waits for a person.
func holdCommand(ctx context.Context, c *console, args []string) error {
	return c.spoolCommand(ctx, place{"hold", []spool.State{spool.Hold}, []string{"list", "show", "release", "drop"}}, args)
}

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/smtpwall/smtpwall/internal/demo"
)

// demoCommand shows the whole job and leaves nothing behind.
func demoCommand(ctx context.Context, c *console, args []string) error {
	rest, err := parse(c.flags("demo"), args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return usageError("demo needs root, for network namespaces of its own", "sudo smtpwall demo")
	}
	self, err := os.Executable()
	if err != nil {
		return failed(err, "")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo.Run(ctx, self, c.out); err != nil {
		return failed(err, "the demo needs namespaces, veth and nf_tables in the kernel")
	}
	return nil
}

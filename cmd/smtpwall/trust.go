package main

import (
	"context"
	"fmt"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
)

// trustCommand puts the local CA into the system's trust store, or takes it out.
func trustCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("trust")
	path := configFlag(set)
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || rest[0] != "install" && rest[0] != "remove" {
		return usageError("trust needs install or remove", "smtpwall trust install makes programs believe the local CA's certificates")
	}
	cfg, err := c.loadConfig(*path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	options := certs.TrustOptions{Directory: app.CertificateDirectory(cfg)}
	if rest[0] == "remove" {
		return c.trustDone(certs.TrustRemove(ctx, options))
	}
	return c.trustDone(certs.TrustInstall(ctx, options))
}

// trustDone says what was changed, and what is left to do for programs that
// bring their own store.
func (c *console) trustDone(report certs.TrustReport, err error) error {
	if err != nil {
		return failed(err, "run as root, on the host whose programs shall trust the local CA")
	}
	for _, path := range report.Paths {
		fmt.Fprintln(c.out, path)
	}
	if !report.Changed {
		fmt.Fprintln(c.err, "nothing had to be changed")
	}
	for _, line := range report.Advice {
		fmt.Fprintln(c.err, line)
	}
	return nil
}

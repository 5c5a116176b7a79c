package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
)

// runCommand is guard and proxy together, until Ctrl-C.
func runCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("run")
	path := configFlag(set)
	mode := set.String("mode", "", "observe or enforce, whatever the configuration says")
	uid := set.Uint("uid", 0, "run the proxy as this user `ID` instead of the user "+app.ProxyUser)
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return usageError("run needs root, for the firewall rules", "sudo smtpwall run, or smtpwall demo to see it work")
	}
	if *mode != "" && config.Mode(*mode) != config.Observe && config.Mode(*mode) != config.Enforce {
		return usageError(fmt.Sprintf("unknown mode %q", *mode), "observe or enforce")
	}
	// Secrets are the proxy's, which reads them as its own user.
	load := c.loader(*path, config.Options{SkipSecrets: true, Mode: config.Mode(*mode)})
	cfg, err := load()
	if err != nil {
		return err
	}
	owner, leave, err := c.runAs(uint32(*uid))
	if err != nil {
		return err
	}
	err = c.run(ctx, cfg, load, owner, *path)
	return errors.Join(err, leave(cfg))
}

func (c *console) run(ctx context.Context, cfg *config.Config, load app.LoadFunc, owner app.Owner, path string) error {
	self, err := os.Executable()
	if err != nil {
		return failed(err, "")
	}
	err = app.Run(ctx, app.RunOptions{
		Config: cfg, Load: load, Owner: owner, Command: []string{self, "serve", "--config", path},
		Check: []string{self, "check", "--offline", "--config", path}, Path: path,
		Ready: func() { c.explainRun(cfg, path) },
	})
	if err != nil {
		return failed(err, "`smtpwall check` says what is wrong with the configuration")
	}
	return nil
}

// explainRun says what is in force and what to do next.
func (c *console) explainRun(cfg *config.Config, path string) {
	if _, err := os.Stat(path); err != nil {
		path += " (absent: the defaults)"
	}
	fmt.Fprintf(c.err, "\nsmtpwall runs in %s mode; configuration: %s\n", cfg.Mode, path)
	if cfg.Mode == config.Enforce {
		fmt.Fprintln(c.err, "  Direct port 25 is refused; 587, 465 and 2525 to other hosts are redirected here.")
		fmt.Fprintln(c.err, "  To only watch: smtpwall run --mode observe, or mode = \"observe\" in the configuration.")
	} else {
		fmt.Fprintln(c.err, "  Nothing is blocked; what would be is counted: smtpwall log --kind attempt")
		fmt.Fprintln(c.err, "  To block: smtpwall run --mode enforce, or mode = \"enforce\" in the configuration.")
	}
	if len(cfg.Relays) == 0 {
		fmt.Fprintf(c.err, "  No relay is configured: mail is accepted and held in %s.\n", cfg.Delivery.Spool)
		fmt.Fprintln(c.err, "  Next: put [relay.main] with address, username and password into the configuration,")
		fmt.Fprintf(c.err, "  then `kill -HUP %d`: what is held will be delivered.\n", os.Getpid())
	}
	fmt.Fprintln(c.err, "  Try: printf 'Subject: hello\\r\\n\\r\\nhello\\r\\n' | curl --ssl-reqd -k smtp://127.0.0.1:587 --mail-from you@example.com --mail-rcpt them@example.net -T -")
	fmt.Fprintln(c.err, "  See: smtpwall log, smtpwall status. Ctrl-C takes the rules away again.")
	fmt.Fprintln(c.err)
}

// runAs finds the proxy's user, or makes one for the time of the run.
func (c *console) runAs(uid uint32) (app.Owner, func(*config.Config) error, error) {
	stay := func(*config.Config) error { return nil }
	if uid != 0 {
		return app.Owner{UID: uid, GID: uid}, stay, nil
	}
	owner, err := app.LookupOwner()
	if err == nil {
		return owner, stay, nil
	}
	if !errors.Is(err, app.ErrNoProxyUser) {
		return owner, nil, failed(err, "")
	}
	owner, remove, err := app.CreateProxyUser()
	if err != nil {
		return owner, nil, failed(err, "make a system user named "+app.ProxyUser+", or name one with --uid")
	}
	fmt.Fprintf(c.err, "made the system user %s, uid %s\n", app.ProxyUser, strconv.FormatUint(uint64(owner.UID), 10))
	return owner, func(cfg *config.Config) error { return c.leave(cfg, remove) }, nil
}

// leave takes the user away that was made for this run, with what it owns,
// unless that is mail.
func (c *console) leave(cfg *config.Config, remove func() error) error {
	err := app.LeaveHost(cfg)
	if errors.Is(err, app.ErrStays) {
		fmt.Fprintf(c.err, "the user %s and its directories stay: %v\n", app.ProxyUser, err)
		return nil
	}
	if err := errors.Join(err, remove()); err != nil {
		return failed(fmt.Errorf("removing the user %s: %w", app.ProxyUser, err), "userdel "+app.ProxyUser)
	}
	fmt.Fprintf(c.err, "the rules, the user %s and the local CA are gone; the audit log stays in %s\n", app.ProxyUser, cfg.Audit.Directory)
	return nil
}

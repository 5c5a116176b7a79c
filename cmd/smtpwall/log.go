package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// logCommand prints audit events, the proxy's and the guard's in one order.
func logCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("log")
	path := configFlag(set)
	asJSON := set.Bool("json", false, "print one JSON object a line")
	follow := set.Bool("follow", false, "wait for more")
	var filter audit.Filter
	set.StringVar((*string)(&filter.Kind), "kind", "", "only `KIND`: transaction, attempt, drift or session")
	set.StringVar(&filter.ID, "id", "", "only the session or transaction `ID`")
	set.StringVar(&filter.Decision, "decision", "", "only `DECISION`: allow or deny")
	set.StringVar(&filter.User, "user", "", "only the local `USER` or uid")
	set.StringVar(&filter.Unit, "unit", "", "only the systemd `UNIT` or container")
	set.StringVar(&filter.Account, "account", "", "only the `ACCOUNT`")
	since := set.Duration("since", 0, "only what is not older than this `DURATION`, such as 1h")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	if *since > 0 {
		filter.Since = time.Now().Add(-*since)
	}
	cfg, err := c.loadConfig(*path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	return c.printEvents(ctx, cfg.Audit.Directory, filter, *asJSON, *follow)
}

func (c *console) printEvents(ctx context.Context, directory string, filter audit.Filter, asJSON, follow bool) error {
	files := []string{filepath.Join(directory, app.TransactionLog), filepath.Join(directory, app.AttemptLog)}
	encoder := json.NewEncoder(c.out)
	for event, err := range audit.Read(ctx, files, filter, follow) {
		if err != nil {
			return failed(err, "events are kept once smtpwall runs; their directory is audit.directory")
		}
		if asJSON {
			err = encoder.Encode(event)
		} else {
			_, err = fmt.Fprintln(c.out, audit.Text(event))
		}
		if err != nil {
			return failed(err, "")
		}
	}
	return nil
}

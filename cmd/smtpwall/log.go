package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	set.StringVar((*string)(&filter.Kind), "kind", "", "only `KIND`: transaction, delivery, session, suspension, breaker, attempt, drift or mode")
	set.StringVar(&filter.ID, "id", "", "only the session or transaction `ID`")
	set.StringVar(&filter.Decision, "decision", "", "only `DECISION`: allow, deny, defer or hold")
	set.StringVar(&filter.User, "user", "", "only the local `USER` or uid")
	set.StringVar(&filter.Unit, "unit", "", "only the systemd `UNIT` or container")
	set.StringVar(&filter.Account, "account", "", "only the `ACCOUNT`")
	set.StringVar(&filter.Identity, "identity", "", "only what limits, breakers and suspensions say of this `KEY`, such as uid:33")
	var since age
	set.Var(&since, "since", "only what is not older than this `DURATION`, such as 1h or 5d")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	if since > 0 {
		filter.Since = time.Now().Add(-time.Duration(since))
	}
	cfg, err := c.loadConfig(*path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	return c.printEvents(ctx, cfg.Audit.Directory, filter, *asJSON, *follow)
}

// maxLogErrors is how many errors of the log are printed: who can write to it
// must not bury the events.
const maxLogErrors = 20

// printEvents prints what can be read. What cannot is told beside it, and fails
// the command in the end.
func (c *console) printEvents(ctx context.Context, directory string, filter audit.Filter, asJSON, follow bool) error {
	bad := 0
	for event, err := range audit.ReadFiles(ctx, logFiles(directory), filter, follow) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return failed(err, "events are kept once smtpwall runs; their directory is audit.directory")
		case err != nil:
			if bad++; bad <= maxLogErrors {
				fmt.Fprintf(c.err, "smtpwall: error: %s\n", err)
			}
		default:
			if err := c.printEvent(event, asJSON); err != nil {
				return failed(err, "")
			}
		}
	}
	if bad > 0 {
		return failed(fmt.Errorf("parts of the audit log could not be read: %d", bad),
			"the rest is complete; what tore these lines was a crash or a full disk, or somebody else wrote them")
	}
	return nil
}

func (c *console) printEvent(event audit.Event, asJSON bool) (err error) {
	if asJSON {
		return json.NewEncoder(c.out).Encode(event)
	}
	_, err = fmt.Fprintln(c.out, audit.Text(event))
	return err
}

// logFiles are the logs, each with the kinds that its writer writes: the proxy
// must not speak for the guard.
func logFiles(directory string) []audit.File {
	return []audit.File{
		{Path: filepath.Join(directory, app.TransactionLog), Kinds: []audit.Kind{
			audit.KindTransaction, audit.KindDelivery, audit.KindSession, audit.KindSuspension, audit.KindBreaker,
		}},
		{Path: filepath.Join(directory, app.AttemptLog), Kinds: []audit.Kind{audit.KindAttempt, audit.KindDrift, audit.KindMode}},
	}
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
)

// statusCommand says what runs and what is held.
func statusCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("status")
	path := configFlag(set)
	asJSON := set.Bool("json", false, "print JSON")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if err := noArguments(rest); err != nil {
		return err
	}
	cfg, err := c.loadConfig(*path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	state, err := app.GuardStatus(ctx)
	if errors.Is(err, app.ErrNoGuard) {
		return &userError{status: exitDegraded, message: "no guard is running",
			hint: "systemctl start smtpwall-guard.service, or smtpwall run; smtpwall firewall status looks at the rules alone"}
	}
	if err != nil {
		return failed(err, "status needs root")
	}
	held := app.HeldFiles(cfg)
	if *asJSON {
		err = json.NewEncoder(c.out).Encode(struct {
			Guard guard.Status `json:"guard"`
			Held  int          `json:"held"`
		}{state, held})
	} else {
		c.printStatus(state, held)
	}
	if err == nil && (!state.InForce || len(state.Conditions) > 0) {
		err = &userError{status: exitDegraded, quiet: true, message: "degraded"}
	}
	return err
}

// printStatus is the state of the guard and of the spool for people.
func (c *console) printStatus(status guard.Status, held int) {
	fmt.Fprintf(c.out, "mode %s, rules %s, lock table %s\n", status.Mode, inForce(status), status.Lock)
	fmt.Fprintf(c.out, "%d attempts recorded, %d packets counted, %d changes of the rules put back\n",
		status.Attempts, status.Packets, status.Drifts)
	for _, relay := range status.Relays {
		var addresses []string
		for _, address := range relay.Addresses {
			addresses = append(addresses, address.String())
		}
		fmt.Fprintf(c.out, "relay %s (%s): %s%s\n", relay.Name, relay.Host, strings.Join(addresses, ", "), relay.Error)
	}
	if held > 0 || len(status.Relays) == 0 {
		fmt.Fprintf(c.out, "%d messages are held\n", held)
	}
	for part, what := range status.Conditions {
		fmt.Fprintf(c.out, "degraded: %s: %s\n", part, what)
	}
}

func inForce(status guard.Status) string {
	switch {
	case status.Released:
		return "taken down on request"
	case status.InForce:
		return "in force"
	case status.Applied:
		return "changed by somebody"
	}
	return "absent"
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// firewallCommand is the rules without the services.
func firewallCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("firewall")
	path := configFlag(set)
	dryRun := set.Bool("dry-run", false, "print what would be done, change nothing")
	asJSON := set.Bool("json", false, "print the status as JSON")
	uid := set.Uint("uid", 0, "the proxy's user `ID` instead of the user "+app.ProxyUser)
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return usageError("firewall needs apply, show, status or remove", "smtpwall firewall show prints the rules")
	}
	verb := rest[0]
	firewall, err := c.firewall(*path, uint32(*uid), verb != "apply")
	if err != nil {
		return err
	}
	if *dryRun && verb == "apply" {
		verb = "show"
	}
	switch verb {
	case "show":
		return c.showFirewall(ctx, firewall)
	case "apply":
		return needsRoot(firewall.Apply(ctx))
	case "status":
		return c.firewallStatus(ctx, firewall, *asJSON)
	case "remove":
		if *dryRun {
			fmt.Fprintln(c.err, "would remove the tables inet smtpwall and inet smtpwall_lock")
			return nil
		}
		return needsRoot(firewall.Remove(ctx))
	}
	return usageError(fmt.Sprintf("unknown word %q", verb), "apply, show, status or remove")
}

// firewall reads what the rules depend on. A file that is missing must not turn
// enforcing rules into observing ones.
func (c *console) firewall(path string, uid uint32, missingOK bool) (*app.Firewall, error) {
	cfg, err := c.loadConfig(path, config.Options{MissingOK: missingOK, SkipSecrets: true})
	if err != nil {
		return nil, err
	}
	owner := app.Owner{UID: uid, GID: uid}
	if uid == 0 {
		if owner, err = app.LookupOwner(); err != nil {
			return nil, failed(err, "the packaged service brings it; or name one with --uid")
		}
	}
	return app.NewFirewall(cfg, owner), nil
}

func needsRoot(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nft.ErrLocked):
		// systemd keeps the descriptor of a guard that was stopped.
		return failed(err, "a running guard applies its file by `systemctl reload smtpwall-guard.service`; "+
			"after `systemctl stop`, `systemctl clean --what=fdstore smtpwall-guard.service` lets go of the lock")
	}
	return failed(err, "rules need root, or CAP_NET_ADMIN in this network namespace")
}

func (c *console) showFirewall(ctx context.Context, firewall *app.Firewall) error {
	text, err := firewall.Text(ctx)
	if err != nil {
		return failed(err, "")
	}
	fmt.Fprint(c.out, text)
	return nil
}

// firewallStatus prints the state; degraded if the kernel's rules are not those
// of the configuration.
func (c *console) firewallStatus(ctx context.Context, firewall *app.Firewall, asJSON bool) error {
	status, err := firewall.Status(ctx)
	if err != nil {
		return needsRoot(err)
	}
	if asJSON {
		err = json.NewEncoder(c.out).Encode(newFirewallState(status))
	} else {
		c.printFirewall(status)
	}
	if err == nil && len(status.Drifts) > 0 {
		err = &userError{status: exitDegraded, quiet: true, message: "the rules differ"}
	}
	return err
}

// firewallState is the JSON of the status.
type firewallState struct {
	Applied  bool                   `json:"applied"`
	Mode     string                 `json:"mode"`
	Lock     string                 `json:"lock"`
	Drifts   []string               `json:"drifts"`
	Counters map[string]nft.Counter `json:"counters"`
	Relays   []string               `json:"relays"`
}

func newFirewallState(status nft.Status) firewallState {
	state := firewallState{
		Applied: status.Applied, Mode: status.Mode.String(), Lock: string(status.Lock),
		Counters: status.Counters, Drifts: []string{}, Relays: []string{},
	}
	for _, drift := range status.Drifts {
		state.Drifts = append(state.Drifts, drift.String())
	}
	for _, relay := range status.Relays {
		state.Relays = append(state.Relays, relay.String())
	}
	return state
}

func (c *console) printFirewall(status nft.Status) {
	if !status.Applied {
		fmt.Fprintln(c.out, "no rules are applied")
		return
	}
	fmt.Fprintf(c.out, "mode %s, lock table %s\n", status.Mode, status.Lock)
	for name, counter := range status.Counters {
		fmt.Fprintf(c.out, "%s: %d packets\n", name, counter.Packets)
	}
	for _, relay := range status.Relays {
		fmt.Fprintf(c.out, "relay address %s\n", relay)
	}
	for _, drift := range status.Drifts {
		fmt.Fprintf(c.out, "differs: %s\n", drift)
	}
}

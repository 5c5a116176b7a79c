package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// place is a part of the spool with a command of its own.
type place struct {
	name   string
	states []spool.State
	verbs  []string
}

// queueCommand shows and changes what waits to be delivered.
func queueCommand(ctx context.Context, c *console, args []string) error {
	return c.spoolCommand(ctx, place{"queue", []spool.State{spool.Active, spool.Deferred}, []string{"list", "show", "retry", "drop"}}, args)
}

// spoolCommand is queue, and hold.
func (c *console) spoolCommand(ctx context.Context, p place, args []string) error {
	order, err := c.parseOrder(p, args)
	if err != nil {
		return err
	}
	cfg, err := c.loadConfig(order.config, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	order.expire = cfg.Delivery.HoldExpire
	queue, err := app.OpenQueue(ctx, cfg)
	if err != nil {
		return noQueue(err, cfg)
	}
	switch order.verb {
	case "list":
		return c.listQueue(ctx, queue, order)
	case "show":
		return c.showQueued(ctx, queue, order)
	}
	if err := queue.Offline(); err != nil {
		return failed(fmt.Errorf("%s %s: %w", p.name, order.verb, err), offlineHint(err))
	}
	return c.changeQueue(ctx, queue, order)
}

// noQueue says why there is nothing to look at.
func noQueue(err error, cfg *config.Config) error {
	switch {
	case errors.Is(err, app.ErrNotAllowed):
		return failed(err, "run it as root, or as a member of the socket's group")
	case errors.Is(err, fs.ErrNotExist):
		return failed(fmt.Errorf("no proxy is running, and there is no spool in %s", cfg.Delivery.Spool),
			"the spool is made when smtpwall first runs; --config names another configuration")
	case errors.Is(err, fs.ErrPermission):
		return failed(fmt.Errorf("no proxy is running, and the spool cannot be read: %w", err), "run it as root")
	}
	return failed(err, "")
}

// offlineHint says how to get a proxy that can be told.
func offlineHint(err error) string {
	if errors.Is(err, app.ErrNoAdmin) {
		return "give listen.admin a path, such as \"/run/smtpwall/admin.sock\", and restart the proxy"
	}
	return "only a running proxy changes the spool: systemctl start smtpwall.service, or smtpwall run"
}

// order is one command line of queue or hold.
type order struct {
	place
	config string
	verb   string
	filter spool.Filter
	all    bool
	json   bool
	body   bool
	yes    bool
	expire time.Duration // of what is in hold
}

// flagsOf are the flags that each verb has beside --config and --json.
func flagsOf(verb string) []string {
	filters := []string{"identity", "relay", "reason", "older"}
	switch verb {
	case "list":
		return filters
	case "show":
		return []string{"body"}
	case "drop":
		return append(filters, "all", "yes")
	}
	return append(filters, "all")
}

func (c *console) parseOrder(p place, args []string) (order, error) {
	o := order{place: p, filter: spool.Filter{States: p.states}}
	set := c.flags(p.name)
	path := configFlag(set)
	set.BoolVar(&o.json, "json", false, "print one JSON object a line")
	set.BoolVar(&o.body, "body", false, "show: the message itself, as it is")
	set.BoolVar(&o.all, "all", false, "retry, drop, release: every message")
	set.BoolVar(&o.yes, "yes", false, "drop: do not ask")
	set.StringVar(&o.filter.Identity, "identity", "", "only of this `IDENTITY`: a user, uid, unit, container or account")
	set.StringVar(&o.filter.Relay, "relay", "", "only what was last tried by this `RELAY`")
	set.StringVar(&o.filter.Reason, "reason", "", "only with this `TEXT` in the reason, in what holds it, or in the relay's reply")
	set.Var((*age)(&o.filter.OlderThan), "older", "only what came longer ago than this `DURATION`, such as 1h or 5d")
	rest, err := parse(set, args)
	if err != nil {
		return o, err
	}
	o.config = *path
	if len(rest) == 0 || !slices.Contains(p.verbs, rest[0]) {
		return o, p.needsVerb(rest)
	}
	o.verb, o.filter.IDs = rest[0], rest[1:]
	if err := o.checkFlags(set); err != nil {
		return o, err
	}
	return o, o.check()
}

func (p place) needsVerb(rest []string) error {
	last := len(p.verbs) - 1
	verbs := strings.Join(p.verbs[:last], ", ") + " or " + p.verbs[last]
	if len(rest) == 0 {
		return usageError(p.name+" needs "+verbs, "smtpwall "+p.name+" list shows what is there")
	}
	return usageError(fmt.Sprintf("unknown word %q", rest[0]), verbs)
}

// checkFlags refuses a flag that the verb would pass over: `--older 1d` must
// never be forgotten silently.
func (o *order) checkFlags(set *flag.FlagSet) (err error) {
	allowed := append(flagsOf(o.verb), "config", "json")
	set.Visit(func(f *flag.Flag) {
		if err == nil && !slices.Contains(allowed, f.Name) {
			err = usageError(fmt.Sprintf("%s %s has no flag --%s", o.name, o.verb, f.Name), "smtpwall "+o.name+" --help lists the flags")
		}
	})
	return err
}

// check refuses what is unclear about which messages are meant.
func (o *order) check() error {
	command := o.name + " " + o.verb
	switch o.verb {
	case "list":
		return nil
	case "show":
		if len(o.filter.IDs) != 1 {
			return usageError(command+" needs the id of one message", "smtpwall "+o.name+" list prints ids")
		}
		if o.body && o.json {
			return usageError("--body prints the message as it is, --json does not", "leave one of them out")
		}
		return nil
	}
	switch chosen := len(o.filter.IDs) > 0 || o.filtered(); {
	case !chosen && !o.all:
		return usageError(command+" needs ids of messages, a filter or --all", "smtpwall "+o.name+" list takes the same filters and changes nothing")
	case chosen && o.all:
		return usageError("--all is every message, whatever the ids and filters say", "leave one of them out")
	}
	return nil
}

// filtered says whether something but the ids chooses.
func (o *order) filtered() bool {
	return o.filter.Identity != "" || o.filter.Relay != "" || o.filter.Reason != "" || o.filter.OlderThan > 0
}

func (o *order) op() admin.Op { return admin.Op(o.verb) }

// age is a flag: a duration that may count days.
type age time.Duration

func (a *age) String() string { return time.Duration(*a).String() }

// Set implements flag.Value.
func (a *age) Set(text string) error {
	days, rest, counted := strings.Cut(text, "d")
	whole := uint64(0)
	if counted {
		var err error
		if whole, err = strconv.ParseUint(days, 10, 16); err != nil {
			return errAge
		}
		text = "0h" + rest
	}
	part, err := time.ParseDuration(text)
	total := time.Duration(whole)*24*time.Hour + part
	if err != nil || part < 0 || total <= 0 {
		return errAge
	}
	*a = age(total)
	return nil
}

var errAge = errors.New(`write a number and a unit, s, m, h or d: "90m"`)

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy/limit"
)

// suspendCommand turns an identity off, or lists those that are.
func suspendCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("suspend")
	path := configFlag(set)
	asJSON := set.Bool("json", false, "print one JSON object a line")
	reason := set.String("reason", "", "why, a `TEXT` for the log")
	var span age
	set.Var(&span, "for", "resume by itself after this `DURATION`, such as 2h or 5d")
	until := set.String("until", "", "resume by itself at this `TIME`: 18:00, 2027-01-31, \"2027-01-31 18:00\" or RFC 3339")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	end, err := endOf(span, *until, time.Now())
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		if *reason != "" || !end.IsZero() {
			return usageError("suspend needs an identity", identityForms)
		}
		return c.listSuspensions(ctx, *path, *asJSON)
	}
	if strings.ContainsAny(*reason, "\r\n") {
		return usageError("--reason is more than one line", "say it in one")
	}
	key, err := oneIdentity("suspend", rest)
	if err == nil {
		err = countsItself(key, guard.SubordinateOf)
	}
	if err != nil {
		return err
	}
	proxy, err := c.askProxy(ctx, *path)
	if err != nil {
		return err
	}
	s := limit.Suspension{Key: key, Reason: *reason, Until: end}
	if err := proxy.Suspend(ctx, s); err != nil {
		return failed(err, "smtpwall suspend lists what is suspended")
	}
	return c.tellSuspended(s, rest[0], *asJSON)
}

// resumeCommand ends a suspension.
func resumeCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("resume")
	path := configFlag(set)
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	key, err := oneIdentity("resume", rest)
	if err != nil {
		return err
	}
	proxy, err := c.askProxy(ctx, *path)
	if err != nil {
		return err
	}
	switch err := proxy.Resume(ctx, key); {
	case errors.Is(err, admin.ErrNotSuspended):
		return failed(fmt.Errorf("%s is not suspended", keyText(key)), "smtpwall suspend lists what is")
	case err != nil:
		return failed(err, "")
	}
	fmt.Fprintf(c.err, "%s may send again; its messages that were held for the suspension are due at once\n", keyText(key))
	return nil
}

// askProxy finds the proxy that is to be told something.
func (c *console) askProxy(ctx context.Context, path string) (*admin.Client, error) {
	cfg, err := c.loadConfig(path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return nil, err
	}
	if cfg.Listen.Admin == "" {
		return nil, failed(app.ErrNoAdmin, offlineHint(app.ErrNoAdmin))
	}
	client := admin.NewClient(cfg.Listen.Admin)
	short, cancel := context.WithTimeout(ctx, proxyPatience)
	defer cancel()
	err = client.Alive(short)
	switch {
	case err == nil:
		return client, nil
	case errors.Is(err, admin.ErrDenied):
		return nil, failed(err, "run it as root, or as a member of the socket's group")
	case errors.Is(err, admin.ErrNotRunning), short.Err() != nil && ctx.Err() == nil:
		return nil, failed(fmt.Errorf("%w: nobody answers at %s", app.ErrNoProxy, cfg.Listen.Admin),
			"systemctl start smtpwall.service, or smtpwall run: only a running proxy suspends and resumes")
	}
	return nil, failed(err, "")
}

// proxyPatience is how long a proxy may take to answer, which may be about to
// start because we knocked.
const proxyPatience = 10 * time.Second

const identityForms = "a user's name, uid:N, account:NAME, container:ID, unit:NAME or unknown"

func oneIdentity(command string, rest []string) (key string, err error) {
	if len(rest) != 1 {
		return "", usageError(command+" needs one identity", identityForms)
	}
	return identityKey(rest[0])
}

// identityKey is the key that a word of the command line means.
func identityKey(word string) (string, error) {
	kind, name, prefixed := strings.Cut(word, ":")
	switch {
	case prefixed && kind == "user":
		return keyOfUser(name)
	case prefixed && kind == "unit":
		return keyOfUnit(name)
	case prefixed, word == "unknown":
		if err := admin.CheckKey(word); err != nil {
			return "", usageError(err.Error(), identityForms)
		}
		return word, nil
	}
	if uid, err := strconv.ParseUint(word, 10, 32); err == nil {
		return "uid:" + strconv.FormatUint(uid, 10), nil
	}
	return keyOfUser(word)
}

// unitTypes are the ends of the names of units in which programs run
// (systemd.unit(5)). Logins are scopes, and count as their users.
var unitTypes = []string{".service", ".slice", ".socket", ".mount", ".swap"}

func keyOfUnit(name string) (string, error) {
	switch {
	case strings.HasSuffix(name, ".scope"):
		return "", usageError(fmt.Sprintf("%q is a login, or made at run time, and counts as its user", visible(name)), "suspend the user")
	case !slices.ContainsFunc(unitTypes, func(end string) bool { return strings.HasSuffix(name, end) }):
		return "", usageError(fmt.Sprintf("%q is no name of a unit", visible(name)), "write it as systemctl does: unit:"+visible(name)+".service")
	}
	if err := admin.CheckKey("unit:" + name); err != nil {
		return "", usageError(err.Error(), identityForms)
	}
	return "unit:" + name, nil
}

func keyOfUser(name string) (string, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return "", usageError(fmt.Sprintf("this host has no user %q", name), identityForms)
	}
	return "uid:" + found.Uid, nil
}

// keyText is a key with the name of the user whose it is.
func keyText(key string) string {
	if uid, ok := strings.CutPrefix(key, "uid:"); ok {
		if found, err := user.LookupId(uid); err == nil {
			return fmt.Sprintf("%s (%s)", key, visible(found.Username))
		}
	}
	return visible(key)
}

// endOf is when a suspension ends; zero is not by itself.
func endOf(span age, until string, now time.Time) (time.Time, error) {
	switch {
	case span > 0 && until != "":
		return time.Time{}, usageError("--for and --until both say when it ends", "leave one of them out")
	case span > 0:
		return now.Add(time.Duration(span)).UTC().Truncate(time.Second), nil
	case until == "":
		return time.Time{}, nil
	}
	end, ok := parseTime(until, now)
	switch {
	case !ok:
		return time.Time{}, usageError(fmt.Sprintf("--until: %q is no time", until), `write 18:00, 2027-01-31, "2027-01-31 18:00" or 2027-01-31T18:00:00Z`)
	case !end.After(now):
		return time.Time{}, usageError(fmt.Sprintf("--until: %s is over", timeText(end)), "")
	}
	return end.UTC(), nil
}

// parseTime reads a time as people write it, in the clock's own zone. A time of
// day alone is the next one.
func parseTime(text string, now time.Time) (time.Time, bool) {
	for _, form := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return t, true
		}
	}
	clock, err := time.Parse("15:04", text)
	if err != nil {
		return time.Time{}, false
	}
	at := func(days int) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()+days, clock.Hour(), clock.Minute(), 0, 0, now.Location())
	}
	if today := at(0); today.After(now) {
		return today, true
	}
	return at(1), true
}

// countsItself fails for a uid that a user has for user namespaces: it counts as that
// user, so suspending it would suspend nobody.
func countsItself(key string, ownerOf func(uid uint32) (owner uint32, ok bool)) error {
	text, isUID := strings.CutPrefix(key, "uid:")
	uid, err := strconv.ParseUint(text, 10, 32)
	if !isUID || err != nil {
		return nil
	}
	owner, ok := ownerOf(uint32(uid))
	if !ok {
		return nil
	}
	whose := "uid:" + strconv.FormatUint(uint64(owner), 10)
	return usageError(fmt.Sprintf("%s is a subordinate uid of %s, and counts as that user", key, keyText(whose)), "smtpwall suspend "+whose)
}

// tellSuspended says what holds now and how to end it.
func (c *console) tellSuspended(s limit.Suspension, word string, asJSON bool) error {
	end := "until it is resumed"
	if !s.Until.IsZero() {
		end = "until " + timeText(s.Until)
	}
	fmt.Fprintf(c.err, "%s is suspended %s: new mail is refused, open sessions and direct connections are cut, its messages in the spool are held\n",
		keyText(s.Key), end)
	fmt.Fprintf(c.err, "hint: smtpwall resume %s ends it\n", visible(word))
	if asJSON {
		return c.printJSON(s)
	}
	return nil
}

func (c *console) listSuspensions(ctx context.Context, path string, asJSON bool) error {
	proxy, err := c.askProxy(ctx, path)
	if err != nil {
		return err
	}
	all, err := proxy.Suspensions(ctx)
	if err != nil {
		return failed(err, "")
	}
	slices.SortFunc(all, func(a, b limit.Suspension) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Key, b.Key)) })
	if asJSON {
		for _, s := range all {
			if err := c.printJSON(s); err != nil {
				return failed(err, "")
			}
		}
		return nil
	}
	if len(all) == 0 {
		fmt.Fprintln(c.err, "nobody is suspended")
		return nil
	}
	return c.printSuspensions(all)
}

func (c *console) printSuspensions(all []limit.Suspension) error {
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IDENTITY\tSINCE\tUNTIL\tBY\tREASON")
	for _, s := range all {
		until := "resumed"
		if !s.Until.IsZero() {
			until = timeText(s.Until)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", keyText(s.Key), timeText(s.Since), until, visible(cmp.Or(s.By, "-")), shortened(cmp.Or(s.Reason, "-"), maxReason))
	}
	return table.Flush()
}

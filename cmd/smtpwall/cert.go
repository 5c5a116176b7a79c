package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
)

// renewPatience is how long a renewal is waited for. A CA looks at a challenge
// within seconds, name servers may need minutes to show one.
const renewPatience = 5 * time.Minute

// certCommand shows the certificates, or has them renewed.
func certCommand(ctx context.Context, c *console, args []string) error {
	set := c.flags("cert")
	path := configFlag(set)
	asJSON := set.Bool("json", false, "print JSON")
	rest, err := parse(set, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 || rest[0] != "status" && rest[0] != "renew" {
		return usageError("cert needs status or renew", "smtpwall cert status shows the certificates of the listeners")
	}
	verb, names := rest[0], rest[1:]
	if verb == "status" {
		if err := noArguments(names); err != nil {
			return err
		}
	}
	cfg, err := c.loadConfig(*path, config.Options{MissingOK: true, SkipSecrets: true})
	if err != nil {
		return err
	}
	if verb == "renew" {
		return c.renewCertificates(ctx, cfg, names, *asJSON)
	}
	return c.certificateStatus(ctx, cfg, *asJSON)
}

// certificateState is what is known of the certificates.
type certificateState struct {
	Running      bool                `json:"running"` // a proxy told; else they are from files
	Certificates []admin.Certificate `json:"certificates"`
	Conditions   map[string]string   `json:"conditions,omitempty"` // those that are about certificates
	Degraded     bool                `json:"degraded"`
}

func (c *console) certificateStatus(ctx context.Context, cfg *config.Config, asJSON bool) error {
	proxy, err := app.AskCertificates(ctx, cfg)
	if errors.Is(err, app.ErrNoProxy) || errors.Is(err, app.ErrNoAdmin) {
		return c.storedCertificates(cfg, err, asJSON)
	}
	if err != nil {
		return noCertifier(err)
	}
	s := certificateState{Running: true}
	if s.Certificates, err = proxy.Certificates(ctx); err != nil {
		return failed(err, "")
	}
	status, err := app.ProxyStatus(ctx, cfg)
	if err != nil {
		return failed(err, "")
	}
	s.Conditions = certificateConditions(status.Conditions)
	now := time.Now()
	s.Degraded = len(s.Conditions) > 0 || slices.ContainsFunc(s.Certificates, func(c admin.Certificate) bool { return ailing(c, now) })
	if err := c.showCertificates(s, now, asJSON); err != nil {
		return err
	}
	if s.Degraded {
		return &userError{status: exitDegraded, quiet: true, message: "degraded"}
	}
	return nil
}

// storedCertificates shows those in files: no proxy tells which are in use.
func (c *console) storedCertificates(cfg *config.Config, why error, asJSON bool) error {
	noProxy := errors.Is(why, app.ErrNoProxy)
	all, err := app.StoredCertificates(cfg)
	s := certificateState{Certificates: all, Degraded: noProxy || err != nil}
	if err := c.showCertificates(s, time.Now(), asJSON); err != nil {
		return err
	}
	switch {
	case err != nil:
		return failed(fmt.Errorf("%w, and not all files of certificates can be read: %w", why, err), "run it as root")
	case noProxy:
		return &userError{status: exitDegraded, message: "no proxy is running: these certificates are in files, and nobody shows or renews them",
			hint: "systemctl start smtpwall.service"}
	}
	fmt.Fprintln(c.err, "listen.admin is empty: these certificates are in files, and nobody says whether they are shown and when they are renewed")
	return nil
}

// noCertifier says why nobody can be asked.
func noCertifier(err error) error {
	switch {
	case errors.Is(err, app.ErrNotAllowed):
		return failed(err, "run it as root, or as a member of the socket's group")
	case errors.Is(err, app.ErrNoAdmin):
		return failed(err, "give listen.admin a path, such as \"/run/smtpwall/admin.sock\", and restart the proxy")
	case errors.Is(err, app.ErrNoProxy):
		return failed(err, "systemctl start smtpwall.service, or smtpwall run: only a running proxy renews")
	}
	return failed(err, "")
}

func (c *console) showCertificates(s certificateState, now time.Time, asJSON bool) error {
	if !asJSON {
		c.printCertificates(s, now)
		return nil
	}
	if s.Certificates == nil {
		s.Certificates = []admin.Certificate{}
	}
	if err := c.printJSON(s); err != nil {
		return failed(err, "")
	}
	return nil
}

// certificateConditions are the conditions about certificates.
func certificateConditions(all map[string]string) map[string]string {
	found := make(map[string]string)
	for part, text := range all {
		if strings.HasPrefix(part, "certificate ") {
			found[part] = text
		}
	}
	return found
}

// renewCertificates asks for new ones and waits for them.
func (c *console) renewCertificates(ctx context.Context, cfg *config.Config, names []string, asJSON bool) error {
	proxy, err := app.AskCertificates(ctx, cfg)
	if err != nil {
		return noCertifier(err)
	}
	before, err := proxy.Certificates(ctx)
	if err != nil {
		return failed(err, "")
	}
	fmt.Fprintln(c.err, "asking for new certificates, which may take minutes; Ctrl-C ends the waiting, not the asking")
	waiting, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	limited, cancel := context.WithTimeout(waiting, renewPatience)
	defer cancel()
	switch err := proxy.RenewCertificates(limited, names); {
	case limited.Err() != nil:
		return failed(errors.New("the renewal has not ended yet, and goes on"), "smtpwall cert status tells what becomes of it")
	case err != nil:
		return failed(err, "smtpwall cert status lists the names, and says when what failed is tried again")
	}
	after, err := proxy.Certificates(ctx)
	if err != nil {
		return failed(err, "")
	}
	return c.tellRenewed(renewed(before, after), asJSON)
}

// renewed are the certificates that were not there before.
func renewed(before, after []admin.Certificate) []admin.Certificate {
	had := make(map[string]bool, len(before))
	for _, c := range before {
		had[c.Fingerprint] = true
	}
	return slices.DeleteFunc(after, func(c admin.Certificate) bool { return had[c.Fingerprint] || c.Fingerprint == "" })
}

func (c *console) tellRenewed(fresh []admin.Certificate, asJSON bool) error {
	if asJSON {
		return c.showCertificates(certificateState{Running: true, Certificates: fresh}, time.Now(), true)
	}
	for _, one := range fresh {
		fmt.Fprintf(c.out, "%s: issued by %s, valid until %s\n", visible(one.Name), visible(one.Issuer), timeText(one.NotAfter))
	}
	if len(fresh) == 0 {
		fmt.Fprintln(c.err, "the certificates are the same as before")
	}
	return nil
}

// sortedConditions are lines for people.
func sortedConditions(conditions map[string]string) (lines []string) {
	for _, part := range slices.Sorted(maps.Keys(conditions)) {
		lines = append(lines, fmt.Sprintf("degraded: %s: %s", visible(part), visible(conditions[part])))
	}
	return lines
}

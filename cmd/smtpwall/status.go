package main

import (
	"context"
	"errors"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy/spool"
)

// statusCommand says what runs, what is in force and what the spool holds.
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
	state := readState(ctx, cfg)
	if *asJSON {
		err = c.printJSON(state.json())
	} else {
		c.printState(state)
	}
	if err != nil {
		return failed(err, "")
	}
	return state.verdict()
}

// state is what both halves say. Each may be away, or not for us to ask.
type state struct {
	guard    guard.Status
	guardErr error
	proxy    admin.Status
	proxyErr error
	// certificates are none where no proxy tells.
	certificates []admin.Certificate
	// spool is what the proxy says, or the files while none runs.
	spool    admin.SpoolStatus
	spoolErr error
	relays   int // that the configuration has
}

func readState(ctx context.Context, cfg *config.Config) state {
	s := state{relays: len(cfg.Relays)}
	s.guard, s.guardErr = app.GuardStatus(ctx)
	s.proxy, s.proxyErr = app.ProxyStatus(ctx, cfg)
	if proxy, err := app.AskCertificates(ctx, cfg); err == nil {
		s.certificates, _ = proxy.Certificates(ctx) // what is wrong with the proxy it said already
	}
	if s.spool = s.proxy.Spool; s.proxyErr != nil {
		s.spool, s.spoolErr = app.SpoolFiles(ctx, cfg)
	}
	return s
}

// statusJSON is the JSON of status. A half that cannot be asked is null, with
// its error beside it.
type statusJSON struct {
	Guard      *guard.Status `json:"guard"`
	GuardError string        `json:"guard_error,omitempty"`
	Proxy      *admin.Status `json:"proxy"`
	ProxyError string        `json:"proxy_error,omitempty"`
	// Certificates are those of the proxy, as cert status has them.
	Certificates []admin.Certificate `json:"certificates,omitempty"`
	Spool        admin.SpoolStatus   `json:"spool"`
	Held         int                 `json:"held"` // messages in hold
	Degraded     bool                `json:"degraded"`
}

func (s state) json() statusJSON {
	j := statusJSON{Spool: s.spool, Certificates: s.certificates, Held: s.spool.ByState[string(spool.Hold)], Degraded: s.degraded()}
	if j.Guard = &s.guard; s.guardErr != nil {
		j.Guard, j.GuardError = nil, s.guardErr.Error()
	}
	if j.Proxy = &s.proxy; s.proxyErr != nil {
		j.Proxy, j.ProxyError = nil, s.proxyErr.Error()
	}
	return j
}

// degraded says whether somebody should look at it. A half that runs and does
// not answer to us may be well.
func (s state) degraded() bool {
	if errors.Is(s.guardErr, app.ErrNoGuard) || s.guardErr == nil && (!s.guard.InForce || len(s.guard.Conditions) > 0) {
		return true
	}
	return errors.Is(s.proxyErr, app.ErrNoProxy) || len(s.proxy.Conditions) > 0 || s.spool.Corrupt > 0
}

// verdict is the exit status, with a word for who runs nothing at all.
func (s state) verdict() error {
	noGuard, noProxy := errors.Is(s.guardErr, app.ErrNoGuard), errors.Is(s.proxyErr, app.ErrNoProxy)
	switch {
	case noGuard && noProxy:
		return &userError{status: exitDegraded, message: "neither guard nor proxy is running",
			hint: "systemctl start smtpwall-guard.service smtpwall.service, or smtpwall run; smtpwall firewall status looks at the rules alone"}
	case noGuard:
		return &userError{status: exitDegraded, message: "no guard is running: nothing keeps the rules up",
			hint: "systemctl start smtpwall-guard.service, or smtpwall run; smtpwall firewall status looks at the rules alone"}
	case noProxy:
		return &userError{status: exitDegraded, message: "no proxy is running: no mail is accepted and none is delivered",
			hint: "systemctl start smtpwall.service"}
	case s.guardErr != nil && s.proxyErr != nil:
		return failed(errors.Join(s.guardErr, s.proxyErr), "status needs root")
	case s.degraded():
		return &userError{status: exitDegraded, quiet: true, message: "degraded"}
	}
	return nil
}

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/systemd"
)

// AttemptLog is the audit file that the guard writes, in the audit directory.
const AttemptLog = "attempts.jsonl"

// ProxyUser is the system user, and its group, of the packaged proxy.
const ProxyUser = "smtpwall"

// Owner is the user that the proxy runs as: the ruleset lets it alone reach the
// relays.
type Owner struct{ UID, GID uint32 }

// ErrNoProxyUser means that the host has no user for the proxy yet.
var ErrNoProxyUser = errors.New("the user " + ProxyUser + " does not exist")

// LookupOwner finds the packaged proxy's user.
func LookupOwner() (Owner, error) {
	found, err := user.Lookup(ProxyUser)
	if err != nil {
		return Owner{}, ErrNoProxyUser
	}
	uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return Owner{}, fmt.Errorf("reading the ids of user %s: %w", ProxyUser, err)
	}
	return Owner{uint32(uid), uint32(gid)}, nil
}

// RuleOptions are the rules that a configuration asks for.
func RuleOptions(cfg *config.Config, owner Owner) rules.Options {
	options := rules.Options{
		Mode: rules.Observe, ProxyUID: owner.UID, SubmissionPorts: rules.RedirectSubmission,
		Redirect: cfg.Listen.Redirects(), Inside: cfg.Firewall.Inside,
		DNSAnswers: cfg.Firewall.DNSAnswers != config.DNSAnswersIgnore,
	}
	if cfg.Mode == config.Enforce {
		options.Mode = rules.Enforce
	}
	if cfg.Firewall.SubmissionPorts == config.SubmissionReject {
		options.SubmissionPorts = rules.RejectSubmission
	}
	return options
}

// guardRelays are the relays whose addresses the guard keeps.
func guardRelays(cfg *config.Config) []guard.Relay {
	var relays []guard.Relay
	for _, from := range cfg.Relays {
		relay := guard.Relay{Name: from.Name, Host: from.Host}
		for _, endpoint := range from.Endpoints() {
			if !slices.Contains(relay.Ports, endpoint.Port) {
				relay.Ports = append(relay.Ports, endpoint.Port)
			}
		}
		relays = append(relays, relay)
	}
	return relays
}

// guardAllow are the direct connections that the guard leaves alone.
func guardAllow(cfg *config.Config) []guard.Allow {
	var allow []guard.Allow
	for _, from := range cfg.Firewall.Allow {
		allow = append(allow, guard.Allow(from))
	}
	return allow
}

// GuardOptions say what a guard process is made of.
type GuardOptions struct {
	Config       *config.Config
	Owner        Owner
	Load         LoadFunc
	Log          *zap.Logger
	Stored       map[string]*os.File // what the service manager kept for us
	RemoveOnExit bool                // the rules go with the process
	Ready        func()              // the rules are up
}

// guardProcess is the firewall half of the product, as one process runs it.
type guardProcess struct {
	options  GuardOptions
	guard    *guard.Guard
	cleanups cleanups
}

func newGuardProcess(options GuardOptions) (*guardProcess, error) {
	p := &guardProcess{options: options, cleanups: cleanups{log: options.Log}}
	made := guard.Options{
		Rules: RuleOptions(options.Config, options.Owner), Relays: guardRelays(options.Config),
		Allow: guardAllow(options.Config), Guessed: modeGuessed(options.Config),
		Lock: true, RemoveOnExit: options.RemoveOnExit,
		Socket: GuardSocket(), SocketGID: int(options.Owner.GID), State: guardState(),
		Logger: options.Log, Ready: options.Ready, StoredFDs: options.Stored, OnReload: p.reload,
	}
	if systemd.Managed() {
		made.StoreFD = systemd.StoreFD
	}
	if events := p.openEvents(); events != nil {
		made.Audit = events
	}
	var err error
	if p.guard, err = guard.New(made); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the guard: %w", err), p.cleanups.run(context.Background()))
	}
	return p, nil
}

// modeGuessed tells of a mode that no file has: config.Salvage enforces where it
// cannot be read, while the default is to observe.
func modeGuessed(cfg *config.Config) bool { return cfg.Mode == config.Enforce && !cfg.ModeStated }

// guardState is where the guard remembers the mode that it was told to be in: the
// state directory that the manager gave us, or the packaged one. With a runtime
// directory of its own a guard is not the host's, and must not touch that one's.
func guardState() string {
	for _, directory := range filepath.SplitList(os.Getenv("STATE_DIRECTORY")) {
		// Others in the list may be the proxy's, which must not order anything.
		if filepath.Base(directory) == filepath.Base(guard.StateDir) {
			return directory
		}
	}
	if directory := os.Getenv("RUNTIME_DIRECTORY"); directory != "" {
		return filepath.Join(directory, filepath.Base(guard.StateDir))
	}
	return guard.StateDir
}

// openEvents opens the audit log. Without it the guard still guards: the rules
// matter more than their record, and the log says that it is missing.
func (p *guardProcess) openEvents() *audit.Log {
	path := filepath.Join(p.options.Config.Audit.Directory, AttemptLog)
	events, err := audit.Open(path, audit.Options{Logger: p.options.Log.Named("audit")})
	if err != nil {
		p.options.Log.Error("audit log cannot be written, attempts go unrecorded", zap.Error(err))
		return nil
	}
	p.cleanups.add("audit log", func(context.Context) error { return events.Close() })
	return events
}

// reload reads the configuration and applies its rules and relays.
func (p *guardProcess) reload(ctx context.Context) error {
	cfg, err := p.options.Load()
	if err != nil {
		return err
	}
	if err := keepsBlock(p.options.Config, cfg); err != nil {
		return err
	}
	next := guard.Options{Rules: RuleOptions(cfg, p.options.Owner), Relays: guardRelays(cfg), Allow: guardAllow(cfg)}
	if err := p.guard.Reload(ctx, next); err != nil {
		return fmt.Errorf("reloading the guard: %w", err)
	}
	p.options.Config = cfg
	return nil
}

// keepsBlock refuses a file that would take the block down by not saying a word
// about it: that is an explicit act.
func keepsBlock(now, next *config.Config) error {
	if now.Mode == config.Enforce && next.Mode == config.Observe && !next.ModeStated {
		return errors.New("the file has no mode, and the host is in enforce mode: write mode = \"observe\" to take the block down")
	}
	return nil
}

// run keeps the rules up until ctx ends.
func (p *guardProcess) run(ctx context.Context) error {
	err := p.guard.Run(ctx)
	return errors.Join(err, p.cleanups.run(context.WithoutCancel(ctx)))
}

// Guard runs the guard process until it is told to stop. The rules stay.
func Guard(ctx context.Context, cfg *config.Config, load LoadFunc) error {
	log, _ := NewLogger(cfg.Log.Level)
	defer func() { _ = log.Sync() }()
	signals, stopCatching := catchSignals()
	defer stopCatching()
	owner, err := LookupOwner()
	if err != nil {
		return err
	}
	stored, err := storedFiles()
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	p, err := newGuardProcess(GuardOptions{
		Config: cfg, Owner: owner, Load: load, Log: log, Stored: stored, Ready: func() { close(ready) },
	})
	if err != nil {
		return err
	}
	return p.serve(ctx, ready, signals)
}

// serve runs the guard beside the signal loop, and ends both together.
func (p *guardProcess) serve(ctx context.Context, ready <-chan struct{}, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { // ends with ctx, which the loop below cancels; waited for in stop
		ended <- p.run(ctx)
		cancel()
	}()
	select {
	case <-ready:
	case <-ctx.Done():
		return <-ended
	}
	service := &process{
		log: p.options.Log, signals: signals,
		status: func() string { return "mode " + p.guard.Mode().Mode },
		reload: p.reload,
		stop: func(context.Context) error {
			cancel()
			return <-ended
		},
	}
	return service.runUntilStopped(ctx)
}

func storedFiles() (map[string]*os.File, error) {
	passed, err := systemd.Passed()
	if err != nil {
		return nil, fmt.Errorf("taking over what the service manager kept: %w", err)
	}
	stored := make(map[string]*os.File, len(passed))
	for _, socket := range passed {
		stored[socket.Name] = socket.File
	}
	return stored, nil
}

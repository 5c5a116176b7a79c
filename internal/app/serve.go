package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/systemd"
)

// LoadFunc reads the configuration again, for a reload. It reports problems to
// people itself; a nil Config comes with an error.
type LoadFunc func() (*config.Config, error)

// Serve runs the proxy process until it is told to stop.
func Serve(ctx context.Context, cfg *config.Config, load LoadFunc) error {
	log, level := NewLogger(cfg.Log.Level)
	defer func() { _ = log.Sync() }()
	signals, stopCatching := catchSignals()
	defer stopCatching()
	if err := keepSecretsInside(); err != nil {
		return err
	}
	passed, err := systemd.Passed()
	if err != nil {
		return fmt.Errorf("taking over passed sockets: %w", err)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	p, err := StartProxy(ctx, ProxyOptions{
		Config: cfg, Passed: passed, Guard: GuardSocket(), Log: log, LogLevel: level,
	})
	if err != nil {
		return err
	}
	p.announce()
	service := &process{log: log, signals: signals, status: p.statusLine, stop: p.Stop, reload: func(ctx context.Context) error {
		next, err := load()
		if err != nil {
			return err
		}
		return p.Reload(ctx, next)
	}}
	return service.runUntilStopped(ctx)
}

// gcPercent is how much garbage may gather beside what is in use. Go's own 100
// makes a proxy with 200 large messages under way a tenth larger, and costs less
// than one part in a hundred of the processor's time (docs/performance.md).
const gcPercent = 75

// keepSecretsInside makes the relay's password unreadable from outside: no core
// dump, and no /proc or ptrace for others of the proxy's user.
func keepSecretsInside() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("closing the process to others: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	return nil
}

// announce logs where the proxy listens and what becomes of mail.
func (p *Proxy) announce() {
	var addresses []string
	for _, address := range p.Addresses() {
		addresses = append(addresses, address.String())
	}
	p.log.Info("accepting mail", zap.Strings("addresses", addresses), zap.Int("relays", len(p.config.Relays)))
	if len(p.config.Relays) == 0 {
		p.log.Warn("no relay is configured: mail is held in the spool until there is one")
	}
}

// statusLine is what `systemctl status` shows.
func (p *Proxy) statusLine() string {
	if len(p.config.Relays) > 0 {
		return fmt.Sprintf("accepting mail for %s", strings.Join(p.config.Delivery.Relays, ", "))
	}
	return "holding mail: no [relay] is configured"
}

// Check finds what validation of the file alone cannot: certificates, CA files
// and rules that do not load.
func Check(cfg *config.Config) error {
	set := relaySet{book: noBook{}, log: zap.NewNop()}
	name := hostName(cfg, "localhost") // the machine's own plays no part in being valid
	_, relayErr := set.build(cfg, name)
	_, policyErr := newPolicy(cfg.Policy)
	_, accountErr := newAccounts(cfg.Accounts, nil)
	certificates, err := certificateOptions(withStandIns(cfg), name)
	if err == nil {
		err = certificates.Validate()
	}
	return errors.Join(relayErr, policyErr, accountErr, err)
}

// ProbeRelays connects to each relay as a delivery would, up to AUTH, and gives
// what came of it by the relay's name.
func ProbeRelays(ctx context.Context, cfg *config.Config, log *zap.Logger) map[string]error {
	set := relaySet{book: newGuardBook(GuardSocket(), log), log: log}
	built, err := set.build(cfg, hostName(cfg, machineName(ctx)))
	results := make(map[string]error, len(built))
	if err != nil {
		results["*"] = err
		return results
	}
	for name, b := range built {
		results[name] = b.pool.Probe(ctx)
		b.pool.Retire()
	}
	return results
}

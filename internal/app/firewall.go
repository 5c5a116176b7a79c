package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// Firewall is the rules without the services: what `smtpwall firewall` does.
type Firewall struct {
	config *config.Config
	owner  Owner
	log    *zap.Logger
}

// NewFirewall is for the rules of a configuration.
func NewFirewall(cfg *config.Config, owner Owner) *Firewall {
	log, _ := NewLogger("warn")
	return &Firewall{cfg, owner, log}
}

// Text is the rules as nft prints and loads them, with the relays' addresses of
// now. The lock table is left out: only a process that stays can have it.
func (f *Firewall) Text(ctx context.Context) (string, error) {
	options, err := f.resolved(ctx, "") // what was ordered is root's to read
	if err != nil {
		return "", err
	}
	ruleset, err := rules.New(options)
	if err != nil {
		return "", err
	}
	return ruleset.Render(), nil
}

// Apply loads the rules, in the mode that was ordered last. They stay until Remove; without a guard nobody puts
// them back, follows the relays' addresses or records attempts.
func (f *Firewall) Apply(ctx context.Context) error {
	options, err := f.resolved(ctx, guardState())
	if err != nil {
		return err
	}
	return withConn(func(conn *nft.Conn) error { return conn.Apply(ctx, options) })
}

// Remove takes the rules away, through the guard if one runs: it would put them
// back otherwise.
func (f *Firewall) Remove(ctx context.Context) error {
	client := guard.NewClient(GuardSocket(), zap.NewNop())
	defer func() { _ = client.Close() }()
	err := client.Release(ctx)
	if !isAbsent(err) {
		return err
	}
	return withConn(func(conn *nft.Conn) error { return conn.Remove(ctx) })
}

// Status compares the kernel with the configuration, or with the mode that a
// running guard was told to be in.
func (f *Firewall) Status(ctx context.Context) (status nft.Status, err error) {
	options := RuleOptions(f.config, f.owner)
	if guarding, err := GuardStatus(ctx); err == nil {
		options.Mode = rules.Observe
		if guarding.Mode == rules.Enforce.String() {
			options.Mode = rules.Enforce
		}
		options = guarding.LeftAlone.Into(options)
	} else {
		options = f.asGuarded(ctx, options, guardState())
	}
	err = withConn(func(conn *nft.Conn) error {
		status, err = conn.Status(ctx, options)
		return err
	})
	return status, err
}

func withConn(do func(*nft.Conn) error) error {
	conn, err := nft.Open(nft.Options{})
	if err != nil {
		return err
	}
	return errors.Join(do(conn), conn.Close())
}

// asGuarded are the rules as a guard would have them now: in the mode that it was
// ordered, and with what is allowed to connect directly. Of what is not known,
// nothing is allowed. The state is the directory in which a guard left its orders;
// none if empty.
func (f *Firewall) asGuarded(ctx context.Context, options rules.Options, state string) rules.Options {
	options, err := guard.Resolve(ctx, guard.Options{Rules: options, Allow: guardAllow(f.config), State: state})
	if err != nil {
		f.log.Warn("not all of the rules is known", zap.Error(err))
	}
	return options
}

// resolved are the rules with the addresses of now.
func (f *Firewall) resolved(ctx context.Context, state string) (rules.Options, error) {
	options := RuleOptions(f.config, f.owner)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	options = f.asGuarded(ctx, options, state)
	for _, relay := range f.config.Relays {
		addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", relay.Host)
		if err != nil {
			return options, fmt.Errorf("resolving relay %q: %w", relay.Name, err)
		}
		for _, endpoint := range relay.Endpoints() {
			for _, address := range addresses {
				options.Relays = append(options.Relays, netip.AddrPortFrom(address.Unmap(), endpoint.Port))
			}
		}
	}
	return options, nil
}

// GuardStatus asks the guard for its state. It needs root; ErrNoGuard means
// that none runs.
func GuardStatus(ctx context.Context) (guard.Status, error) {
	client := guard.NewClient(GuardSocket(), zap.NewNop())
	defer func() { _ = client.Close() }()
	status, err := client.Status(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return status, fmt.Errorf("asking the guard: %w: that is for root", err)
	case isAbsent(err):
		return status, ErrNoGuard
	}
	return status, err
}

// ErrNoGuard means that no guard runs on this host.
var ErrNoGuard = errNoGuard

package app

import (
	"context"
	"net"
	"os"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/policy"
)

// hostName is the configured name, or the machine's own.
func hostName(cfg *config.Config, machine string) string {
	if cfg.Host.Name != "" {
		return cfg.Host.Name
	}
	return machine
}

// lookupTime bounds the look-up of the machine's own name: a name server that
// is away must not hold the start.
const lookupTime = 2 * time.Second

// machineName is the machine's name, fully qualified where the host's resolver
// can make it so.
func machineName(ctx context.Context) string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	if strings.Contains(name, ".") {
		return name
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	full, err := net.DefaultResolver.LookupCNAME(ctx, name)
	if full = strings.TrimSuffix(full, "."); err == nil && strings.Contains(full, ".") {
		return full
	}
	return name
}

// newPolicy compiles the rules.
func newPolicy(from config.Policy) (*policy.Policy, error) {
	rules := make([]policy.Rule, 0, len(from.Rules))
	for _, rule := range from.Rules {
		rules = append(rules, policy.Rule{
			Name:       rule.Name,
			Match:      newMatch(rule.Match),
			Senders:    rule.Senders,
			Recipients: rule.Recipients,
			HeaderFrom: string(rule.HeaderFrom),
			Decision:   newResult(rule.Decision),
			Relay:      rule.Relay,
		})
	}
	return policy.New(newResult(from.Default), rules)
}

func newMatch(from config.Match) policy.Match {
	match := policy.Match{User: from.User, UID: from.UID, Group: from.Group, Unit: from.Unit, Container: from.Container, Account: from.Account}
	for _, role := range from.Listener {
		match.Listener = append(match.Listener, string(role))
	}
	return match
}

func newResult(from config.Result) policy.Result {
	switch from {
	case config.Allow:
		return policy.Allow
	case config.Defer:
		return policy.Defer
	case config.Hold:
		return policy.Hold
	}
	return policy.Deny
}

// newAccounts is nil where no account is configured. Accounts that previous has
// too keep what is remembered of them.
func newAccounts(from []config.Account, previous *auth.Store) (*auth.Store, error) {
	if len(from) == 0 {
		return nil, nil
	}
	accounts := make([]auth.Account, 0, len(from))
	for _, account := range from {
		accounts = append(accounts, auth.Account{Name: account.Name, Password: account.Password, SCRAM: account.SCRAM, Certificates: account.Certificates})
	}
	return auth.New(accounts, auth.Options{Previous: previous})
}

// maxErrors is how many commands of a session may be refused; a client that
// works makes a few, one that guesses makes many.
const maxErrors = 20

func newLimits(from config.Session) proxy.Limits {
	return proxy.Limits{
		MaxMessage:         from.MaxMessage,
		MaxRecipients:      from.MaxRecipients,
		MaxSessions:        from.MaxSessions,
		MaxSessionsPerPeer: from.MaxSessionsPerPeer,
		MaxErrors:          maxErrors,
		IdleTimeout:        from.IdleTimeout,
		DataTimeout:        from.DataTimeout,
		HandshakeTimeout:   30 * time.Second,
		RelayPatience:      20 * time.Second,
	}
}

package app

import (
	"context"
	"slices"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/limit"
)

// Standing is what the running proxy knows of an identity: how much room it and
// what is above it have, and who is suspended.
type Standing struct {
	Limits      []admin.LimitState
	Suspensions []limit.Suspension // all of them
}

// AskStanding asks the proxy about whoever a question is about. It fails with ErrNoProxy, ErrNoAdmin or
// ErrNotAllowed.
func AskStanding(ctx context.Context, cfg *config.Config, q Question) (s Standing, err error) {
	rules, err := newPolicy(cfg.Policy)
	if err != nil {
		return s, err
	}
	rule := rules.Session(q.Identity, string(q.Listener)).Rule
	client, err := askProxy(ctx, cfg)
	if err != nil {
		return s, err
	}
	if s.Suspensions, err = client.Suspensions(ctx); err != nil {
		return s, err
	}
	for _, key := range keysOf(SpoolIdentity(q.Identity)).Suspendable {
		states, err := client.Limits(ctx, key, rule)
		if err != nil {
			return s, err
		}
		for _, state := range states {
			twice := slices.ContainsFunc(s.Limits, func(l admin.LimitState) bool { return l.Key == state.Key && l.Limit == state.Limit })
			if !twice { // the host is above each of them
				s.Limits = append(s.Limits, state)
			}
		}
	}
	return s, nil
}

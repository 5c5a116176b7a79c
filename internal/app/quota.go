package app

import (
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/breaker"
	"github.com/smtpwall/smtpwall/proxy/filter"
	"github.com/smtpwall/smtpwall/proxy/limit"

	"go.uber.org/zap"
)

// newQuota is the policy's limits, ladders and budgets.
func newQuota(from config.Policy) proxy.Quota {
	quota := proxy.Quota{
		Default: newAllotment(from, nil), Rules: map[string]*proxy.Allotment{},
		Budgets: proxy.Budgets{
			Host: newLimitList(from.Budgets.Host), Unit: newLimitList(from.Budgets.Unit), Container: newLimitList(from.Budgets.Container),
			User: newLimitList(from.Budgets.User), Account: newLimitList(from.Budgets.Account), Sender: newLimitList(from.Budgets.Sender),
		},
	}
	for i := range from.Rules {
		if rule := &from.Rules[i]; rule.LimitsStated || rule.LadderStated {
			allotment := newAllotment(from, rule)
			quota.Rules[rule.Name] = &allotment
		}
	}
	return quota
}

func newAllotment(from config.Policy, rule *config.Rule) proxy.Allotment {
	a := proxy.Allotment{Limits: newLimitList(from.LimitsFor(rule)), SuspendFor: from.SuspendFor}
	for _, rung := range from.LadderFor(rule) {
		a.Ladder = append(a.Ladder, limit.Rung{Action: actions[rung.Action], Percent: rung.Percent})
	}
	return a
}

// actions and counted are the configuration's words.
var (
	actions = map[config.Action]limit.Action{
		config.ActionSlow: limit.Slow, config.ActionDefer: limit.Defer, config.ActionHold: limit.Hold, config.ActionSuspend: limit.Suspend,
	}
	counted = map[config.Counted]limit.Counted{
		config.Messages: limit.Messages, config.Recipients: limit.Recipients, config.NewRecipients: limit.NewRecipients, config.Bytes: limit.Bytes,
	}
)

func newLimitList(from []config.Limit) (limits []limit.Limit) {
	for _, l := range from {
		limits = append(limits, limit.Limit{Counted: counted[l.Counted], Max: l.Max, Window: l.Window})
	}
	return limits
}

// newBreakers are the rules of those that are on.
func newBreakers(from config.Breakers) (rules []breaker.Rule) {
	for _, b := range []struct {
		kind breaker.Kind
		config.Breaker
	}{
		{breaker.Refused, from.Refused}, {breaker.Senders, from.Senders}, {breaker.Identical, from.Identical}, {breaker.Burst, from.Burst},
	} {
		if b.Action != config.BreakerOff {
			rules = append(rules, breaker.Rule{
				Kind: b.kind, Report: b.Action == config.BreakerReport, Share: b.Share, Least: b.Least, Times: b.Times, Window: b.Window, For: b.For,
			})
		}
	}
	return rules
}

// newFilters makes the filters anew; nothing is dialled before a message.
func newFilters(cfg *config.Config, log *zap.Logger) (filters []*filter.Filter) {
	for _, f := range cfg.Filters {
		filters = append(filters, filter.New(filter.Options{
			Name: f.Name, Network: f.Network, Address: f.Address, Accept: f.OnFailure == config.FilterAccept, Timeout: f.Timeout,
			MaxMessage: 2 * cfg.Session.MaxMessage, TempDir: cfg.Delivery.Spool, Logger: log,
		}))
	}
	return filters
}

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/smtpwall/smtpwall/internal/admin"
	"github.com/smtpwall/smtpwall/internal/app"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/policy"
)

// answer is what policy says, and what the running proxy knows beside it.
type answer struct {
	app.Explanation
	Limits  []admin.LimitState `json:"limits"`
	Unknown string             `json:"limits_unknown,omitempty"` // why Limits is empty
}

// newAnswer explains, and takes in what the proxy said, or why it said nothing.
func newAnswer(cfg *config.Config, q app.Question, standing app.Standing, unknown error) (*answer, error) {
	q.Suspensions = standing.Suspensions
	e, err := app.Explain(cfg, q)
	if err != nil {
		return nil, &userError{status: exitUsage, message: err.Error()}
	}
	a := &answer{Explanation: e, Limits: standing.Limits}
	if a.Limits == nil {
		a.Limits = []admin.LimitState{}
	}
	if unknown != nil {
		a.Unknown = unknown.Error()
	}
	return a, nil
}

// print says everything, for people.
func (a *answer) print(w io.Writer, now time.Time) {
	fmt.Fprintln(w, "rules, in order:")
	table(w, func(row func(...string)) {
		for _, step := range a.Rules {
			row(stepName(step), stepWord(step), visible(step.Why))
		}
	})
	if rule := a.Decider(); rule != nil {
		a.printRule(w, rule)
	}
	fmt.Fprintln(w, "decision:")
	table(w, func(row func(...string)) {
		for _, s := range a.Stages {
			row(strings.TrimSpace(s.Stage+" "+visible(s.Address)), s.Result, visible(s.Reason))
		}
		if s := a.Suspension; s != nil {
			row("suspension", a.Result, suspensionText(s))
		}
	})
	a.printLimits(w, now)
	for _, line := range []struct {
		name string
		list []string
	}{{"filters that are not asked here", a.Filters}, {"may itself connect to", a.Direct}} {
		if len(line.list) > 0 {
			fmt.Fprintf(w, "%s: %s\n", line.name, visible(strings.Join(line.list, ", ")))
		}
	}
}

func stepName(s policy.Step) string {
	if s.Rule == "" {
		return "(none)"
	}
	return visible(s.Rule)
}

func stepWord(s policy.Step) string {
	switch {
	case s.Decided:
		return "decides"
	case s.Matched:
		return "fits, too late"
	}
	return "does not fit"
}

// printRule is what the deciding rule asks of addresses.
func (a *answer) printRule(w io.Writer, rule *config.Rule) {
	fmt.Fprintf(w, "rule %q says %s", rule.Name, rule.Decision)
	if rule.Decision != config.Deny {
		fmt.Fprintf(w, " for senders %s, recipients %s, From field: %s", patternsText(rule.Senders), patternsText(rule.Recipients), rule.HeaderFrom)
	}
	fmt.Fprintln(w)
}

func patternsText(patterns []string) string {
	if len(patterns) == 0 {
		return "*"
	}
	return visible(strings.Join(patterns, " "))
}

func suspensionText(s *limit.Suspension) string {
	text := fmt.Sprintf("%s is suspended since %s", s.Key, timeText(s.Since))
	if !s.Until.IsZero() {
		text += " until " + timeText(s.Until)
	}
	if s.By != "" {
		text += " by " + s.By
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return visible(text)
}

// printLimits is what must have room, and how much there is.
func (a *answer) printLimits(w io.Writer, now time.Time) {
	if len(a.Budgets) == 0 {
		fmt.Fprintln(w, "limits: none")
		return
	}
	fmt.Fprintln(w, "limits, and their use by now:")
	table(w, func(row func(...string)) {
		for _, b := range a.Budgets {
			for _, l := range b.Limits {
				row(visible(b.Key), l, a.roomText(b.Key, l, now))
			}
		}
		row("ladder", ladderText(a.Ladder))
		for _, s := range a.Limits {
			if s.Raised > 0 {
				row("raised", raisedText(a.Ladder, &s))
			}
		}
	})
	if a.Unknown != "" {
		fmt.Fprintln(w, "their use is not known:", visible(a.Unknown))
	}
}

// raisedText says where the ladder begins after a breaker has tripped.
func raisedText(ladder []string, s *admin.LimitState) string {
	from := "at its end"
	if s.Raised <= len(ladder) {
		from, _, _ = strings.Cut(ladder[s.Raised-1], " at ")
	}
	return fmt.Sprintf("the ladder begins with %s until %s: %s", from, timeText(s.Opens), visible(s.Why))
}

func ladderText(rungs []string) string {
	if len(rungs) == 0 {
		return "none: what has no room is deferred"
	}
	return strings.Join(rungs, ", ")
}

// roomText is the state of one limit, as the running proxy told it.
func (a *answer) roomText(key, limit string, now time.Time) string {
	i := slices.IndexFunc(a.Limits, func(s admin.LimitState) bool { return s.Key == key && s.Limit == limit })
	if i < 0 {
		return "unknown"
	}
	s := a.Limits[i]
	text := fmt.Sprintf("%d of %d used", s.Used, s.Max)
	if s.Refused > 0 {
		text += fmt.Sprintf(", %d refused", s.Refused)
	}
	if s.Opens.After(now) {
		text += ", opens " + timeText(s.Opens)
	}
	return text
}

// resultText is the decision as a whole, in one line.
func (a *answer) resultText() string {
	text := a.Result + ": " + visible(a.Reason)
	if a.Rule != "" {
		text += fmt.Sprintf(" (rule %q)", a.Rule)
	}
	if a.Relay != "" && a.Result == policy.Allow.String() {
		text += ", by relay " + visible(a.Relay)
	}
	return text
}

// transaction is the decision about a transaction: one that some recipients are
// denied goes on with the others. partly says how many those are.
func (a *answer) transaction() (result, reason string, partly int) {
	first, rcpts := a.Stages[0], 0
	for _, s := range a.Stages {
		denied := s.Result == policy.Deny.String()
		if s.Stage == app.StageRcpt {
			rcpts++
		}
		switch {
		case denied && s.Stage == app.StageRcpt:
			partly++
		case denied:
			return a.Result, a.Reason, 0
		}
	}
	if a.Suspension != nil || partly == rcpts {
		return a.Result, a.Reason, 0
	}
	return first.Result, first.Reason, partly
}

// checksHeader says whether a rule looks at the From field.
func checksHeader(rule *config.Rule) bool {
	return rule.Decision != config.Deny && rule.HeaderFrom == config.HeaderFromSenders &&
		len(rule.Senders) > 0 && !slices.Contains(rule.Senders, "*")
}

// table prints rows of columns, indented.
func table(w io.Writer, fill func(row func(columns ...string))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fill(func(columns ...string) { fmt.Fprintln(t, "  "+strings.Join(columns, "\t")) })
}

// policyIdentityText is every attribute of an identity that is known.
func policyIdentityText(id policy.Identity) string {
	kept := app.SpoolIdentity(id)
	text := identityText(kept)
	if kept.Owner != nil {
		text += fmt.Sprintf(", subordinate to uid %d", *kept.Owner)
	}
	if len(kept.Groups) > 0 {
		text += ", groups " + visible(strings.Join(kept.Groups, " "))
	}
	return text
}

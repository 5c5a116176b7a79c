package app

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy/audit"
)

// Expectations tries each [[expect]] of a configuration, and gives an error for
// each that fails. file is named in them.
func Expectations(cfg *config.Config, file string, now time.Time) []config.Problem {
	var problems []config.Problem
	for i := range cfg.Expects {
		expect := &cfg.Expects[i]
		if message := disappointment(cfg, expect, now); message != "" {
			problems = append(problems, config.Problem{
				File: file, Line: expect.Line, Key: "expect", Message: message, Severity: config.Error,
				Hint: testCommand(expect) + " shows each rule and why",
			})
		}
	}
	return problems
}

// disappointment is how the policy decides otherwise; "" if it does not.
func disappointment(cfg *config.Config, expect *config.Expect, now time.Time) string {
	id, err := whoExpects(expect).Identity()
	if err != nil && !errors.Is(err, ErrNoUser) {
		return err.Error()
	}
	q := Question{
		Identity: id, Listener: expect.Listener, Time: now,
		From: cmp.Or(expect.From, audit.NullReversePath), To: expect.To,
	}
	if expect.HeaderFrom != "" {
		q.Header = []byte("From: " + expect.HeaderFrom + "\r\n")
	}
	e, why := Explain(cfg, q)
	switch {
	case why != nil:
		return why.Error()
	case e.Result != string(expect.Decision):
		return fmt.Sprintf("wants %s, gets %s%s", expect.Decision, e.verdict(), unless(err))
	case expect.Rule != "" && e.Rule != expect.Rule:
		return fmt.Sprintf("wants rule %q to decide, gets %s%s", expect.Rule, e.verdict(), unless(err))
	}
	return ""
}

// unless tells of what may have led a decision astray.
func unless(err error) string {
	if err == nil {
		return ""
	}
	return "; " + err.Error()
}

// verdict is the decision with where it fell, why and by which rule.
func (e *Explanation) verdict() string {
	var b strings.Builder
	b.WriteString(e.Result)
	for _, s := range e.Stages[1:] { // who it is speaks for itself
		if e.Stages[0].Result != e.Result && s.Result == e.Result && s.Reason == e.Reason {
			b.WriteString(" at " + s.Stage + " of " + s.Address)
			break
		}
	}
	b.WriteString(": " + e.Reason)
	switch {
	case e.Rule != "":
		fmt.Fprintf(&b, " (rule %q)", e.Rule)
	case len(e.Rules) > 1:
		b.WriteString(" (no rule)")
	}
	return b.String()
}

// testCommand is the command line that asks the same.
func testCommand(expect *config.Expect) string {
	words := []string{"smtpwall test"}
	add := func(flag, value string) {
		if value != "" {
			words = append(words, flag, shellWord(value))
		}
	}
	switch {
	case expect.User != "":
		add("--as", expect.User)
	case expect.UID != "":
		add("--as", "uid:"+expect.UID)
	case expect.Unit+expect.Container+expect.Account == "":
		add("--as", "unknown")
	}
	add("--account", expect.Account)
	add("--unit", expect.Unit)
	add("--container", expect.Container)
	if expect.Listener != config.RoleSubmission {
		add("--listener", string(expect.Listener))
	}
	add("--from", cmp.Or(expect.From, audit.NullReversePath))
	for _, to := range expect.To {
		add("--to", to)
	}
	add("--header-from", expect.HeaderFrom)
	return strings.Join(words, " ")
}

// shellWord quotes what a shell would not take as it is.
func shellWord(s string) string {
	plain := strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-+:/=") == ""
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

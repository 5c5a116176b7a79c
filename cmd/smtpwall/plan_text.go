package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/internal/plan"
)

// How much of a plan people are shown; JSON has all.
const (
	maxPlanned  = 100 // identities
	maxTargets  = 4   // destinations of a fate of one of them
	maxPlanGaps = 10
)

// printPlan is the plan for people: how long was watched, what would become of
// everybody, what may be missing, and what to paste.
func (c *console) printPlan(p *plan.Plan, mode, path string) {
	c.printWatch(&p.Watch, mode)
	fmt.Fprintf(c.out, "\nenforcing would refuse %s, redirect %d to smtpwall, and leave %d alone\n",
		counted(p.Refused, "connection"), p.Redirected, p.Allowed)
	for _, entry := range p.LeftAlone {
		fmt.Fprintf(c.out, "left alone already, not counted here: %s: %s\n", visible(entry.Name), counted(entry.Count, "connection"))
	}
	for i := range p.Identities[:min(len(p.Identities), maxPlanned)] {
		fmt.Fprintln(c.out)
		c.printEntry(&p.Identities[i])
	}
	if more := len(p.Identities) - maxPlanned; more > 0 {
		fmt.Fprintf(c.out, "\nand %d more: --json has all\n", more)
	}
	if len(p.Missing) > 0 {
		fmt.Fprintln(c.out, "\nwhat may be missing:")
		for _, sentence := range p.Missing {
			fmt.Fprintln(c.out, "  - "+visible(sentence))
		}
	}
	if p.Proposal == "" {
		fmt.Fprintln(c.out, "\nnothing to propose: nobody was seen")
		return
	}
	fmt.Fprintf(c.out, "\nto paste into %s:\n\n%s", visible(path), p.Proposal)
}

func (c *console) printWatch(w *plan.Watch, mode string) {
	fmt.Fprintln(c.out, mode)
	if w.From.IsZero() {
		fmt.Fprintln(c.out, "watched: never")
		return
	}
	text := fmt.Sprintf("watched: %s, from %s to ", spanText(w.Duration()), timeText(w.From))
	if w.Running {
		text += "now"
	} else {
		text += timeText(w.To)
	}
	if w.Cut {
		text += ", and before, of which the logs do not tell"
	}
	fmt.Fprintln(c.out, text)
	for _, gap := range w.Gaps[:min(len(w.Gaps), maxPlanGaps)] {
		why := "the guard did not run"
		if gap.Crashed {
			why = "the guard ended without a word, at some time of it"
		}
		fmt.Fprintf(c.out, "  not from %s to %s, %s: %s\n", timeText(gap.From), timeText(gap.To), spanText(gap.To.Sub(gap.From)), why)
	}
	if more := len(w.Gaps) - maxPlanGaps; more > 0 {
		fmt.Fprintf(c.out, "  and %d more times\n", more)
	}
}

// modeText is the mode of now, in a line.
func modeText(status *guard.Status, err error) string {
	if err != nil {
		return "mode unknown: " + visible(err.Error())
	}
	return "mode " + modeLine(&status.ModeState)
}

func (c *console) printEntry(e *plan.Entry) {
	fmt.Fprintln(c.out, plannedText(e))
	for _, fate := range []plan.Fate{plan.Refuse, plan.Redirect, plan.Allow} {
		n := map[plan.Fate]uint64{plan.Refuse: e.Refused, plan.Redirect: e.Redirected, plan.Allow: e.Allowed}[fate]
		if n > 0 {
			fmt.Fprintf(c.out, "  %-10s%d: %s\n", fate, n, targetsText(e, fate))
		}
	}
	if len(e.Submitted) > 0 {
		fmt.Fprintf(c.out, "  submitted %s\n", submittedText(e))
	}
	if d := e.Decision; d != nil {
		fmt.Fprintf(c.out, "  policy    %s: %s\n", d.Result, visible(because(d)))
	}
	fmt.Fprintf(c.out, "  seen      %s to %s, at most %d in an hour\n", timeText(e.First), timeText(e.Last), e.BusiestHour)
}

func because(d *plan.Decision) string {
	if d.Rule == "" {
		return d.Reason
	}
	return fmt.Sprintf("%s %q", d.Reason, d.Rule)
}

// plannedText names an identity.
func plannedText(e *plan.Entry) string {
	switch e.Kind {
	case plan.KindContainer:
		text := "container " + visible(e.Container)
		if e.Forwarded && e.Source.IsValid() {
			text += ", by " + e.Source.String()
		}
		return text
	case plan.KindForwarded:
		return "behind this host: " + e.Source.String()
	case plan.KindAccount:
		return "account " + visible(e.Account)
	case plan.KindUnknown:
		return "not told apart"
	}
	text := "uid " + e.UID.String()
	if e.User != "" {
		text = visible(e.User) + " (" + text + ")"
	}
	if e.Unit != "" {
		text += " in " + visible(e.Unit)
	}
	return text
}

// targetsText are the destinations of one fate, the most frequent first.
func targetsText(e *plan.Entry, fate plan.Fate) string {
	var parts []string
	left := 0
	for _, d := range e.Destinations {
		if d.Fate != fate {
			continue
		}
		if len(parts) == maxTargets {
			left++
			continue
		}
		text := "not told apart"
		if d.Address.IsValid() {
			text = d.Address.String()
		}
		if d.By != "" {
			text += " by " + visible(d.By)
		}
		parts = append(parts, fmt.Sprintf("%s (%d)", text, d.Count))
	}
	text := strings.Join(parts, ", ")
	switch {
	case left > 0 && e.Others > 0:
		text += fmt.Sprintf(" and more than %d others", left)
	case left > 0:
		text += fmt.Sprintf(" and %d others", left)
	case text == "":
		text = "many destinations"
	}
	return text
}

// submittedText counts messages by decision, and says from where.
func submittedText(e *plan.Entry) string {
	var parts, senders []string
	for _, decision := range slices.Sorted(maps.Keys(e.Submitted)) {
		parts = append(parts, fmt.Sprintf("%d %s", e.Submitted[decision], visible(submittedWord(decision))))
	}
	for _, sender := range e.Senders[:min(len(e.Senders), maxTargets)] {
		senders = append(senders, fmt.Sprintf("%s (%d)", visible(sender.Name), sender.Count))
	}
	text := strings.Join(parts, ", ")
	if len(senders) == 0 {
		return text
	}
	text += "; from " + strings.Join(senders, ", ")
	if more := len(e.Senders) - len(senders); more > 0 {
		text += fmt.Sprintf(" and %d other domains", more)
	}
	return text
}

// submittedWord is what became of messages; a decision that this version does
// not know stands for itself.
func submittedWord(decision string) string {
	words := map[string]string{"allow": "allowed", "deny": "denied", "defer": "deferred", "hold": "held", "none": "broken off"}
	return cmp.Or(words[decision], decision)
}

func counted(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

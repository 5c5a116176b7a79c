package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rung is one step of a ladder: what happens from some use of a limit on.
type Rung struct {
	Action  Action
	Percent int // of the fullest limit, counting what it refused too; from 1 to 10000
}

// Action is what happens to the messages of an identity near or beyond a limit.
type Action string

// Actions, from the mildest to the most severe.
const (
	ActionSlow    Action = "slow"    // replies are delayed
	ActionDefer   Action = "defer"   // 450, with the time at which there is room again
	ActionHold    Action = "hold"    // accepted, and held until a person releases it
	ActionSuspend Action = "suspend" // the identity sends nothing any more
)

// String returns the rung as the file has it: "slow at 80%".
func (r Rung) String() string { return fmt.Sprintf("%s at %d%%", r.Action, r.Percent) }

// actions are the words of a ladder, by their severity.
var actions = []string{string(ActionSlow), string(ActionDefer), string(ActionHold), string(ActionSuspend)}

const ladderHint = `write an action and a percentage: "slow at 80%", "defer at 100%", "hold at 100%" or "suspend at 400%"`

// parseRung reads a rung such as "slow at 80%".
func parseRung(text string) (Rung, error) {
	words := strings.Fields(text)
	if len(words) != 3 || words[1] != "at" {
		return Rung{}, flaw{fmt.Sprintf("%q is not a rung of a ladder", text), ladderHint}
	}
	if !slices.Contains(actions, words[0]) {
		return Rung{}, flaw{fmt.Sprintf("%q: unknown action %q", text, words[0]), meant(words[0], actions, "use "+alternatives(actions))}
	}
	digits, ok := strings.CutSuffix(words[2], "%")
	percent, err := strconv.ParseUint(digits, 10, 31)
	switch {
	case !ok || err != nil:
		return Rung{}, flaw{fmt.Sprintf("%q: %q is not a percentage", text, words[2]), ladderHint}
	case percent < 1 || percent > 10_000:
		return Rung{}, flaw{fmt.Sprintf("%q: %s is not from 1%% to 10000%%", text, words[2]),
			"100% is the limit itself"}
	}
	return Rung{Action(words[0]), int(percent)}, nil
}

// ladder binds a list of rungs.
func ladder(into *[]Rung) binding {
	return list[Rung]{into, false, "a rung", `"defer at 100%"`, parseRung, func(r Rung) string { return quote(r.String()) }}
}

// severity orders the actions.
func (a Action) severity() int { return slices.Index(actions, string(a)) }

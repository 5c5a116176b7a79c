package config

import "fmt"

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

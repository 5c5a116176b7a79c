package limit

import "strconv"

// Action is what happens to a claim; the greater is the more severe.
type Action uint8

const (
	None    Action = iota
	Slow           // delay the replies
	Defer          // refuse, and say when to come again
	Hold           // accept and park
	Suspend        // switch the identity off
)

func (a Action) String() string {
	if a <= Suspend {
		return [...]string{"none", "slow", "defer", "hold", "suspend"}[a]
	}
	return "action " + strconv.Itoa(int(a))
}

// Rung is an action and the demand above which it begins, in per cent of the
// maximum: with "defer at 100%" a limit of 200 defers the 201st.
type Rung struct {
	Action  Action
	Percent int
}

// Ladder is rungs of rising per cent and severity.
type Ladder []Rung

// At gives the highest rung that this demand reached; for an identity that was
// raised n times it is at least the nth, or the topmost. An empty ladder gives
// None.
func (l Ladder) At(percent float64, raised int) Action {
	if rung := max(l.reached(percent), min(raised, len(l))-1); rung >= 0 {
		return l[rung].Action
	}
	return None
}

func (l Ladder) reached(percent float64) int {
	for i := len(l) - 1; i >= 0; i-- {
		if percent > float64(l[i].Percent) {
			return i
		}
	}
	return -1
}

// For gives what happens to a claim with this answer. Without room all rungs
// are reached by demand, and it is Defer at least, whatever the ladder. With room
// only Suspend is: the others look at what is used, so that an identity whose
// refused messages were tried again and again gets through as soon as there is room.
// For what others fill of a shared limit nobody is more than slowed or deferred.
func (l Ladder) For(a Answer, raised int) Action {
	if !a.Room {
		return max(l.At(a.Percent, raised), Defer)
	}
	if action := l.At(a.Percent, raised); action == Suspend {
		return Suspend
	}
	return max(l.At(a.Use, raised), min(l.At(a.Others, 0), Slow))
}

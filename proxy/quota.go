package proxy

import (
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/proxy/limit"
)

// Quota is how much may be sent, and what happens to who wants more. The zero
// value limits nobody.
type Quota struct {
	Default Allotment             // of an identity whose rule has none of its own
	Rules   map[string]*Allotment // by the name of the rule that decides
	Budgets Budgets
}

// Allotment is what one identity has.
type Allotment struct {
	Limits     []limit.Limit
	Ladder     limit.Ladder
	SuspendFor time.Duration // of the ladder's suspend; zero is until somebody resumes it
}

// isSoft says that the ladder ends with slow, at the limit or beyond: who is over
// it waits, and is not refused.
func (a *Allotment) isSoft() bool {
	last := len(a.Ladder) - 1
	return last >= 0 && a.Ladder[last].Action == limit.Slow && a.Ladder[last].Percent >= 100
}

// share is where the rung of an action begins, in per cent.
func (a *Allotment) share(action limit.Action) int {
	for _, rung := range a.Ladder {
		if rung.Action == action {
			return rung.Percent
		}
	}
	return 100
}

// isSlow says that so much was used before a claim that its replies come late:
// the first message of a small limit is not slowed. What the transaction has
// claimed before counts for what it claims once.
func (a *Allotment) isSlow(answer limit.Answer, claimed limit.Amount) bool {
	l := answer.Limit
	switch {
	case !answer.Room:
		return true
	case l.Counted == limit.Messages && claimed.Messages == 0 || l.Max <= 0:
		return false // MAIL was slowed
	}
	before := limit.Answer{Room: true, Use: 100 * float64(answer.Used) / float64(l.Max)}
	return a.Ladder.For(before, 0) == limit.Slow
}

// Budgets are above the identities, and shared by those that have the unit,
// container, user or account in common. A sender's is one reverse-path of one
// identity.
type Budgets struct{ Host, Unit, Container, User, Account, Sender []limit.Limit }

// hostKey is the key of the budget that everybody shares.
const hostKey = "host"

// allotment is that of a rule.
func (q *Quota) allotment(rule string) *Allotment {
	if a, ok := q.Rules[rule]; ok {
		return a
	}
	return &q.Default
}

// maxBudgets is how many budgets one transaction can have.
const maxBudgets = 6

// budgets appends those of a transaction to list, the identity's own first. One
// that has the identity's key too is counted once: it is the same sender.
func (q *Quota) budgets(list []limit.Budget, own *Allotment, k *Keys, reversePath string) []limit.Budget {
	b := &q.Budgets
	list = append(list, limit.Budget{Key: k.Identity, Limits: own.Limits})
	add := func(key string, limits []limit.Limit) {
		if key != "" && len(limits) > 0 {
			list = append(list, limit.Budget{Key: key, Limits: limits})
		}
	}
	share := func(key string, limits []limit.Limit) {
		if key != "" && len(limits) > 0 {
			list = append(list, limit.Budget{Key: key, Limits: limits, Shared: key != k.Identity})
		}
	}
	share(k.Account, b.Account)
	add(k.Container, b.Container)
	if len(b.Sender) > 0 {
		add(k.Sender(reversePath), b.Sender)
	}
	add(k.User, b.User)
	share(k.Unit, b.Unit)
	share(hostKey, b.Host)
	return list
}

// Show tells the budgets of an identity under the rule of a name, as far as its
// key says which those are.
func (q *Quota) Show(identity, rule string) []limit.Budget {
	k := &Keys{Identity: identity}
	switch kind, _, _ := strings.Cut(identity, ":"); kind {
	case "uid":
		k.User = "user:" + identity
	case "container":
		k.Container = identity
	case "account":
		k.Account = identity
	case "unit":
		return q.budgets(nil, &Allotment{}, &Keys{Unit: identity}, "")
	}
	list := q.budgets(nil, q.allotment(rule), k, "")
	return slices.DeleteFunc(list, func(b limit.Budget) bool { return strings.HasPrefix(b.Key, "sender:") })
}

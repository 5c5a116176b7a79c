package guard

import (
	"context"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

const (
	// maxDriftsTold bounds the differences that one event lists.
	maxDriftsTold = 5
	// maxChanges bounds the changes that wait to be told.
	maxChanges = 256
)

// watch lets the firewall put back what others change.
func (g *Guard) watch(ctx context.Context) error {
	g.conditions.set("watch", nil)
	return g.firewall.Watch(ctx, g.drifted)
}

// drifted notes a change of the rules. It must not wait: who puts the rules
// back calls it, and a disk that hangs must not keep the rules from coming
// back.
//
// A change without a difference is told as well: the comparison by the clock may
// have put back what it did, without knowing who did it.
func (g *Guard) drifted(c nft.Change) {
	if again := !g.conditions.set("rules", c.Err); again && c.Err != nil && c.PID == 0 {
		return // a repair is tried several times a second
	}
	if len(c.Drifts) > 0 || c.Err != nil {
		g.drifts.Add(1)
	}
	select {
	case g.changes <- c:
	default:
		g.untold.Add(1)
	}
}

// tellDrifts tells of changes until ctx is done, and then of those that are left.
func (g *Guard) tellDrifts(ctx context.Context) error {
	for {
		select {
		case c := <-g.changes:
			g.tellDrift(c)
		case <-ctx.Done():
			for len(g.changes) > 0 {
				g.tellDrift(<-g.changes)
			}
			return ctx.Err()
		}
	}
}

// tellDrift tells who changed the rules, and whether they are back.
func (g *Guard) tellDrift(c nft.Change) {
	total := g.drifts.Load()
	event := driftEvent(c)
	if n := g.untold.Swap(0); n > 0 {
		event.Reason += fmt.Sprintf("; and %d changes that were too fast to be told", n)
	}
	fields := []zap.Field{
		zap.Int(logfields.PeerPID, c.PID), zap.String(logfields.Name, c.Process), zap.String(logfields.PeerExe, event.PeerExe),
		zap.String(logfields.Reason, event.Reason), zap.Uint64(logfields.Count, total),
	}
	if c.Err != nil {
		g.log.Error("somebody changed the rules, they are not back", append(fields, zap.Error(c.Err))...)
	} else {
		g.log.Warn("somebody changed the rules, they are back", fields...)
	}
	g.announce(event)
}

func driftEvent(c nft.Change) *audit.Event {
	e := &audit.Event{
		Time:    c.Time,
		Kind:    audit.KindDrift,
		PeerPID: c.PID,
		PeerExe: newProcs().exe(c.PID),
		Outcome: audit.OutcomeRestored,
		Reason:  driftReason(c),
		Count:   uint64(len(c.Drifts)),
	}
	if e.PeerExe == "" {
		e.PeerExe = c.Process // as the kernel calls it; the process may be gone
	}
	if c.Err != nil {
		e.Outcome, e.Error = audit.OutcomeFailed, c.Err.Error()
	}
	return e
}

// driftReason says by whom and what, as in: nft (pid 7) changed: table inet
// smtpwall: missing.
func driftReason(c nft.Change) string {
	who := "an unknown process"
	if c.PID != 0 {
		who = fmt.Sprintf("%q (pid %d)", c.Process, c.PID)
	}
	return who + " changed " + listDrifts(c.Drifts)
}

func listDrifts(drifts []rules.Drift) string {
	if len(drifts) == 0 {
		return "the rules, of which nothing was left to put back"
	}
	var told []string
	for _, d := range drifts[:min(len(drifts), maxDriftsTold)] {
		told = append(told, d.String())
	}
	if more := len(drifts) - len(told); more > 0 {
		told = append(told, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(told, "; ")
}

// write is the one place where events leave. A log that fails is a condition,
// and tells of it itself; the rules do not depend on it.
func (g *Guard) write(e *audit.Event) {
	g.conditions.set("audit", g.audit.Write(e))
}

// announce writes an event that those who watch hear of, too.
func (g *Guard) announce(e *audit.Event) {
	g.watchers.tell(e) // first: a disk may hang
	g.write(e)
}

package guard

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

const (
	// ownerAge is how long what was found out about a subject is good for.
	ownerAge = 5 * time.Second
	// maxOwners bounds the subjects that are remembered.
	maxOwners = 2 * maxKinds
	// searchShare keeps searches through /proc below one part in so many of the
	// time, and searchBurst is what they may take at once.
	searchShare = 10
	searchBurst = 100 * time.Millisecond
)

// The values of an event's rule: the configuration keys that decide, and the one
// that has no key.
const (
	rulePort25     = "port25"
	ruleSubmission = "submission_ports"
	ruleRelay      = "relay" // an approved relay, by somebody else than the proxy
)

// owner is who is behind a subject, as far as it can be told.
type owner struct {
	user, unit, container string
	seen                  seen
	until                 time.Time
}

// attributor finds out who makes attempts. It is not for concurrent use.
type attributor struct {
	users    *peer.Users
	cgroups  *peer.CGroups
	procs    procs
	netns    *netnsFinder
	sockets  socketOwners // nil if there is none
	owners   map[subject]owner
	searched time.Time     // when spent was true
	spent    time.Duration // of searchBurst
}

func newAttributor(log *zap.Logger) *attributor {
	cgroups, err := peer.OpenCGroups(log)
	if err != nil {
		log.Warn("units and containers will be unknown", zap.Error(err))
	}
	proc := newProcs()
	return &attributor{
		users:   peer.NewUsers("", "", log),
		cgroups: cgroups,
		procs:   proc,
		netns:   &netnsFinder{procs: proc},
		owners:  map[subject]owner{},
	}
}

// processes is the search for the holder of an open socket.
func (a *attributor) processes() peer.ProcessFinder { return peer.NewProcesses(a.cgroups, searchTime) }

// close frees what is only read: nothing to lose.
func (a *attributor) close() {
	a.cgroups.Close()
	if a.sockets != nil {
		a.sockets.Close()
	}
}

// event makes the event of a report. detail is what the log knew, or zero.
func (a *attributor) event(r report, detail nft.Attempt, o Options) *audit.Event {
	e := &audit.Event{
		Time:        time.Now(),
		Kind:        audit.KindAttempt,
		Source:      detail.Source,
		Destination: r.destination,
		Rule:        ruleOf(r.destination),
		Outcome:     outcomeOf(r, o.Rules),
		Reason:      reasonOf(r, detail),
		Count:       r.count,
	}
	if !detail.Time.IsZero() {
		e.Time = detail.Time
	}
	if r.forwarded && !e.Source.IsValid() && r.source.IsValid() {
		e.Source = netip.AddrPortFrom(r.source, 0)
	}
	if !r.known {
		return e
	}
	found := a.ownerOf(r.subject)
	if r.first && !r.forwarded {
		a.look(r.subject, &found, detail)
	}
	e.PeerUser, e.PeerUnit, e.PeerContainer = found.user, found.unit, found.container
	e.PeerPID, e.PeerExe = found.seen.pid, found.seen.exe
	if !r.forwarded {
		e.PeerUID = audit.KnownUID(r.uid)
	}
	return e
}

// ownerOf looks a subject up, but not more often than makes sense. What was
// once known of it stays: its cgroup may be gone by the time that its last
// attempts are told.
func (a *attributor) ownerOf(s subject) owner {
	now := time.Now()
	was, known := a.owners[s]
	if known && now.Before(was.until) {
		return was
	}
	if len(a.owners) >= maxOwners {
		clear(a.owners)
	}
	found := a.lookup(s)
	if found.unit == "" && found.container == "" {
		found.unit, found.container = was.unit, was.container
	}
	found.seen = was.seen
	found.until = now.Add(ownerAge)
	a.owners[s] = found
	return found
}

func (a *attributor) lookup(s subject) owner {
	if s.forwarded {
		return a.container(s.source)
	}
	var found owner
	found.user, _ = a.users.Lookup(s.uid)
	if path, ok := a.cgroups.Path(s.cgroup); ok {
		found.unit, found.container = peer.ParseCGroup(path)
	}
	return found
}

// look searches for the process of a first attempt. What follows within the
// window is put down to the same.
func (a *attributor) look(s subject, found *owner, detail nft.Attempt) {
	found.seen = seen{}
	begun := time.Now()
	a.spent = max(0, a.spent-begun.Sub(a.searched)/searchShare)
	if a.spent < searchBurst {
		found.seen = a.search(s, detail)
	}
	a.searched = time.Now()
	a.spent += a.searched.Sub(begun)
	a.owners[s] = *found
}

// search asks for the socket first, which in observe mode is still open, and
// connected by now.
func (a *attributor) search(s subject, detail nft.Attempt) seen {
	if a.sockets != nil && detail.Source.IsValid() {
		p := a.sockets.Socket(detail.Source, detail.Destination)
		if p.Proven && p.UID == s.uid && p.PID != 0 {
			return seen{pid: p.PID, exe: p.Exe}
		}
	}
	path, _ := a.cgroups.Path(s.cgroup)
	found, _ := a.procs.find(s.uid, path)
	return found
}

// container finds who has a source address behind this host. Which of a
// container's processes it was, its own kernel alone would know.
func (a *attributor) container(source netip.Addr) owner {
	var found owner
	if pid, ok := a.netns.find(source); ok {
		found.unit, found.container = peer.ParseCGroup(a.procs.cgroup(pid))
	}
	return found
}

func ruleOf(destination netip.AddrPort) string {
	switch destination.Port() {
	case 0:
		return ""
	case 25:
		return rulePort25
	case 465, 587, 2525:
		return ruleSubmission
	}
	return ruleRelay
}

// outcomeOf says what the rules did. Redirected connections are none of the
// attempts that enforce mode counts; observe mode counts what would become one.
func outcomeOf(r report, o rules.Options) string {
	if o.Mode == rules.Enforce {
		return audit.OutcomeBlocked
	}
	_, listening := o.Redirect[r.destination.Port()]
	if !r.forwarded && o.SubmissionPorts == rules.RedirectSubmission && listening {
		return audit.OutcomeWouldRedirect
	}
	return audit.OutcomeWouldBlock
}

// reasonOf says what the other fields cannot.
func reasonOf(r report, detail nft.Attempt) string {
	from := "forwarded"
	if in := cmp.Or(r.in, detail.InInterface); in != "" {
		from += " from " + in
	}
	switch {
	case r.group && r.forwarded:
		return from + ": " + r.members.text("sources") + ", too many for each to be told"
	case r.group:
		return fmt.Sprintf("%s with uids from %d to %d, too many for each to be told", r.members.text("users and units"), r.members.low, r.members.high)
	case !r.known && r.forwarded:
		return "forwarded: too many for each to be told, or counted by the lock alone"
	case !r.known:
		return "without a socket owner: too many for each to be told, late packets, or counted by the lock alone"
	case !r.destination.IsValid() && r.forwarded:
		return from + ", destinations not told apart"
	case !r.destination.IsValid():
		return "destinations not told apart"
	case r.forwarded:
		return from
	}
	return ""
}

// text is as in: 312 sources.
func (m members) text(of string) string {
	switch {
	case m.count == 0:
		return of
	case m.atLeast:
		return fmt.Sprintf("%d or more %s", m.count, of)
	}
	return fmt.Sprintf("%d %s", m.count, of)
}

// eventFields are the fields of an attempt's log line, under the keys that the
// event has.
func eventFields(e *audit.Event) []zap.Field {
	fields := []zap.Field{
		zap.String(logfields.Outcome, e.Outcome),
		zap.Stringer(logfields.PeerUID, e.PeerUID),
		zap.Uint64(logfields.Count, e.Count),
	}
	if e.Destination.IsValid() {
		fields = append(fields, zap.Stringer(logfields.Destination, e.Destination))
	}
	if e.Source.IsValid() {
		fields = append(fields, zap.Stringer(logfields.Source, e.Source))
	}
	for _, f := range []struct{ key, value string }{
		{logfields.PeerUser, e.PeerUser}, {logfields.PeerUnit, e.PeerUnit}, {logfields.PeerContainer, e.PeerContainer},
		{logfields.PeerExe, e.PeerExe}, {logfields.Rule, e.Rule}, {logfields.Reason, e.Reason},
	} {
		if f.value != "" {
			fields = append(fields, zap.String(f.key, f.value))
		}
	}
	if e.PeerPID != 0 {
		fields = append(fields, zap.Int(logfields.PeerPID, e.PeerPID))
	}
	return fields
}

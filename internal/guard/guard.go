package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/rules"
	"github.com/smtpwall/smtpwall/rules/nft"
)

// LockFD is the name under which the lock table's socket is stored with the
// service manager.
const LockFD = "smtpwall-lock"

// AuditWriter takes events; audit.Log is one.
type AuditWriter interface {
	Write(event *audit.Event) error
}

// Options are what a Guard depends on. Reload takes Rules, Relays and Allow anew; all
// else is for the life of the Guard.
type Options struct {
	// Rules are the rules to keep up. Rules.Mode may be overruled by Enforce and
	// Observe. What the guard finds out itself is not looked at: Rules.Relays,
	// Allow, Suspended and Containers.
	Rules rules.Options
	// Relays are resolved, and their addresses become those of the rules.
	Relays []Relay
	// Allow are direct connections that are left alone, as far as those whom they
	// are of are known and not suspended.
	Allow []Allow

	// Lock puts up the lock table too, in enforce mode, where the kernel has such.
	Lock bool
	// RemoveOnExit takes the rules down when Run's context ends. Without it
	// they stay, as a host that had a block must not lose it with a process.
	RemoveOnExit bool

	// Socket is the path of the guard socket; none if empty. SocketGID is the
	// group that may connect, besides root; the uid must be Rules.ProxyUID, too.
	Socket    string
	SocketGID int

	// Guessed says that Rules.Mode is not what the configuration states, which
	// cannot be read, but the safe side. An order that was given over the one that
	// it stated then stands until a Reload tells whether that is still so.
	Guessed bool

	// State is the directory for what outlives the guard: the mode that was
	// ordered, and who is suspended. Without one nothing does.
	State string

	// Inside runs f in the network namespace to guard; nil is that of the
	// process. A lab's namespaces have such a method. Relays' names are
	// resolved outside.
	Inside func(f func() error) error

	// Audit gets the events; nil drops them. Logger may be nil.
	Audit  AuditWriter
	Logger *zap.Logger

	// Ready is called once, when the rules are up. Nil does nothing.
	Ready func()
	// StoreFD gives the lock's socket (as LockFD) to the service manager, to be
	// found in StoredFDs by the next process: so the lock outlives this one.
	// The file is closed afterwards.
	StoreFD   func(name string, f *os.File) error
	StoredFDs map[string]*os.File
	// OnReload is what the socket's "reload" does, usually read the
	// configuration and call Reload. Nil refuses it.
	OnReload func(ctx context.Context) error
}

func (o Options) validate() error {
	var errs []error
	ruleset := o.Rules
	for _, a := range o.Allow {
		errs = append(errs, a.validate())
		ruleset.Allow = append(ruleset.Allow, a.ofNobody())
	}
	if _, err := rules.New(ruleset); err != nil {
		errs = append(errs, err)
	}
	names := map[string]bool{}
	for _, r := range o.Relays {
		switch {
		case r.Name == "" || r.Host == "" || len(r.Ports) == 0:
			errs = append(errs, fmt.Errorf("relay %q needs a name, a host and a port", r.Name))
		case names[r.Name]:
			errs = append(errs, fmt.Errorf("relay %q is there twice", r.Name))
		}
		names[r.Name] = true
		for _, p := range r.Ports {
			if p == 0 {
				errs = append(errs, fmt.Errorf("relay %q has port 0", r.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// firewall is what the guard needs of nft.Conn.
type firewall interface {
	applier
	inspector
	Watch(ctx context.Context, report func(nft.Change)) error
	io.Closer
}

type applier interface {
	Apply(ctx context.Context, o rules.Options) error
	SetRelays(ctx context.Context, relays []netip.AddrPort) error
	Remove(ctx context.Context) error
}

type inspector interface {
	Status(ctx context.Context, o rules.Options) (nft.Status, error)
	Relays(ctx context.Context) ([]netip.AddrPort, error)
	Allowed(ctx context.Context) (map[string][]netip.AddrPort, error)
	LockFile() (*os.File, error)
}

// attemptLog is what the guard needs of nft.AttemptReader.
type attemptLog interface {
	Read(ctx context.Context) ([]nft.Attempt, error)
	Lost() uint64
	io.Closer
}

// answerLog is what the guard needs of nft.AnswerReader.
type answerLog interface {
	Read(ctx context.Context) ([][]byte, error)
	Lost() uint64
	io.Closer
}

// attemptCounts is what the guard needs of nft.AttemptCounters.
type attemptCounts interface {
	Read(ctx context.Context) (nft.Counts, error)
	io.Closer
}

// socketOwners is what the guard needs of peer.Identifier.
type socketOwners interface {
	Socket(src, dst netip.AddrPort) peer.Peer
	io.Closer
}

// kernel opens what the guard needs of the kernel.
type kernel struct {
	firewall func(nft.Options) (firewall, error)
	log      func() (attemptLog, error)
	answers  func() (answerLog, error)
	counts   func(ctx context.Context) (attemptCounts, error)
	sockets  func(peer.ProcessFinder) (socketOwners, error)
	cgroups  func() (cgroups, error)
	// destroy ends connections that match wants to end, and counts them.
	destroy func(ctx context.Context, match func(openSocket) bool) (int, error)
}

// realKernel opens things inside a network namespace, where they stay.
func realKernel(inside func(func() error) error) kernel {
	if inside == nil {
		inside = func(f func() error) error { return f() }
	}
	return kernel{
		firewall: func(o nft.Options) (fw firewall, err error) {
			err = inside(func() (err error) { fw, err = nft.Open(o); return err })
			return fw, err
		},
		log: func() (log attemptLog, err error) {
			err = inside(func() (err error) { log, err = nft.OpenAttempts(rules.LogGroup); return err })
			return log, err
		},
		answers: func() (log answerLog, err error) {
			err = inside(func() (err error) { log, err = nft.OpenAnswers(rules.AnswerGroup); return err })
			return log, err
		},
		counts: func(ctx context.Context) (counts attemptCounts, err error) {
			err = inside(func() (err error) { counts, err = nft.OpenAttemptCounters(ctx); return err })
			return counts, err
		},
		sockets: func(f peer.ProcessFinder) (owners socketOwners, err error) {
			err = inside(func() (err error) { owners, err = peer.New(peer.Options{Queries: 1, Processes: f}); return err })
			return owners, err
		},
		cgroups: func() (cgroups, error) { return openCGroupTree() },
		destroy: func(ctx context.Context, match func(openSocket) bool) (n int, err error) {
			err = inside(func() (err error) { n, err = destroySockets(ctx, match); return err })
			return n, err
		},
	}
}

// Guard keeps the rules up. Make it with New and run it once.
type Guard struct {
	log        *zap.Logger
	audit      AuditWriter
	kernel     kernel
	relays     *relayKeeper
	conditions *conditions
	attempts   *collector
	watchers   watchers
	lookups    *lookups
	direct     *direct

	// applying serialises what changes the rules as a whole.
	applying sync.Mutex
	firewall firewall          // set by Run before anything else
	listener *net.UnixListener // until serve takes it

	clock       clock
	disk        durable.FS
	modeChanged chan struct{} // to awaitTrials

	suspending  sync.Mutex // one list at a time; guards suspendedAt
	suspendedAt time.Time

	mu       sync.Mutex
	opts     Options // Rules.Mode is the mode in force
	mode     mode
	locked   bool // the lock table is wanted and possible
	released bool // removed on request: nothing is put back until a Reload

	drifts  atomic.Uint64
	changes chan nft.Change // to be told of
	untold  atomic.Uint64   // that found changes full
}

// New checks the options. It opens nothing.
func New(o Options) (*Guard, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("setting up the guard: %w", err)
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Audit == nil {
		o.Audit = noAudit{}
	}
	g := &Guard{
		log:        o.Logger.Named("guard"),
		audit:      o.Audit,
		kernel:     realKernel(o.Inside),
		conditions: &conditions{},
		changes:    make(chan nft.Change, maxChanges),
		opts:       o,

		clock:       realClock(),
		disk:        durable.OS{},
		modeChanged: make(chan struct{}, 1),
	}
	g.mode = mode{configured: o.Rules.Mode, running: o.Rules.Mode, since: g.clock.now(), by: byConfiguration}
	lookup := newResolver().lookup
	g.relays = newRelayKeeper(g.log, lookup, relaySwitch{g})
	g.relays.configure(o.Relays)
	g.direct = newDirect(g.log, lookup)
	g.direct.configure(o.Allow)
	g.attempts = newCollector(g)
	g.lookups = newLookups(func() (answerLog, error) { return g.kernel.answers() }, g.conditions)
	return g, nil
}

type noAudit struct{}

func (noAudit) Write(*audit.Event) error { return nil }

// options returns the options in force.
func (g *Guard) options() Options {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opts
}

// relaySwitch passes relay addresses on to the rules, as long as there are any.
type relaySwitch struct{ guard *Guard }

func (s relaySwitch) SetRelays(ctx context.Context, relays []netip.AddrPort) error {
	s.guard.applying.Lock()
	defer s.guard.applying.Unlock()
	if s.guard.isReleased() {
		return nil
	}
	return s.guard.settled(s.guard.firewall.SetRelays(ctx, relays))
}

func (g *Guard) isReleased() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.released
}

// Reload applies other Rules, Relays and Allow, in one step and only if they are valid:
// on an error everything stays as it was. Connections to a relay that is no
// longer there have the usual Grace. It puts up what Release took down. Call it
// after Run has said that it is ready.
func (g *Guard) Reload(ctx context.Context, o Options) error {
	if err := o.validate(); err != nil {
		return fmt.Errorf("reloading the guard: %w", err)
	}
	g.attempts.collect(ctx) // what replaced sets would forget
	before := g.modeNow()
	now, err := g.reapply(ctx, o)
	if err != nil {
		return fmt.Errorf("reloading the guard: %w", err)
	}
	if now != before {
		g.tellMode(now, "")
	}
	g.relays.configure(o.Relays)
	g.relays.sync(ctx)
	g.log.Info("rules reloaded", zap.String(logfields.Mode, g.Mode().Mode))
	return nil
}

// reapply puts up the rules of other options, in the mode that stands then.
func (g *Guard) reapply(ctx context.Context, o Options) (mode, error) {
	g.applying.Lock()
	defer g.applying.Unlock()
	before, next := g.modeNow(), g.reconfigured(o.Rules.Mode)
	guessed := g.options().Guessed
	var amiss error
	if guessed {
		next, amiss = g.orderedOver(o.Rules.Mode)
	}
	o.Rules.Mode = next.running
	entries := g.direct.configure(o.Allow)
	if err := g.apply(ctx, o.Rules); err != nil {
		g.direct.configure(entries)
		return mode{}, err
	}
	g.direct.prune()
	g.mu.Lock()
	g.opts.Rules, g.opts.Relays, g.opts.Allow, g.released = o.Rules, o.Relays, o.Allow, false
	g.mu.Unlock()
	if next != before || guessed {
		// What stays on disk after an error to keep it counts no more: it says
		// over which configuration it was ordered.
		if !errors.Is(amiss, errNotBelieved) {
			amiss = errors.Join(amiss, g.keepMode(next))
		}
		g.conditions.set("mode", amiss)
		g.setMode(next)
	}
	return next, nil
}

// apply needs applying.
func (g *Guard) apply(ctx context.Context, o rules.Options) error {
	o.Relays = g.relays.addresses()
	leftAlone, entries := g.direct.wanted(g.clock.now(), o.ProxyUID)
	if err := g.settled(g.firewall.Apply(ctx, leftAlone.Into(o))); err != nil {
		return err
	}
	g.relays.took(o.Relays)
	g.direct.took(leftAlone, entries)
	return nil
}

// settled takes nft.ErrDrift for no error: the kernel took the rules, somebody
// changed them meanwhile, and watch puts them back and tells who it was. A guard
// that gave up then would lose to whoever reloads a firewall at boot.
func (g *Guard) settled(err error) error {
	if errors.Is(err, nft.ErrDrift) {
		g.log.Warn("the rules were changed as they were put up, they will be put back", zap.Error(err))
		return nil
	}
	return err
}

// Release takes the rules down and lets nobody put them back until Reload.
func (g *Guard) Release(ctx context.Context) error {
	g.attempts.collect(ctx)
	g.applying.Lock()
	defer g.applying.Unlock()
	if err := g.firewall.Remove(ctx); err != nil {
		return fmt.Errorf("releasing the rules: %w", err)
	}
	g.mu.Lock()
	g.released = true
	g.mu.Unlock()
	g.log.Warn("rules removed on request, nothing is blocked any more")
	return nil
}

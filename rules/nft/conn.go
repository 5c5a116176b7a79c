package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/mdlayher/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// Options say how a Conn works.
type Options struct {
	// Lock makes Apply put up the lock table too. It stays only as long as the
	// Conn, or a copy of its LockFile, is open; so it is for a process that
	// stays.
	Lock bool
	// LockFile is the lock's socket from an earlier process; nil makes a new
	// one. The caller may close it after Open.
	LockFile *os.File
	// Logger is for what happens in Watch; nil logs nothing.
	Logger *zap.Logger
}

// Conn changes and reads smtpwall's tables in one network namespace.
type Conn struct {
	lock   bool
	logger *zap.Logger
	events *socket // hears what anybody changes; joined by Watch

	mu   sync.Mutex // guards what follows; one request at a time on the socket
	sock *socket
	want []rules.Ruleset // as last applied; empty before

	known catalogue
}

// Open makes a Conn for the network namespace of the calling thread. It changes
// nothing. The error is ErrNoOwner if a lock is asked for that the kernel cannot
// give; the caller may go on with a Conn without.
func Open(o Options) (*Conn, error) {
	c := &Conn{lock: o.Lock, logger: o.Logger}
	if c.logger == nil {
		c.logger = zap.NewNop()
	}
	if err := c.openSockets(o); err != nil {
		return nil, errors.Join(fmt.Errorf("opening nftables: %w", err), c.Close())
	}
	return c, nil
}

func (c *Conn) openSockets(o Options) error {
	var err error
	if o.LockFile != nil {
		c.sock, err = adoptSocket(o.LockFile)
	} else {
		c.sock, err = newSocket()
	}
	if err != nil {
		return err
	}
	if c.events, err = newSocket(); err != nil {
		return err
	}
	if c.lock {
		return c.probeOwner()
	}
	return nil
}

// probeOwner finds out whether there are owned tables, by a batch that makes
// one and deletes it again.
func (c *Conn) probeOwner() error {
	err := c.transact(context.Background(), func(reader) ([]netlink.Message, error) {
		b, err := newBatch()
		if err != nil {
			return nil, err
		}
		probe := rules.Ruleset{Table: rules.LockTable + "_probe", Owned: true}
		b.addTable(probe)
		b.deleteTable(probe.Table)
		return b.messages, nil
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return ErrNoOwner
	}
	return err
}

// Close closes the sockets. The plain table stays; the lock table goes, unless
// somebody else holds a copy of LockFile.
func (c *Conn) Close() error {
	var errs []error
	for _, s := range []*socket{c.events, c.sock} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

// LockFile returns a copy of the socket that owns the lock table, for a service
// manager to keep or a new process to inherit. The caller closes it.
func (c *Conn) LockFile() (*os.File, error) {
	raw, err := c.sock.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("copying the lock's socket: %w", err)
	}
	fd, failed := -1, error(nil)
	err = raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3) })
	if err := errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("copying the lock's socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "smtpwall-lock"), nil
}

// Apply makes the kernel's tables equal to the rulesets for the options, in one
// atomic batch: no packet meets anything between the old rules and the new.
// What counters and attempt sets hold stays where their shape does. In observe
// mode the lock goes. ErrLocked means that another process holds the lock.
func (c *Conn) Apply(ctx context.Context, o rules.Options) error {
	want, err := c.rulesets(o)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.put(ctx, want); err != nil {
		return fmt.Errorf("applying rules: %w", err)
	}
	c.want = want
	return nil
}

func (c *Conn) rulesets(o rules.Options) ([]rules.Ruleset, error) {
	plain, err := rules.New(o)
	if err != nil {
		return nil, err
	}
	if !c.lock || o.Mode != rules.Enforce {
		return []rules.Ruleset{plain}, nil
	}
	lock, err := rules.NewLock(o)
	return []rules.Ruleset{plain, lock}, err
}

// SetRelays changes the approved relays of the rules last applied, in all
// tables at once, and nothing else.
func (c *Conn) SetRelays(ctx context.Context, relays []netip.AddrPort) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.want) == 0 {
		return errors.New("setting relays: no rules have been applied")
	}
	want := make([]rules.Ruleset, len(c.want))
	for i, w := range c.want {
		want[i] = w.WithRelays(relays)
	}
	if err := c.transact(ctx, func(r reader) ([]netlink.Message, error) { return refill(r, want) }); err != nil {
		return fmt.Errorf("setting relays: %w", err)
	}
	c.want = want
	return c.verify(ctx)
}

// refill changes the elements of static sets only.
func refill(r reader, want []rules.Ruleset) ([]netlink.Message, error) {
	b, err := newBatch()
	if err != nil {
		return nil, err
	}
	for _, w := range want {
		have, err := r.table(w)
		if err != nil {
			return nil, err
		}
		for _, set := range w.Sets {
			old, ok := have.Set(set.Name)
			if !ok {
				return nil, fmt.Errorf("set %s of table %s is missing", set.Name, w.Table)
			}
			if err := b.fill(w, old, set); err != nil {
				return nil, err
			}
		}
	}
	if err := b.compile(); err != nil {
		return nil, err
	}
	return b.messages, nil
}

// Remove takes all of smtpwall's tables away and leaves everything else as it
// is. If another process holds the lock it does nothing and fails with ErrLocked.
func (c *Conn) Remove(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.transact(ctx, c.removal); err != nil {
		return fmt.Errorf("removing rules: %w", err)
	}
	c.want = nil
	return nil
}

func (c *Conn) removal(r reader) ([]netlink.Message, error) {
	b, err := newBatch()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{rules.Table, rules.LockTable} {
		have, err := r.head(name)
		if err != nil {
			return nil, err
		}
		if err := c.mayChange(have); err != nil {
			return nil, err
		}
		if have.Table != "" {
			b.deleteTable(name)
		}
	}
	return b.messages, nil
}

// mayChange fails for a table that another socket owns.
func (c *Conn) mayChange(f found) error {
	if f.owner != 0 && f.owner != c.sock.port {
		return ErrLocked
	}
	return nil
}

// put makes the kernel's tables equal to want and reads them back.
func (c *Conn) put(ctx context.Context, want []rules.Ruleset) error {
	err := c.transact(ctx, func(r reader) ([]netlink.Message, error) { return c.replacement(r, want) })
	if err != nil {
		return err
	}
	drifts, err := c.compare(ctx, want)
	if err != nil {
		return err
	}
	if len(drifts) > 0 {
		return fmt.Errorf("the kernel's rules differ from what was sent: %s", drifts[0])
	}
	return nil
}

func (c *Conn) replacement(r reader, want []rules.Ruleset) ([]netlink.Message, error) {
	b, err := newBatch()
	if err != nil {
		return nil, err
	}
	for _, w := range want {
		have, err := r.table(w)
		if err != nil {
			return nil, err
		}
		if err := c.mayChange(have); err != nil {
			return nil, err
		}
		if err := b.replace(have, w); err != nil {
			return nil, err
		}
	}
	if err := c.dropLock(r, b, want); err != nil {
		return nil, err
	}
	return b.messages, nil
}

// dropLock deletes a lock table that is not wanted: enforce mode is over, or
// the lock is an empty one that was made by hand.
func (c *Conn) dropLock(r reader, b *batch, want []rules.Ruleset) error {
	if slices.ContainsFunc(want, func(w rules.Ruleset) bool { return w.Table == rules.LockTable }) {
		return nil
	}
	have, err := r.head(rules.LockTable)
	if err != nil || have.Table == "" {
		return err
	}
	if c.mayChange(have) != nil {
		return nil // a guard holds it; it will do what its own configuration says
	}
	b.deleteTable(rules.LockTable)
	return nil
}

// transact sends a batch that was made from what the kernel has. When somebody
// changes the ruleset between, it starts again.
func (c *Conn) transact(ctx context.Context, make func(reader) ([]netlink.Message, error)) error {
	for {
		r := reader{sock: c.sock, ctx: ctx, known: &c.known}
		generation, err := r.generation()
		if err != nil {
			return err
		}
		r.at = generation
		messages, err := make(r)
		if now, genErr := r.generation(); genErr == nil && now != generation && ctx.Err() == nil {
			continue // what was read may be of both generations
		}
		if err != nil || len(messages) == 0 {
			return err
		}
		if err := c.sock.commit(ctx, generation, messages); !errors.Is(err, errStale) || ctx.Err() != nil {
			return err
		}
	}
}

// verify compares the kernel with the rules last applied.
func (c *Conn) verify(ctx context.Context) error {
	drifts, err := c.compare(ctx, c.want)
	if err == nil && len(drifts) > 0 {
		err = fmt.Errorf("the kernel's rules differ from what was sent: %s", drifts[0])
	}
	return err
}

// compare returns where the kernel differs from want.
func (c *Conn) compare(ctx context.Context, want []rules.Ruleset) ([]rules.Drift, error) {
	var drifts []rules.Drift
	err := c.transact(ctx, func(r reader) ([]netlink.Message, error) {
		drifts = nil
		for _, w := range want {
			have, err := r.table(w)
			if err != nil {
				return nil, err
			}
			drifts = append(drifts, rules.Diff(have.Ruleset, w)...)
		}
		return nil, nil
	})
	return drifts, err
}

package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	lock       bool
	noTimeouts bool // the kernel cannot set the times of connection tracking
	logger     *zap.Logger
	events     *socket // hears what anybody changes; joined by Watch

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
	if err := c.probeTimeouts(); err != nil {
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

// patience is how often a transaction starts again because of others.
const patience = 10

// transact sends a batch that was made from what the kernel has. When somebody
// changes any table between, it starts again. Where changes never stop it goes on
// without looking at the generation: most are none of ours, and a batch that
// does not fit the kernel's tables any more still fails as a whole.
func (c *Conn) transact(ctx context.Context, prepare func(reader) ([]netlink.Message, error)) error {
	for attempt := 0; ; attempt++ {
		strict := attempt < patience
		r := reader{sock: c.sock, known: &c.known}
		var err error
		if r.at, err = r.generation(ctx); err != nil {
			return err
		}
		messages, err := prepare(r)
		if now, genErr := r.generation(ctx); strict && genErr == nil && now != r.at && ctx.Err() == nil {
			continue // what was read may be of both generations
		}
		if err != nil || len(messages) == 0 {
			return err
		}
		if !strict {
			r.at = 0
		}
		if err := c.sock.commit(ctx, r.at, messages); !errors.Is(err, errStale) || ctx.Err() != nil {
			return err
		}
	}
}

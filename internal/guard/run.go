package guard

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/rules/nft"
)

const (
	// lookTime bounds what is read of the kernel before the rules are up.
	lookTime = time.Second
	// stopTime bounds what is done after the context has ended.
	stopTime = 10 * time.Second
)

// Run puts the rules up and keeps them up until ctx is done. An error means
// that they could not be put up, or with RemoveOnExit not be taken down.
func (g *Guard) Run(ctx context.Context) error {
	if err := g.start(ctx); err != nil {
		return fmt.Errorf("starting the guard: %w", err)
	}
	loops := []struct {
		name string
		run  func(context.Context) error
	}{
		{"relays", g.relays.run},
		{"watch", g.watch},
		{"drift", g.tellDrifts},
		{"trial", g.awaitTrials},
		{"direct", g.keepDirect},
		{"log", g.attempts.readLog},
		{"attempts", g.attempts.run},
		{"lookups", g.lookups.run},
		{"socket", g.serve},
	}
	var all sync.WaitGroup
	for _, l := range loops {
		all.Go(func() { g.supervise(ctx, l.name, l.run) })
	}
	all.Wait()
	return g.stop(context.WithoutCancel(ctx))
}

// start puts the rules up, and does nothing before that that could wait for
// anything but the kernel.
func (g *Guard) start(ctx context.Context) error {
	if err := g.open(ctx); err != nil {
		return err
	}
	g.openSuspended() // by the state directory as it was found
	g.openMode()
	g.lookAround()
	o := g.options()
	g.applying.Lock()
	err := g.apply(ctx, o.Rules)
	if errors.Is(err, nft.ErrLocked) {
		err = g.applyWithoutLock(ctx, o)
	}
	g.applying.Unlock()
	if err != nil {
		return errors.Join(err, g.firewall.Close())
	}
	g.log.Info("rules applied", zap.Stringer(logfields.Mode, o.Rules.Mode), zap.Bool("lock", g.locked))
	g.storeLock(o)
	g.attempts.openLog()
	g.tellMode(g.modeNow(), ReasonStarted)
	g.listenEarly(o)
	if o.Ready != nil {
		o.Ready()
	}
	return nil
}

// open opens the kernel's side, and looks at what an earlier guard left there:
// the relays in force stay until their names are resolved, and what it counted
// is not counted again.
func (g *Guard) open(ctx context.Context) error {
	o := g.options()
	g.locked = o.Lock
	fw, err := g.kernel.firewall(nft.Options{Lock: o.Lock, LockFile: o.StoredFDs[LockFD], Logger: g.log})
	if err != nil && o.Lock {
		g.lockMissing(err)
		fw, err = g.kernel.firewall(nft.Options{Logger: g.log})
	}
	if err != nil {
		return err
	}
	g.firewall = fw
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	if relays, err := fw.Relays(ctx); err == nil {
		g.relays.adopt(relays)
	}
	if allowed, err := fw.Allowed(ctx); err == nil {
		g.direct.adopt(allowed)
	}
	g.attempts.open(ctx)
	return nil
}

// lookAround finds units and containers before the first rules are up, so that a
// guard that starts anew lets go on what an earlier one allowed.
func (g *Guard) lookAround() {
	tree := treeWatch{guard: g}
	defer tree.close()
	if err := tree.look(); err != nil {
		g.log.Warn("units and containers are not known yet", zap.Error(err))
	}
}

// applyWithoutLock is for when somebody else holds the lock: a block that is
// only watched is better than none.
func (g *Guard) applyWithoutLock(ctx context.Context, o Options) error {
	g.lockMissing(nft.ErrLocked)
	fw, err := g.kernel.firewall(nft.Options{Logger: g.log})
	if err != nil {
		return err
	}
	g.firewall.Close()
	g.firewall = fw
	return g.apply(ctx, o.Rules)
}

func (g *Guard) lockMissing(err error) {
	g.locked = false
	g.conditions.set("lock", err)
	g.log.Error("there is no lock, the block is only watched", zap.Error(err))
}

// storeLock lets the service manager keep the lock over the end of this process.
func (g *Guard) storeLock(o Options) {
	if !g.locked || o.StoreFD == nil {
		return
	}
	file, err := g.firewall.LockFile()
	if err == nil {
		err = errors.Join(o.StoreFD(LockFD, file), file.Close())
	}
	if err != nil {
		g.log.Warn("the lock will not outlive this process", zap.Error(err))
	}
}

// stop ends in the order: attempts that are still to be told, rules if wanted,
// sockets.
func (g *Guard) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	g.attempts.close(ctx)
	g.tellMode(g.modeNow(), ReasonEnded)
	if g.listener != nil {
		g.listener.Close() // ended before serve began
	}
	var errs []error
	if g.options().RemoveOnExit {
		if err := g.removeAtEnd(ctx); err != nil {
			errs = append(errs, fmt.Errorf("removing the rules at the end: %w", err))
		}
	}
	return errors.Join(append(errs, g.firewall.Close())...)
}

// removeAtEnd takes the rules down. The first try may fail: a comparison that
// the end broke off leaves the socket busy, until its answer has been read.
func (g *Guard) removeAtEnd(ctx context.Context) error {
	err := g.firewall.Remove(ctx)
	for range 2 {
		if err == nil {
			break
		}
		err = g.firewall.Remove(ctx)
	}
	return err
}

// listenEarly opens the socket, so that who waits for Ready can connect. If
// that fails, serve tries again.
func (g *Guard) listenEarly(o Options) {
	if o.Socket == "" {
		return
	}
	ln, err := listen(o.Socket, o.SocketGID)
	if err != nil {
		g.log.Warn("the guard socket is not open yet", zap.Error(err))
	}
	g.listener = ln
}

// supervise runs a loop until ctx is done, again and again should it fail.
func (g *Guard) supervise(ctx context.Context, name string, run func(context.Context) error) {
	const maxPause = 30 * time.Second
	pause := time.Second
	every(ctx, func() time.Duration {
		begun := time.Now()
		err := g.protect(ctx, run)
		if ctx.Err() != nil {
			return 0
		}
		if time.Since(begun) > maxPause {
			pause = time.Second
		}
		g.conditions.set(name, err)
		g.log.Error("part of the guard failed, starting it again", zap.String(logfields.Name, name),
			zap.Duration(logfields.Delay, pause), zap.Error(err))
		wait := pause
		pause = min(2*pause, maxPause)
		return wait
	})
}

// protect turns a panic into an error: a mistake in one part must not end the
// others.
func (g *Guard) protect(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("panic", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return run(ctx)
}

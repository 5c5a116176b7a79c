package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/systemd"
)

// RunOptions say how guard and proxy run together.
type RunOptions struct {
	Config  *config.Config
	Load    LoadFunc
	Owner   Owner
	Command []string // the proxy's, "smtpwall serve …"
	Check   []string // "smtpwall check …", which the proxy's user is asked before a reload
	Path    string   // the configuration's; it may not exist
	Ready   func()   // rules are up and the proxy was started
}

// Run is the guard with the proxy as its child, until SIGINT or SIGTERM; then
// the rules are taken away again. Killed, it leaves them.
func Run(ctx context.Context, options RunOptions) error {
	log, _ := NewLogger(options.Config.Log.Level)
	defer func() { _ = log.Sync() }()
	signals, stopCatching := catchSignals()
	defer stopCatching()
	if err := prepareHost(options.Config, options.Owner); err != nil {
		return err
	}
	sockets, closeSockets, err := bindForChild(ctx, options.Config, options.Owner, log)
	if err != nil {
		return err
	}
	defer closeSockets()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan struct{})
	p, err := newGuardProcess(GuardOptions{
		Config: options.Config, Owner: options.Owner, Load: options.Load, Log: log,
		RemoveOnExit: true, Ready: func() { close(ready) },
	})
	if err != nil {
		return err
	}
	guarding := make(chan error, 1)
	go func() { guarding <- p.run(ctx) }() // ends with ctx; waited for below
	select {
	case <-ready:
	case err := <-guarding:
		return errors.Join(errors.New("the rules could not be put up"), err)
	}
	c := &child{options: options, sockets: sockets, log: log, signals: signals, reload: p.reload}
	err = c.supervise(ctx, guarding)
	cancel()
	return errors.Join(err, <-guarding)
}

// bindForChild opens the listeners, which may need root, for a child that has none.
func bindForChild(ctx context.Context, cfg *config.Config, owner Owner, log *zap.Logger) ([]systemd.Socket, func(), error) {
	all, err := bindListeners(ctx, cfg.Listen)
	if err != nil {
		return nil, nil, err
	}
	challenges, err := bindChallenges(ctx, cfg.Certificates)
	if err != nil {
		log.Error("a CA's challenges cannot come in", zap.Error(err))
	}
	all = append(all, challenges...)
	if commands := bindAdmin(cfg.Listen, int(owner.GID), log); commands != nil {
		all = append(all, listener{commands, adminSocket})
	}
	var sockets []systemd.Socket
	closeAll := func() {
		for _, socket := range sockets {
			_ = socket.File.Close()
		}
		closeListeners(all)
	}
	for _, l := range all {
		socket, err := systemd.FromListener(string(l.role), l.Listener)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("handing on the %s listener: %w", l.role, err)
		}
		sockets = append(sockets, socket)
	}
	return sockets, closeAll, nil
}

// child is the proxy process under `smtpwall run`.
type child struct {
	options RunOptions
	sockets []systemd.Socket
	log     *zap.Logger
	signals <-chan os.Signal
	reload  func(context.Context) error // the guard's
}

// restartPause is how long a proxy that ended is left alone.
const restartPause = time.Second

// supervise keeps the proxy running, passes SIGHUP on, and ends it on SIGINT,
// SIGTERM, or when the guard has ended.
func (c *child) supervise(ctx context.Context, guarding chan error) error {
	running, ended, err := c.start()
	if err != nil {
		return err
	}
	c.options.Ready()
	for {
		select {
		case err := <-guarding:
			guarding <- nil // Run waits for it too
			return errors.Join(fmt.Errorf("the guard ended: %w", err), c.stop(running, ended))
		case received := <-c.signals:
			if received != syscall.SIGHUP {
				return c.stop(running, ended)
			}
			c.reloadBoth(ctx, running)
		case err := <-ended:
			if configurationRefused(err) {
				return errors.New("the proxy cannot use the configuration")
			}
			c.log.Error("the proxy ended, the rules stay and it is started again", zap.Error(err))
			time.Sleep(restartPause)
			if running, ended, err = c.start(); err != nil {
				return err
			}
		}
	}
}

// configurationRefused says that starting the proxy again would not help: its
// exit status was 2.
func configurationRefused(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 2
}

// reloadBoth reloads the guard first: a relay must be reachable before the
// proxy tries it. What the proxy would refuse must not reach the guard either, or
// the two would go by different files.
func (c *child) reloadBoth(ctx context.Context, running *os.Process) {
	err := c.acceptable(ctx)
	if err == nil {
		err = c.reload(ctx)
	}
	if err != nil {
		c.log.Error("reload refused, nothing has changed", zap.Error(err))
		return
	}
	_ = running.Signal(syscall.SIGHUP)
}

// checkTime bounds what the check of a configuration may take.
const checkTime = 30 * time.Second

// acceptable says whether the proxy would take the configuration as it is now,
// with the eyes of its user: secrets are that user's to read.
func (c *child) acceptable(ctx context.Context) error {
	cfg, err := c.options.Load()
	if err != nil {
		return err
	}
	if err := unchangeable(c.options.Config, cfg); err != nil {
		return err
	}
	if _, err := os.Stat(c.options.Path); errors.Is(err, fs.ErrNotExist) {
		return nil // the defaults
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.options.Check[0], c.options.Check[1:]...)
	cmd.Stderr = os.Stderr // it names every problem
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.credential()}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("checking the configuration as the proxy's user: %w", err)
	}
	return nil
}

func (c *child) credential() *syscall.Credential {
	return &syscall.Credential{Uid: c.options.Owner.UID, Gid: c.options.Owner.GID}
}

// start starts the proxy under its own user, without any privilege of ours. The
// kernel ends it if we are killed.
func (c *child) start() (*os.Process, <-chan error, error) {
	cmd := exec.Command(c.options.Command[0], c.options.Command[1:]...)
	cmd.Stderr, cmd.Stdout = os.Stderr, os.Stdout
	// Descriptors that root's shell left open are not for the proxy.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("closing descriptors of others: %w", err)
	}
	if err := systemd.Pass(cmd, c.sockets); err != nil {
		return nil, nil, fmt.Errorf("handing sockets to the proxy: %w", err)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// A process group of its own: Ctrl-C is for us, who end it in order.
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	cmd.SysProcAttr.Credential = c.credential()
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() { // ends with the child; its thread must live as long, for Pdeathsig
		runtime.LockOSThread()
		// For this thread, and so for the child: no set-user-ID program gives
		// the proxy anything back.
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, nil, fmt.Errorf("starting the proxy: %w", err)
	}
	return cmd.Process, ended, nil
}

// stop ends the proxy in order, and by force if it does not obey.
func (c *child) stop(running *os.Process, ended <-chan error) error {
	_ = running.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if endedBySignal(err, syscall.SIGTERM) {
			return nil // it had not begun to serve
		}
		return err
	case <-time.After(stopTime + 5*time.Second):
		_ = running.Kill()
		return errors.New("the proxy did not stop in time and was killed")
	}
}

func endedBySignal(err error, sig syscall.Signal) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == sig
}

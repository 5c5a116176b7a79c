package app

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/systemd"
)

// stopTime is how long sessions may take to end their transactions.
const stopTime = 25 * time.Second

// process is what a service does between its start and its end.
type process struct {
	log     *zap.Logger
	signals <-chan os.Signal                // of catchSignals
	status  func() string                   // one line for `systemctl status`
	reload  func(ctx context.Context) error // on SIGHUP; nothing changes on an error
	stop    func(ctx context.Context) error
}

// catchSignals begins to receive the signals that we obey. It comes before
// anything is started: a signal that nobody caught would end the process in the
// midst of its start, with nothing undone.
func catchSignals() (caught <-chan os.Signal, stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	return signals, func() { signal.Stop(signals) }
}

// runUntilStopped tells the service manager that the process is ready, answers
// its watchdog, and obeys signals until SIGTERM, SIGINT or the end of ctx.
func (p *process) runUntilStopped(ctx context.Context) error {
	stopWatchdog := p.answerWatchdog()
	defer stopWatchdog()
	p.tell(systemd.Ready(p.status()))
	for {
		select {
		case <-ctx.Done():
			return p.end(context.WithoutCancel(ctx))
		case received := <-p.signals:
			if received != syscall.SIGHUP {
				return p.end(ctx)
			}
			p.reloadNow(ctx)
		}
	}
}

// reloadNow tells the manager about the reload, and that we serve on whatever
// came of it.
func (p *process) reloadNow(ctx context.Context) {
	p.tell(systemd.Reloading())
	if err := p.reload(ctx); err != nil {
		p.log.Error("reload refused, nothing has changed", zap.Error(err))
		p.tell(systemd.Ready("the last reload was refused: " + err.Error()))
		return
	}
	p.log.Info("reloaded")
	p.tell(systemd.Ready(p.status()))
}

func (p *process) end(ctx context.Context) error {
	p.tell(systemd.Stopping())
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	return p.stop(ctx)
}

// answerWatchdog keeps the manager's watchdog quiet from a goroutine that ends
// when the returned function is called.
func (p *process) answerWatchdog() (stop func()) {
	interval, ok := systemd.Watchdog()
	if !ok {
		return func() {}
	}
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				p.tell(systemd.KeepAlive())
			case <-done:
				return
			}
		}
	})
	return func() { close(done); running.Wait() }
}

func (p *process) tell(err error) {
	if err != nil {
		p.log.Warn("service manager not told", zap.Error(err))
	}
}

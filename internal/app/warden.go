package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/guard"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/breaker"
	"github.com/smtpwall/smtpwall/proxy/limit"
)

// LimitsDirectory is where the counts of limits are kept.
func LimitsDirectory(cfg *config.Config) string {
	return filepath.Join(filepath.Dir(cfg.Delivery.Spool), "limits")
}

// limitsFile has the counts, in LimitsDirectory.
const limitsFile = "limits.db"

// openWarden opens what is known of the senders, and who is told of it. The guard
// hears of suspensions until the cleanup.
func (p *Proxy) openWarden(options ProxyOptions, events proxy.EventLog) error {
	var err error
	if p.alarms, err = openAlarms(p.config, hostName(p.config, p.machine), p.log); err != nil {
		return fmt.Errorf("%w: %w", ErrConfiguration, err)
	}
	p.cleanups.add("alerts", p.alarms.close)
	if err := p.openLimits(); err != nil {
		return err
	}
	p.breakers = breaker.New(newBreakers(p.config.Policy.Breakers))
	teller := newGuardTeller(options.Guard, p.log)
	p.cleanups.add("word to the guard", teller.close)
	p.warden = proxy.NewWarden(proxy.WardenOptions{
		Limits: p.limits, Breakers: p.breakers, Events: events, Alarm: p.alarms.warden, Changed: teller.tell, Logger: p.log,
	})
	return nil
}

func (p *Proxy) openLimits() error {
	directory := LimitsDirectory(p.config)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return fmt.Errorf("making the directory of the limits: %w", err)
	}
	store, err := limit.OpenFile(filepath.Join(directory, limitsFile))
	if err != nil {
		return fmt.Errorf("opening the limits: %w", err)
	}
	if p.limits, err = limit.Open(limit.Options{Store: store, Logger: p.log.Named("limit")}); err != nil {
		return fmt.Errorf("opening the limits: %w", err)
	}
	p.cleanups.add("limits", func(context.Context) error { return p.limits.Close() })
	return nil
}

// guardTeller tells the guard who is suspended, and again when the guard was
// away: it is the one that knows of direct connections.
type guardTeller struct {
	client *guard.Client
	log    *zap.Logger
	wake   chan struct{}
	end    context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	keys    []string
	changes int // of keys
	told    int // changes that the guard has heard of
}

// tellAgain is how often the guard is told all that there is: it may have been
// started anew.
const tellAgain = 30 * time.Second

func newGuardTeller(path string, log *zap.Logger) *guardTeller {
	ctx, end := context.WithCancel(context.Background())
	t := &guardTeller{
		client: guard.NewClient(path, log), log: log, wake: make(chan struct{}, 1), end: end, done: make(chan struct{}),
	}
	go t.run(ctx) // ends with close
	return t
}

// tell is called with all suspensions after each change, and does not wait.
func (t *guardTeller) tell(all []limit.Suspension) {
	keys := make([]string, 0, len(all))
	for _, s := range all {
		keys = append(keys, s.Key)
	}
	t.mu.Lock()
	t.keys = keys
	t.changes++
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default: // it is awake
	}
}

func (t *guardTeller) run(ctx context.Context) {
	defer close(t.done)
	ticker := time.NewTicker(tellAgain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-ticker.C:
		}
		t.tellNow(ctx)
	}
}

// tellNow tells the guard all that there is, also nothing: one that could not read
// what it knew lets nobody connect directly until it hears.
func (t *guardTeller) tellNow(ctx context.Context) {
	t.mu.Lock()
	keys, changes, news := t.keys, t.changes, t.changes != t.told
	t.mu.Unlock()
	patience, cancel := context.WithTimeout(ctx, firstLookup)
	defer cancel()
	if err := t.client.Suspend(patience, keys); err != nil {
		if news && !isAbsent(err) && ctx.Err() == nil {
			t.log.Warn("the guard was not told who is suspended, direct connections stay", zap.Error(err))
		}
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = max(t.told, changes)
}

func (t *guardTeller) close(context.Context) error {
	t.end()
	<-t.done
	return t.client.Close()
}

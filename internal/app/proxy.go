package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/certs"
	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/internal/durable"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/proxy/audit"
	"github.com/smtpwall/smtpwall/proxy/auth"
	"github.com/smtpwall/smtpwall/proxy/breaker"
	"github.com/smtpwall/smtpwall/proxy/limit"
	"github.com/smtpwall/smtpwall/proxy/peer"
	"github.com/smtpwall/smtpwall/proxy/queue"
	"github.com/smtpwall/smtpwall/proxy/relay"
	"github.com/smtpwall/smtpwall/proxy/spool"
	"github.com/smtpwall/smtpwall/systemd"
)

// TransactionLog is the audit file that the proxy writes, in the audit directory.
const TransactionLog = "transactions.jsonl"

// ProxyOptions say what a proxy process is made of.
type ProxyOptions struct {
	Config   *config.Config
	Passed   []systemd.Socket // listening sockets from the manager or from `smtpwall run`
	Guard    string           // path of the guard's socket
	Log      *zap.Logger
	LogLevel zap.AtomicLevel

	// What tests change: zero is what the product does.
	FS            durable.FS // where the spool lives
	RelayTimeouts relay.Timeouts
	Backoff       queue.Backoff // between tries of a message
}

// Proxy is the mail half of the product, as one process runs it.
type Proxy struct {
	log      *zap.Logger
	level    zap.AtomicLevel
	cleanups cleanups
	machine  string // the machine's own name

	config       *config.Config
	certificates *certs.Manager
	lookups      *lookups
	spool        *spool.Spool
	relays       relaySet
	accounts     *auth.Store // those in force
	alarms       *alarms
	limits       *limit.Limiter
	breakers     *breaker.Watch
	warden       *proxy.Warden
	server       *proxy.Server
	runner       *proxy.Runner
	inForce      atomic.Pointer[proxy.Settings]
	listeners    []listener
	serving      sync.WaitGroup

	background    context.Context // of probes and watches; ends with Stop
	endBackground context.CancelFunc
	probes        sync.WaitGroup
}

// StartProxy builds the proxy and begins to serve. On an error everything that
// was started is stopped again.
func StartProxy(ctx context.Context, options ProxyOptions) (*Proxy, error) {
	p := &Proxy{
		log: options.Log, level: options.LogLevel, cleanups: cleanups{log: options.Log},
		config: options.Config, machine: machineName(ctx), lookups: newLookups(options.Log.Named("lookups")),
	}
	p.relays = relaySet{book: newGuardBook(options.Guard, options.Log), timeouts: options.RelayTimeouts, log: options.Log.Named("relay")}
	if err := p.start(ctx, options); err != nil {
		return nil, errors.Join(err, p.cleanups.run(context.WithoutCancel(ctx)))
	}
	return p, nil
}

func (p *Proxy) start(ctx context.Context, options ProxyOptions) error {
	challenges, passed, err := takeChallenges(options.Config.Certificates, options.Passed)
	if err != nil {
		return err
	}
	if err := p.openCertificates(ctx, challenges); err != nil {
		return err
	}
	if err := p.openSpool(options.FS); err != nil {
		return err
	}
	identifier, err := peer.New(peer.Options{Logger: p.log.Named("peer")})
	if err != nil {
		return fmt.Errorf("preparing to identify peers: %w", err)
	}
	p.cleanups.add("peer identification", func(context.Context) error { return identifier.Close() })
	events, err := p.openEvents()
	if err != nil {
		return err
	}
	if err := p.openWarden(options, events); err != nil {
		return err
	}
	settings, built, err := p.settings(options.Config)
	if err != nil {
		return err
	}
	p.relays.adopt(built)
	p.accounts = settings.Accounts
	p.cleanups.add("relay connections", func(context.Context) error { p.relays.adopt(nil); return nil })
	var commands net.Listener
	if p.listeners, commands, err = openListeners(ctx, options.Config.Listen, passed, p.log); err != nil {
		return err
	}
	p.runner = proxy.NewRunner(proxy.RunnerOptions{Spool: p.spool, Events: events, Warden: p.warden, Backoff: options.Backoff, Logger: p.log})
	p.server = proxy.New(proxy.Options{
		Identifier: identifier, Events: events, Throttle: auth.NewThrottle(), Runner: p.runner, Warden: p.warden, Logger: p.log, Settings: settings,
	})
	p.inForce.Store(settings)
	p.serve()
	p.cleanups.add("sessions", p.stopServing)
	p.runner.Apply(settings)
	p.cleanups.add("deliveries from the spool", p.runner.Stop)
	p.warden.Open()
	p.cleanups.add("suspensions", p.warden.Close)
	p.watch(ctx, options.Guard, p.serveAdmin(commands))
	p.probe(settings)
	return nil
}

// watch begins to make alerts of what the guard sees and of conditions, and to
// note what it hears of look-ups.
func (p *Proxy) watch(ctx context.Context, guard string, b *backend) {
	p.background, p.endBackground = context.WithCancel(context.WithoutCancel(ctx))
	p.cleanups.add("relay probes and watches", func(context.Context) error { p.endBackground(); p.probes.Wait(); return nil })
	p.probes.Go(func() { p.alarms.watchGuard(p.background, guard) })
	p.probes.Go(func() { p.alarms.lookRegularly(p.background, b.conditions) })
	p.probes.Go(func() { p.lookups.listen(p.background, guard) })
}

// openCertificates takes the listeners of challenges over.
func (p *Proxy) openCertificates(ctx context.Context, challenges challengeListeners) error {
	options, err := p.certificateOptions(p.config)
	if err != nil {
		challenges.close()
		return err
	}
	options.HTTPListeners, options.TLSALPNListeners = challenges.http, challenges.tlsALPN
	if p.certificates, err = certs.Open(ctx, options); err != nil {
		return fmt.Errorf("opening certificates: %w", err)
	}
	p.cleanups.add("certificates", func(context.Context) error { p.certificates.Close(); return nil })
	return nil
}

func (p *Proxy) certificateOptions(cfg *config.Config) (certs.Options, error) {
	options, err := certificateOptions(cfg, hostName(cfg, p.machine))
	options.Logger, options.LookedUp = p.log, p.lookups.names
	return options, err
}

func (p *Proxy) openSpool(fs durable.FS) (err error) {
	p.spool, err = spool.Open(p.config.Delivery.Spool, spool.Options{
		MaxBytes: p.config.Delivery.SpoolMax, MaxIdentityBytes: p.config.Delivery.SpoolMaxPerIdentity,
		FS: fs, Logger: p.log.Named("spool"),
	})
	if err != nil {
		return fmt.Errorf("opening the spool: %w", err)
	}
	p.cleanups.add("spool", func(context.Context) error { return p.spool.Close() })
	return nil
}

func (p *Proxy) openEvents() (*audit.Log, error) {
	path := filepath.Join(p.config.Audit.Directory, TransactionLog)
	events, err := audit.Open(path, audit.Options{Logger: p.log.Named("audit")})
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	p.cleanups.add("audit log", func(context.Context) error { return events.Close() })
	return events, nil
}

// ErrConfiguration means that only another configuration will help.
var ErrConfiguration = errors.New("the configuration cannot be used")

// settings makes what sessions decide by from a configuration. Nothing is in
// force yet when it returns.
func (p *Proxy) settings(cfg *config.Config) (*proxy.Settings, map[string]builtRelay, error) {
	rules, err := newPolicy(cfg.Policy)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: policy: %w", ErrConfiguration, err)
	}
	accounts, err := newAccounts(cfg.Accounts, p.accounts)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: accounts: %w", ErrConfiguration, err)
	}
	name := hostName(cfg, p.machine)
	built, err := p.relays.build(cfg, name)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrConfiguration, err)
	}
	return &proxy.Settings{
		HostName: name, TLS: p.certificates.TLSConfig(), Accounts: accounts,
		AuthWithoutTLS: cfg.Listen.AuthWithoutTLS, Policy: rules,
		Quota: newQuota(cfg.Policy), CompareBodies: cfg.Policy.Breakers.Identical.Action != config.BreakerOff,
		Filters: newFilters(cfg, p.log), TempDir: cfg.Delivery.Spool, TempMax: cfg.Delivery.SpoolMax / 2, HoldExpire: cfg.Delivery.HoldExpire,
		Relays: relaysOf(built, cfg.Delivery.Relays), Limits: newLimits(cfg.Session),
		Spool: p.spool, QueueFirst: cfg.Delivery.Mode == config.DeliveryQueue, Expire: cfg.Delivery.Expire, Postmaster: cfg.Delivery.Postmaster,
	}, built, nil
}

// serve starts a goroutine for each listener; stopServing waits for them.
func (p *Proxy) serve() {
	for _, l := range p.listeners {
		p.serving.Add(1)
		go func() {
			defer p.serving.Done()
			if err := p.server.Serve(l.Listener, l.role); !errors.Is(err, proxy.ErrStopped) {
				p.log.Error("listener ended", zap.String(logfields.Listener, string(l.role)), zap.Error(err))
			}
		}()
	}
}

func (p *Proxy) stopServing(ctx context.Context) error {
	err := p.server.Shutdown(ctx)
	p.serving.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		// They heard 421, or their relay would not answer: nothing is lost.
		p.log.Warn("sessions did not end in time and were cut off")
		return nil
	}
	return err
}

// probe reaches for the relays in the background, so that what they offer is
// known and what is wrong with them is logged before the first message. Stop
// waits for it.
func (p *Proxy) probe(settings *proxy.Settings) {
	for _, pool := range settings.Relays.ByName {
		p.probes.Go(func() {
			ctx, cancel := context.WithTimeout(p.background, time.Minute)
			defer cancel()
			if err := pool.Probe(ctx); err == nil {
				p.log.Info("relay is ready", zap.String(logfields.Relay, pool.Name()))
			}
		})
	}
}

// Addresses are those that the proxy listens on.
func (p *Proxy) Addresses() []net.Addr {
	var addresses []net.Addr
	for _, l := range p.listeners {
		addresses = append(addresses, l.Addr())
	}
	return addresses
}

// Config is the configuration in force.
func (p *Proxy) Config() *config.Config { return p.config }

// Reload puts a new configuration in force for the sessions to come. On an
// error nothing has changed.
func (p *Proxy) Reload(_ context.Context, cfg *config.Config) error {
	if err := unchangeable(p.config, cfg); err != nil {
		return err
	}
	options, err := p.certificateOptions(cfg)
	if err != nil {
		return err
	}
	settings, built, err := p.settings(cfg)
	if err != nil {
		return err
	}
	targets, err := newTargets(cfg.Alerts)
	if err != nil {
		return err
	}
	if err := p.certificates.Reload(options); err != nil {
		return fmt.Errorf("reloading certificates: %w", err)
	}
	p.relays.adopt(built)
	p.accounts = settings.Accounts
	p.alarms.alerter.Apply(targets)
	p.breakers.Apply(newBreakers(cfg.Policy.Breakers))
	p.server.Apply(settings)
	p.inForce.Store(settings)
	p.runner.Apply(settings)
	p.level.SetLevel(zapLevel(cfg.Log.Level))
	p.config = cfg
	p.probe(settings)
	return nil
}

// unchangeable names what only a restart can change.
func unchangeable(from, to *config.Config) error {
	switch {
	case !equalListen(to.Listen, from.Listen):
		return errors.New("[listen] changed: restart to change what is listened on")
	case challengesMoved(from.Certificates, to.Certificates):
		return errors.New("the port of a CA's challenges changed in [certificates]: restart to change what is listened on")
	case to.Delivery.Spool != from.Delivery.Spool:
		return errors.New("delivery.spool changed: restart to change where messages are kept")
	case to.Delivery.SpoolMax != from.Delivery.SpoolMax || to.Delivery.SpoolMaxPerIdentity != from.Delivery.SpoolMaxPerIdentity:
		return errors.New("delivery.spool_max or spool_max_per_identity changed: restart to change how much is kept")
	case to.Audit.Directory != from.Audit.Directory:
		return errors.New("audit.directory changed: restart to change where events are kept")
	}
	return nil
}

// Stop ends sessions, within ctx, and everything else.
func (p *Proxy) Stop(ctx context.Context) error { return p.cleanups.run(ctx) }

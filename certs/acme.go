package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

const (
	// maxPace and minPace bound how often certificates are looked at for renewal: certmagic's own interval for those
	// of three months, seconds for those of a minute. It also renews whatever ends within five intervals.
	maxPace = certmagic.DefaultRenewCheckInterval
	minPace = time.Second
)

// acmeSource is the certificates of SourceACME: a cache of certmagic's, a configuration for each name, and a goroutine
// for each that keeps it fresh.
type acmeSource struct {
	options   ACMEOptions
	directory string
	storage   *acmeStorage
	names     []*acmeName
	byName    map[string]*acmeName // a wildcard under "*.example.com"
	logger    *zap.Logger

	cache        *certmagic.Cache
	cacheOptions certmagic.CacheOptions
	changed      chan struct{} // of capacity 1: a certificate came; the pace may be another

	door   *acmeDoor
	solver acmez.Solver    // of dns-01, or nil; one for all names, whose programs take turns
	ctx    context.Context // ended by close
	cancel context.CancelFunc
	ending sync.Once
	work   *sync.WaitGroup // the Manager's, which waits for it in Close
}

// acmeParts are what a Manager lends to one source after the other.
type acmeParts struct {
	directory  string
	challenges *challenges
	listening  bool // listeners for the challenge were handed over
	locks      *locks
	silence    *silence
	work       *sync.WaitGroup
	logger     *zap.Logger
}

// openACME loads what the storage holds and begins to ask for what it does not, without waiting for anybody.
func openACME(o ACMEOptions, parts acmeParts) (*acmeSource, error) {
	s := &acmeSource{options: o, directory: parts.directory, logger: parts.logger, work: parts.work, byName: map[string]*acmeName{}, changed: make(chan struct{}, 1), solver: o.dnsSolver()}
	s.door = openDoor(o, parts)
	var err error
	if s.storage, err = openStorage(parts.directory, parts.locks, ownPresenter{s.door, o.Names}); err != nil {
		parts.logger.Warn("cannot tidy the storage of certificates", zap.Error(err))
	}
	place, err := parts.silence.open(s.storage.Path)
	if err != nil {
		s.door.close()
		return nil, fmt.Errorf("preparing for ACME: %w", err)
	}
	s.cacheOptions = certmagic.CacheOptions{GetConfigForCert: s.configFor, RenewCheckInterval: maxPace, Logger: newQuiet(s.logger, nil)}
	s.cache = certmagic.NewCache(s.cacheOptions)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, name := range o.Names {
		n, err := s.newName(name, place, parts.silence.port())
		if err != nil {
			s.close()
			return nil, fmt.Errorf("preparing for ACME: %w", err)
		}
		s.names = append(s.names, n)
		s.byName[name] = n
	}
	for _, n := range s.names {
		n.loadFirst()
	}
	s.setPace()
	for _, n := range s.names {
		s.work.Go(func() { n.run(s.ctx) })
	}
	s.work.Go(s.keepPace)
	return s, nil
}

// close ends what is under way, without waiting for a CA that is silent; the Manager waits. Handshakes that still hold
// s are served from what it has.
func (s *acmeSource) close() {
	s.ending.Do(func() {
		s.cancel()
		s.door.close()
		s.work.Go(s.door.server.wait)
		s.work.Go(s.cache.Stop)
	})
}

// newName makes the configuration for one name. A configuration of its own gives it an own logger, through which
// certmagic tells what it tells by no event.
func (s *acmeSource) newName(name, place string, port int) (*acmeName, error) {
	n := &acmeName{source: s, name: name, came: make(chan struct{}, 1)}
	logger := newQuiet(s.logger, n)
	n.config = certmagic.New(s.cache, certmagic.Config{
		RenewalWindowRatio: renewalWindow,
		OnEvent:            n.event,
		Issuers:            []certmagic.Issuer{}, // none of the package's own
		KeySource:          certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		OCSP:               certmagic.OCSPConfig{HTTPProxy: http.ProxyFromEnvironment}, // with it comes a time limit
		Storage:            s.storage,
		Logger:             logger,
	})
	for _, issuer := range s.options.Issuers {
		i := &acmeIssuer{name: n, ACMEIssuer: certmagic.NewACMEIssuer(n.config, s.template(n, issuer, place, port))}
		if err := bound(i.ACMEIssuer); err != nil {
			return nil, err
		}
		n.config.Issuers = append(n.config.Issuers, i)
		n.issuers = append(n.issuers, i)
	}
	return n, nil
}

// template says how n asks one CA.
func (s *acmeSource) template(n *acmeName, issuer ACMEIssuer, place string, port int) certmagic.ACMEIssuer {
	template := certmagic.ACMEIssuer{
		CA:                      issuer.Directory,
		Email:                   s.options.Email,
		Agreed:                  true,
		Profile:                 issuer.Profile,
		TrustedRoots:            issuer.Roots,
		DisableHTTPChallenge:    s.options.Challenge != ChallengeHTTP,
		DisableTLSALPNChallenge: s.options.Challenge != ChallengeTLSALPN,
		// certmagic's own solvers listen where nobody can come, each name's at a port of its own: they share servers by
		// address, and the last to leave one complains on standard error that another had closed it.
		ListenHost:     place,
		AltHTTPPort:    port,
		AltTLSALPNPort: port,
		Logger:         n.config.Logger,
	}
	if s.solver != nil {
		template.DNS01Solver = ownSolver{s.solver, strings.TrimPrefix(n.name, "*.")}
	}
	if template.Email == "" {
		template.Email = " " // the empty one makes certmagic ask for it on standard output; this one it trims
	}
	if issuer.EABKeyID != "" {
		template.ExternalAccount = &acme.EAB{KeyID: issuer.EABKeyID, MACKey: issuer.EABKey}
	}
	if issuer.PreferredChain != "" {
		template.PreferredChains.AnyCommonName = []string{issuer.PreferredChain}
	}
	return template
}

// configFor is CacheOptions.GetConfigForCert.
func (s *acmeSource) configFor(c certmagic.Certificate) (*certmagic.Config, error) {
	for _, name := range c.Names {
		if n := s.byName[name]; n != nil {
			return n.config, nil
		}
	}
	return nil, errors.New("a certificate for names that are not managed")
}

// keepPace has certmagic ask the CA when it wants certificates to be renewed (RFC 9773), as often as the one with the
// shortest life needs it.
func (s *acmeSource) keepPace() {
	for s.ctx.Err() == nil {
		timer := time.NewTimer(s.setPace())
		select {
		case <-s.ctx.Done():
		case <-s.changed:
		case <-timer.C:
			if err := s.cache.RenewManagedCertificates(s.ctx); err != nil {
				s.logger.Warn("asking when certificates are to be renewed", zap.Error(err))
			}
		}
		timer.Stop()
	}
}

// setPace tells certmagic the interval, by which it judges what ends soon, and returns it. certmagic's own ticker keeps
// the one that it began with.
func (s *acmeSource) setPace() time.Duration {
	options := s.cacheOptions
	for _, n := range s.names {
		options.RenewCheckInterval = min(options.RenewCheckInterval, n.pace())
	}
	s.cache.SetOptions(options)
	return options.RenewCheckInterval
}

// wake has the pace be looked at.
func (s *acmeSource) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// managing returns who manages name; a wildcard stands for one label (RFC 9525, section 6.3).
func (s *acmeSource) managing(name string) *acmeName {
	if n := s.byName[name]; n != nil {
		return n
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		return s.byName["*."+parent]
	}
	return nil
}

// forName returns a certificate for name, in lower case, that is good now; nil if there is none.
func (s *acmeSource) forName(name string) *tls.Certificate {
	if n := s.managing(name); n != nil {
		return n.certificate()
	}
	return nil
}

// forAnybody is for who asks for no name of the host's.
func (s *acmeSource) forAnybody() *tls.Certificate {
	for _, n := range s.names {
		if c := n.certificate(); c != nil {
			return c
		}
	}
	return nil
}

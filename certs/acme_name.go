package certs

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
)

// acmeName is one managed certificate.
type acmeName struct {
	source *acmeSource
	name   string
	config *certmagic.Config
	turn   chan struct{} // of capacity 1: one attempt at a time
	came   chan struct{} // of capacity 1: a certificate came by hand

	first atomic.Pointer[tls.Certificate] // what the storage held at the start, until certmagic has it

	mu    sync.Mutex
	state attempts
}

// run gets the certificate and keeps it fresh. certmagic would, but not so that one could live with it: ManageAsync holds
// the lock on a name for as long as it tries, up to thirty days, so that nobody can try at once by hand; it tries in a
// queue of the package's, which a Reload can neither see nor end; and the pauses after failed renewals, which grow to
// six hours, are the package's too, so that options that were corrected wait for the mistakes of those before.
func (n *acmeName) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		pause := n.pace()
		if n.due() {
			if n.attempt(ctx, failures, false) == nil {
				failures = 0
				pause = n.pace()
			} else {
				pause = n.retry(failures)
				failures++
				n.tryAt(time.Now().Add(pause))
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-n.came:
			failures = 0
		}
		timer.Stop()
	}
}

// due reports whether there is no certificate, or one to be renewed: by the CA's word (RFC 9773) or by its age.
func (n *acmeName) due() bool {
	cached := n.cached()
	return len(cached) == 0 || !slices.ContainsFunc(cached, func(c certmagic.Certificate) bool { return !c.NeedsRenewal(n.config) })
}

// pace is how often the certificate is looked at.
func (n *acmeName) pace() time.Duration {
	if c := n.newest(); c != nil {
		return min(smallPart(c), maxPace)
	}
	return maxPace
}

// maxLimit is how long a CA can keep us from asking: as long as the limits of Let's Encrypt look back.
const maxLimit = 7 * 24 * time.Hour

// retry is the pause after some failed attempts and one more. The renewal of a certificate that lives for minutes cannot
// wait for hours, but for the end of a CA's limit it does: asking before is in vain, and may count.
func (n *acmeName) retry(failures int) time.Duration {
	retries := n.source.options.Retries
	pause := retries[min(failures, len(retries)-1)]
	if c := n.newest(); c != nil {
		pause = min(smallPart(c), pause)
	}
	return max(pause, min(time.Until(n.opening()), maxLimit))
}

// smallPart of the life of a certificate.
func smallPart(c *tls.Certificate) time.Duration {
	return max(c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/20, minPace)
}

// try marks the context of an attempt of ours.
type try struct{ begun bool }

type tryKey struct{}

// attempt loads, obtains or renews the certificate once; with force, one that is not due. After failures certmagic asks
// Let's Encrypt's staging CA first, which counts them less. The error is what people are told.
func (n *acmeName) attempt(ctx context.Context, failures int, force bool) error {
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	n.begin()
	err := n.obtain(ctx, failures, force)
	if forgetful(err) {
		n.begin()
		err = n.obtain(ctx, withoutReplaces, force)
	}
	if len(n.cached()) > 0 {
		n.first.Store(nil)
		n.source.wake()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		n.succeeded()
		return nil
	case force && n.certificate() != nil && !n.due():
		return n.combined(err) // nobody waits for a new one
	}
	return n.failed(err)
}

// withoutReplaces is the number of failures after which certmagic does not tell the CA which certificate is renewed.
const withoutReplaces = 2

// forgetful reports whether a CA has lost its memory, and will do better at once: it does not know our account, for
// which certmagic then makes another but asks once more with the old one, or the certificate that is renewed.
func forgetful(err error) bool {
	var problem acme.Problem
	return err != nil && strings.HasSuffix(err.Error(), "no certificate chains") ||
		errors.As(err, &problem) && problem.Type == acme.ProblemTypeMalformed
}

func (n *acmeName) obtain(ctx context.Context, failures int, force bool) error {
	ctx = context.WithValue(ctx, tryKey{}, &try{})
	if failures > 0 {
		ctx = context.WithValue(ctx, certmagic.AttemptsCtxKey, &failures)
	}
	old := n.cached()
	if len(old) == 0 {
		return n.config.ManageSync(ctx, []string{n.name})
	}
	if err := n.config.RenewCertSync(ctx, n.name, force); err != nil {
		return err
	}
	fresh, err := n.config.CacheManagedCertificate(ctx, n.name)
	if err != nil {
		return fmt.Errorf("loading the new certificate: %w", err)
	}
	for _, c := range old {
		if c.Hash() != fresh.Hash() {
			n.source.cache.Remove([]string{c.Hash()})
		}
	}
	return nil
}

// renew is an attempt by hand. What is waited for may follow.
func (n *acmeName) renew(ctx context.Context) error {
	err := n.attempt(ctx, 0, true)
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	select {
	case n.came <- struct{}{}:
	default:
	}
	return nil
}

// event is certmagic's Config.OnEvent.
func (n *acmeName) event(ctx context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtaining":
		// certmagic's own renewals are ours to do, and one of ours asks once, which its replacement of a revoked
		// certificate does not: that goes on in a loop.
		t, ok := ctx.Value(tryKey{}).(*try)
		if !ok || t.begun {
			return certmagic.ErrNoRetry{Err: errNotOurs}
		}
		t.begun = true
		if err := n.source.door.ready(); err != nil {
			return doorError{err}
		}
	case "cert_obtained":
		certificatePath, _ := data["certificate_path"].(string)
		n.obtained(ctx, certificatePath, data["renewal"] == true)
	case "cert_ocsp_revoked":
		n.source.logger.Warn("the CA has revoked a certificate; another is asked for", zap.String(logfields.Name, n.name))
	}
	return nil
}

var errNotOurs = errors.New("not now")

// doorError is why a CA was not even asked.
type doorError struct{ error }

func (e doorError) Unwrap() error { return e.error }

// obtained logs a new certificate that is in the storage.
func (n *acmeName) obtained(ctx context.Context, certificatePath string, renewal bool) {
	content, err := n.source.storage.Load(ctx, certificatePath)
	if err != nil {
		return // certmagic has just written it, and will say so itself
	}
	leaf, err := parseCertificate(content)
	if err != nil {
		return
	}
	n.source.logger.Info("issued a certificate", zap.String(logfields.Name, n.name), zap.Bool("renewal", renewal),
		zap.Time("not_after", leaf.NotAfter), zap.String("issuer", leaf.Issuer.String()))
}

// cached are the certificates of this name that certmagic has; two for a moment when one replaces the other.
func (n *acmeName) cached() []certmagic.Certificate {
	var mine []certmagic.Certificate
	for _, c := range n.source.cache.AllMatchingCertificates(n.name) {
		if len(c.Names) > 0 && c.Names[0] == n.name {
			mine = append(mine, c)
		}
	}
	return mine
}

// newest is the certificate that began last, good or not; nil if there is none. It reads the cache each time: that is
// where renewals and OCSP staples come in.
func (n *acmeName) newest() *tls.Certificate {
	var newest *tls.Certificate
	found := n.source.cache.AllMatchingCertificates(n.name)
	for i := range found {
		c := &found[i]
		if c.Leaf != nil && c.Names[0] == n.name && (newest == nil || c.Leaf.NotBefore.After(newest.Leaf.NotBefore)) {
			newest = &c.Certificate
		}
	}
	if newest == nil {
		return n.first.Load()
	}
	return newest
}

// certificate is the newest one if it is good now. An expired one serves nobody.
func (n *acmeName) certificate() *tls.Certificate {
	if c := n.newest(); c != nil && time.Now().Before(c.Leaf.NotAfter) {
		return c
	}
	return nil
}

// loadFirst reads what the storage has, so that the first handshake gets it: certmagic may ask an OCSP responder before
// it hands a certificate out. What is no whole pair, because a kill came between two files, is removed: certmagic would
// fail on it for ever.
func (n *acmeName) loadFirst() {
	for _, issuer := range n.config.Issuers {
		key := issuer.IssuerKey()
		c, err := n.load(key)
		switch {
		case err == nil:
			if first := n.first.Load(); first == nil || c.Leaf.NotBefore.After(first.Leaf.NotBefore) {
				n.first.Store(c)
			}
		case errors.Is(err, errBroken):
			directory := certmagic.StorageKeys.CertsSitePrefix(key, n.name)
			n.source.logger.Warn("removing a stored certificate that is not whole; a new one is asked for",
				zap.String(logfields.Path, path.Join(n.source.storage.Path, directory)), zap.Error(err))
			if err := n.source.storage.Delete(context.Background(), directory); err != nil {
				n.source.logger.Warn("cannot remove it", zap.Error(err))
			}
		}
	}
}

var errBroken = errors.New("not a whole certificate")

// load reads the certificate of one issuer. Its three files are written one after the other.
func (n *acmeName) load(issuer string) (*tls.Certificate, error) {
	ctx, keys := context.Background(), certmagic.StorageKeys
	certificatePEM, certificateErr := n.source.storage.Load(ctx, keys.SiteCert(issuer, n.name))
	keyPEM, keyErr := n.source.storage.Load(ctx, keys.SitePrivateKey(issuer, n.name))
	meta, metaErr := n.source.storage.Load(ctx, keys.SiteMeta(issuer, n.name))
	missing := 0
	for _, err := range []error{certificateErr, keyErr, metaErr} {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case err != nil:
			return nil, err
		}
	}
	switch missing {
	case 0:
	case 3:
		return nil, fs.ErrNotExist
	default:
		return nil, fmt.Errorf("%w: %d of 3 files are missing", errBroken, missing)
	}
	c, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	if !json.Valid(meta) {
		return nil, fmt.Errorf("%w: its description cannot be read", errBroken)
	}
	return &c, nil
}

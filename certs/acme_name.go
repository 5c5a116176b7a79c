package certs

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
)

// acmeName is one managed certificate.
type acmeName struct {
	source *acmeSource
	name   string
	config *certmagic.Config
	turn   chan struct{} // of capacity 1: one attempt of ours at a time
	have   chan struct{} // closed when certmagic manages a certificate, and renews it from then on

	first   atomic.Pointer[tls.Certificate] // what the storage held at the start
	managed sync.Once                       // closes have

	mu    sync.Mutex
	state attempts
}

// run asks for the certificate until there is one. certmagic's ManageAsync would do it too, but holds the lock on the
// name for as long as it tries, up to thirty days, so that nobody could try at once by hand; keeps trying in a queue of
// the package's, where a Reload neither ends nor sees it; and waits up to six hours as if it had a schedule to keep.
func (n *acmeName) run(ctx context.Context) {
	retries := n.source.options.Retries
	for failures := 0; ; failures++ {
		if err := n.attempt(ctx, failures, false); err == nil || ctx.Err() != nil {
			return
		}
		pause := retries[min(failures, len(retries)-1)]
		n.tryAt(time.Now().Add(pause))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-n.have:
		case <-timer.C:
			continue
		}
		timer.Stop()
		return
	}
}

// ours marks the context of an attempt whose outcome we see by its return.
type ours struct{}

// attempt loads, obtains or renews the certificate once; with force it renews one that is good. After failures
// certmagic asks Let's Encrypt's staging CA first, which counts them less.
func (n *acmeName) attempt(ctx context.Context, failures int, force bool) error {
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	n.begin()
	ctx = context.WithValue(ctx, ours{}, true)
	if failures > 0 {
		ctx = context.WithValue(ctx, certmagic.AttemptsCtxKey, &failures)
	}
	err := n.obtain(ctx, force)
	if len(n.cached()) > 0 {
		n.managed.Do(func() { close(n.have) })
		n.source.wake()
	}
	if err != nil && ctx.Err() == nil {
		n.failed(err)
	}
	return err
}

func (n *acmeName) obtain(ctx context.Context, force bool) error {
	old := n.cached()
	if !force || len(old) == 0 {
		return n.config.ManageSync(ctx, []string{n.name})
	}
	if err := n.config.RenewCertSync(ctx, n.name, true); err != nil {
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

// event is certmagic's Config.OnEvent.
func (n *acmeName) event(ctx context.Context, event string, data map[string]any) error {
	switch event {
	case "cert_obtaining":
		n.begin()
		if err := n.source.door.ready(); err != nil {
			return doorError{err}
		}
	case "cert_failed":
		if err, ok := data["error"].(error); ok && ctx.Value(ours{}) == nil && ctx.Err() == nil {
			n.failed(err)
		}
	case "cert_obtained":
		certificatePath, _ := data["certificate_path"].(string)
		n.obtained(ctx, certificatePath, data["renewal"] == true)
	}
	return nil
}

// doorError is why a CA was not even asked.
type doorError struct{ error }

func (e doorError) Unwrap() error { return e.error }

// obtained notes a new certificate that is in the storage.
func (n *acmeName) obtained(ctx context.Context, certificatePath string, renewal bool) {
	n.succeeded()
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
	for _, c := range n.source.cache.AllMatchingCertificates(n.name) {
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

package certs

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/caddyserver/certmagic"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
)

// loadFirst reads what the storage has, so that the first handshake gets it: certmagic may ask an OCSP responder before
// it hands a certificate out.
func (n *acmeName) loadFirst() {
	for _, c := range n.tidy() {
		n.keep(c)
	}
}

// keep has c shown as long as there is nothing better.
func (n *acmeName) keep(c *tls.Certificate) {
	if kept := n.kept.Load(); kept == nil || better(c, kept) {
		n.kept.Store(c)
	}
}

// tidy returns what the storage has, and removes from it what is of no use: what is no whole pair, because a kill came
// between two files, or is for another name. With either certmagic would fail for ever, or ask no CA.
func (n *acmeName) tidy() (stored []*tls.Certificate) {
	for _, issuer := range n.config.Issuers {
		key := issuer.IssuerKey()
		c, err := n.load(key)
		switch {
		case err == nil:
			stored = append(stored, c)
		case errors.Is(err, errBroken):
			directory := certmagic.StorageKeys.CertsSitePrefix(key, n.name)
			n.source.logger.Warn("removing a stored certificate that cannot be used; a new one is asked for",
				zap.String(logfields.Path, path.Join(n.source.storage.Path, directory)), zap.Error(err))
			if err := n.source.storage.Delete(context.Background(), directory); err != nil {
				n.source.logger.Warn("cannot remove it", zap.Error(err))
			}
		}
	}
	return stored
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
	if !json.Valid(meta) {
		return nil, fmt.Errorf("%w: its description cannot be read", errBroken)
	}
	if _, err := leafOf(certificatePEM); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	c, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	if err := checkLeaf(c.Leaf, n.name); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	return &c, nil
}

package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
)

// acmeName is one managed certificate.
type acmeName struct {
	source  *acmeSource
	name    string
	config  *certmagic.Config
	issuers []*acmeIssuer // those of config
	came    chan struct{} // of capacity 1: a certificate came by hand

	// kept is what certmagic does not have: what the storage held at the start, or what was renewed, shown until the next is
	// good. Nil after a revocation.
	kept atomic.Pointer[tls.Certificate]

	mu     sync.Mutex
	state  attempts
	under  *attempt  // what is under way; nil is nothing
	byHand time.Time // when the last one came that was asked for by hand
}

// run gets the certificate and keeps it fresh. certmagic would, but not so that one could live with it: ManageAsync holds
// the lock on a name for as long as it tries, up to thirty days, so that nobody can try at once by hand; it tries in a
// queue of the package's, which a Reload can neither see nor end; and the pauses after failed renewals, which grow to
// six hours, are the package's too, so that options that were corrected wait for the mistakes of those before.
func (n *acmeName) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		pause := n.pace()
		if n.due() {
			if n.attempt(ctx, failures) == nil {
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

// retry is the pause after some failed attempts and one more. The renewal of a certificate that lives for minutes cannot
// wait for hours, but until a CA can be asked it does: asking before is in vain, and may count.
func (n *acmeName) retry(failures int) time.Duration {
	retries := n.source.options.Retries
	pause := retries[min(failures, len(retries)-1)]
	if c := n.newest(); c != nil {
		pause = min(smallPart(c), pause)
	}
	return max(pause, n.leftAlone())
}

// leftAlone is how long it takes until the first of the CAs may be asked.
func (n *acmeName) leftAlone() time.Duration {
	least := maxWait
	for _, issuer := range n.issuers {
		until, _ := issuer.leftAlone()
		least = min(least, time.Until(until))
	}
	return least
}

// smallPart of the life of a certificate.
func smallPart(c *tls.Certificate) time.Duration {
	return max(c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/20, minPace)
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
		if data["renewal"] == true {
			t.renewed, _ = data["issuer"].(string)
		}
		if err := n.source.door.ready(); err != nil {
			return doorError{err}
		}
	case "cert_obtained":
		certificatePath, _ := data["certificate_path"].(string)
		n.obtained(ctx, certificatePath, data["renewal"] == true)
	case "cert_ocsp_revoked":
		n.kept.Store(nil)
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

// cached are the certificates for this name that certmagic has; two for a moment when one replaces the other, or where a
// CA puts several names into each. A CA may put what it likes before the name.
func (n *acmeName) cached() []certmagic.Certificate {
	return slices.DeleteFunc(n.source.cache.AllMatchingCertificates(n.name), func(c certmagic.Certificate) bool {
		return c.Leaf == nil || !isFor(c.Leaf, n.name)
	})
}

// newest is the good certificate that began last, or if there is none one that is over or yet to begin; nil without any.
// It reads the cache each time: that is where renewals and OCSP staples come in.
func (n *acmeName) newest() *tls.Certificate {
	var newest *tls.Certificate
	found := n.source.cache.AllMatchingCertificates(n.name)
	for i := range found {
		c := &found[i].Certificate
		if c.Leaf != nil && isFor(c.Leaf, n.name) && (newest == nil || better(c, newest)) {
			newest = c
		}
	}
	if kept := n.kept.Load(); kept != nil && (newest == nil || better(kept, newest)) {
		return kept
	}
	return newest
}

func better(a, b *tls.Certificate) bool {
	now := time.Now()
	if good := isGood(a.Leaf, now); good != isGood(b.Leaf, now) {
		return good
	}
	return a.Leaf.NotBefore.After(b.Leaf.NotBefore)
}

// certificate is the newest one if it is good now. An expired one serves nobody, nor does one before its time.
func (n *acmeName) certificate() *tls.Certificate {
	if c := n.newest(); c != nil && isGood(c.Leaf, time.Now()) {
		return c
	}
	return nil
}

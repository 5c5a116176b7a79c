package certs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// calm is how long after one by hand no other certificate is asked for by hand: Let's Encrypt issues five a week.
const calm = 10 * time.Minute

// attempt to get a certificate; there is one at a time for a name.
type attempt struct {
	done chan struct{}
	err  error // when done is closed: what people are told
}

// try marks the context of an attempt of ours.
type try struct {
	begun   bool
	byHand  bool
	renewed string // the issuer of the certificate that is renewed, by certmagic's key; "" for a first one
}

type tryKey struct{}

// join returns the attempt under way, or a new one that the caller has to carry out.
func (n *acmeName) join(byHand bool) (a *attempt, begins bool, err error) {
	good := n.certificate() != nil && !n.due()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.under != nil {
		return n.under, false, nil
	}
	if next := n.byHand.Add(n.source.options.calm); byHand && good && time.Now().Before(next) {
		return nil, false, fmt.Errorf("a new certificate came %s ago, and CAs issue few of the same; another can be asked for from %s on",
			time.Since(n.byHand).Round(time.Second), next.UTC().Format(time.RFC3339))
	}
	n.under = &attempt{done: make(chan struct{})}
	return n.under, true, nil
}

// attempt loads, obtains or renews the certificate once, after some failures, or joins who does. The error is what people
// are told.
func (n *acmeName) attempt(ctx context.Context, failures int) error {
	a, begins, _ := n.join(false)
	if begins {
		n.carryOut(ctx, a, failures, false)
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// renew is an attempt by hand, of a certificate that need not be due; or it joins the one under way. It goes on when ctx
// ends, until close.
func (n *acmeName) renew(ctx context.Context) error {
	a, begins, err := n.join(true)
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	if begins {
		n.source.work.Go(func() { n.carryOut(n.source.ctx, a, 0, true) })
	}
	select {
	case <-a.done:
		err = a.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return nil
}

func (n *acmeName) carryOut(ctx context.Context, a *attempt, failures int, byHand bool) {
	a.err = n.ask(ctx, failures, byHand)
	n.mu.Lock()
	n.under = nil
	if byHand && a.err == nil {
		n.byHand = time.Now()
	}
	n.mu.Unlock()
	close(a.done)
	if !byHand || a.err != nil {
		return
	}
	select {
	case n.came <- struct{}{}:
	default:
	}
}

// ask does the work of an attempt. After failures certmagic asks Let's Encrypt's staging CA first, which counts them less.
func (n *acmeName) ask(ctx context.Context, failures int, byHand bool) error {
	renewing := len(n.cached()) > 0
	n.begin()
	err := n.obtain(ctx, failures, byHand)
	if forgetful(err, renewing) {
		n.begin()
		err = n.obtain(ctx, withoutReplaces, byHand)
	}
	if len(n.cached()) > 0 {
		n.source.wake()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		n.succeeded()
		return nil
	case byHand && n.certificate() != nil && !n.due():
		return n.combined(err) // nobody waits for a new one
	}
	return n.failed(err)
}

// withoutReplaces is the number of failures after which certmagic does not tell the CA which certificate is renewed.
const withoutReplaces = 2

// forgetful reports whether a CA has lost its memory, and will do better at once: it does not know our account, for
// which certmagic then makes another but asks once more with the old one, or it cannot place the certificate that is
// renewed, for which CAs have several words (RFC 9773, section 5, has two).
func forgetful(err error, renewing bool) bool {
	var problem acme.Problem
	switch {
	case err == nil:
		return false
	case strings.HasSuffix(err.Error(), "no certificate chains"):
		return true
	case !errors.As(err, &problem):
		return false
	}
	return problem.Type == acme.ProblemTypeMalformed ||
		renewing && (problem.Type == acme.ProblemTypeAlreadyReplaced || problem.Type == acme.ProblemTypeServerInternal)
}

func (n *acmeName) obtain(ctx context.Context, failures int, byHand bool) error {
	ctx = context.WithValue(ctx, tryKey{}, &try{byHand: byHand})
	if failures > 0 {
		ctx = context.WithValue(ctx, certmagic.AttemptsCtxKey, &failures)
	}
	stored, old := n.tidy(), n.cached()
	if len(old) == 0 {
		return n.config.ManageSync(ctx, []string{n.name})
	}
	var err error
	if len(stored) == 0 {
		err = n.config.ObtainCertSync(ctx, n.name)
	} else {
		err = n.config.RenewCertSync(ctx, n.name, byHand)
	}
	if err != nil {
		return err
	}
	fresh, err := n.config.CacheManagedCertificate(ctx, n.name)
	if err != nil {
		return fmt.Errorf("loading the new certificate: %w", err)
	}
	for _, c := range old {
		if c.Hash() == fresh.Hash() {
			continue
		}
		for _, other := range n.source.names { // n, if the new one is yet to begin, and whoever shares the old one
			if isFor(c.Leaf, other.name) {
				other.keep(&c.Certificate)
			}
		}
		n.source.cache.Remove([]string{c.Hash()})
	}
	return nil
}

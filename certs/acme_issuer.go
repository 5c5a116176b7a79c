package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

const (
	// patience is what a CA has for one attempt, of which most take seconds; then the next is asked. A record of dns-01
	// may take as long again as it is given to spread.
	patience = 10 * time.Minute
	// askTime is what a question about a renewal may take.
	askTime = time.Minute
	// rateLimitWait is how long a CA is left alone that limits and does not say until when.
	rateLimitWait = time.Hour
)

// acmeIssuer is one CA for one name: certmagic's, within limits of time and memory, and what it issues is looked at before
// it takes the place of what is there.
type acmeIssuer struct {
	*certmagic.ACMEIssuer
	name *acmeName

	mu    sync.Mutex
	until time.Time // the CA wants to be left alone
	why   error     // in its words
}

var _ interface {
	certmagic.Issuer
	certmagic.PreChecker
	certmagic.Revoker
	certmagic.RenewalInfoGetter
} = (*acmeIssuer)(nil)

var errPatience = errors.New("patience is over")

// Issue asks the CA, which may take a bounded time and not hang up those after it.
func (i *acmeIssuer) Issue(ctx context.Context, request *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	t, _ := ctx.Value(tryKey{}).(*try)
	if t == nil {
		return nil, certmagic.ErrNoRetry{Err: errNotOurs}
	}
	if until, why := i.leftAlone(); !t.byHand && time.Now().Before(until) {
		return nil, plainError{fmt.Errorf("the CA is left alone until %s, as it wants it: %s", until.UTC().Format(time.RFC3339), words(i.name.name, why))}
	}
	limit := i.name.source.options.patience
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errPatience)
	defer cancel()
	ctx, heard := hear(ctx)
	if t.renewed == i.IssuerKey() {
		ctx = i.replacing(ctx)
	}
	issued, err := i.ACMEIssuer.Issue(ctx, request)
	switch {
	case err == nil:
		if err = checkChain(issued.Certificate, i.name.name, request.PublicKey, time.Now()); err != nil {
			return nil, plainError{fmt.Errorf("the CA issued what cannot be used: %w", err)}
		}
		i.leaveAlone(time.Time{}, nil)
		return issued, nil
	case errors.Is(context.Cause(ctx), errPatience):
		err = plainError{fmt.Errorf("the CA has issued nothing within %s", limit)}
	}
	i.leaveAlone(limited(err, heard.until), err)
	return nil, err
}

// limited is until when a CA is left alone after a failure: as its header says, or its words; zero if it limits nothing.
func limited(err error, until time.Time) time.Time {
	var problem acme.Problem
	if until.IsZero() && errors.As(err, &problem) && problem.Type == acme.ProblemTypeRateLimited {
		if until = limitEnd(err); until.IsZero() {
			until = time.Now().Add(rateLimitWait)
		}
	}
	if latest := time.Now().Add(maxWait); until.After(latest) {
		return latest
	}
	return until
}

// GetRenewalInfo asks when to renew (RFC 9773).
func (i *acmeIssuer) GetRenewalInfo(ctx context.Context, c certmagic.Certificate) (acme.RenewalInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	ctx, _ = hear(ctx)
	return i.ACMEIssuer.GetRenewalInfo(ctx, c)
}

func (i *acmeIssuer) leaveAlone(until time.Time, why error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.until, i.why = until, why
}

func (i *acmeIssuer) leftAlone() (until time.Time, why error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.until, i.why
}

// replacing has certmagic tell the CA which certificate is renewed (RFC 9773, section 5), for which limits on new ones are
// relaxed. By itself it tells only an issuer of its very own type, through a key that it keeps to itself.
func (i *acmeIssuer) replacing(ctx context.Context) context.Context {
	stored, err := i.name.load(i.IssuerKey())
	if err != nil {
		return ctx
	}
	return replacing{ctx, stored.Leaf}
}

type replacing struct {
	context.Context
	leaf *x509.Certificate
}

func (r replacing) Value(key any) any {
	value := reflect.ValueOf(key)
	if value.Kind() == reflect.String && value.String() == "ari_replaces" && value.Type().PkgPath() == certmagicPath {
		return r.leaf
	}
	return r.Context.Value(key)
}

var certmagicPath = reflect.TypeFor[certmagic.Config]().PkgPath()

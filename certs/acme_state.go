package certs

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/smtpwall/smtpwall/internal/logfields"
	"go.uber.org/zap"
)

// attempts are what is known of the last attempts to get a certificate.
type attempts struct {
	err      error         // of the last one; nil after a success
	at       time.Time     // when it failed
	next     time.Time     // when the next attempt comes; zero if that is not known
	refusals []issuerError // of the attempt under way: each CA's, in the order in which they were asked
}

// issuerError is what one CA said.
type issuerError struct {
	issuer string // certmagic's key of it
	err    error
}

// begin notes that an attempt begins.
func (n *acmeName) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.refusals = nil
}

// refused notes what one of the CAs said.
func (n *acmeName) refused(issuer string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.refusals = append(n.state.refusals, issuerError{issuer, err})
}

// failed notes and logs the failure of an attempt. It returns what is told of it.
func (n *acmeName) failed(err error) error {
	err = n.combined(err)
	n.source.logger.Warn("could not get a certificate", zap.String(logfields.Name, n.name), zap.String(logfields.Error, err.Error()))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.err, n.state.at = err, time.Now()
	return err
}

// combined is what to tell: one CA's words, or those of each. certmagic returns the last CA's alone.
func (n *acmeName) combined(err error) error {
	refusals := n.attempts().refusals
	if len(refusals) == 1 && errors.Is(err, errNotOurs) {
		err = refusals[0].err
	}
	if len(refusals) < 2 {
		return told{words(n.name, err), err}
	}
	var each []string
	for _, refusal := range refusals {
		each = append(each, n.source.issuerName(refusal.issuer)+": "+words(n.name, refusal.err))
	}
	return told{strings.Join(each, "; "), err}
}

// told is an error in the words that people get.
type told struct {
	words string
	error
}

func (t told) Error() string { return t.words }
func (t told) Unwrap() error { return t.error }

// limitForm is how Boulder, the CA of Let's Encrypt, says when a limit opens. It says it in a header too, as others
// do; something on the way may take that out.
var limitForm = regexp.MustCompile(`retry after (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC)`)

// limitEnd is the time that a CA gave with a refusal for asking too often; zero if it gave none.
func limitEnd(err error) time.Time {
	var problem acme.Problem
	if !errors.As(err, &problem) || problem.Type != acme.ProblemTypeRateLimited {
		return time.Time{}
	}
	found := limitForm.FindStringSubmatch(problem.Detail)
	if found == nil {
		return time.Time{}
	}
	end, _ := time.Parse("2006-01-02 15:04:05 MST", found[1])
	return end
}

// succeeded forgets the failures before.
func (n *acmeName) succeeded() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state = attempts{}
}

// tryAt notes when run goes on.
func (n *acmeName) tryAt(next time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.next = next
}

func (n *acmeName) attempts() attempts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// issuerName is the host of the CA that certmagic knows by a key.
func (s *acmeSource) issuerName(key string) string {
	for i, issuer := range s.names[0].config.Issuers {
		if issuer.IssuerKey() == key {
			if u, err := url.Parse(s.options.Issuers[i].Directory); err == nil {
				return u.Host
			}
		}
	}
	return key
}

// condition is what is wrong with the certificate; "" if nothing is.
func (n *acmeName) condition(now time.Time) string {
	a, c := n.attempts(), n.newest()
	if door := n.source.door.problem(); door != nil && a.err == nil {
		a.err = told{doorWords(door), doorError{door}}
	}
	if c != nil && isGood(c.Leaf, now) {
		if a.err == nil {
			return ""
		}
		return fmt.Sprintf("could not be renewed: %s. It is good until %s.%s", a.err, c.Leaf.NotAfter.UTC().Format(time.RFC3339), n.outlook(a, now))
	}
	what, instead := "is not there yet", "; clients are shown the local CA's instead"
	switch {
	case c == nil:
	case now.Before(c.Leaf.NotAfter) && a.err == nil:
		return fmt.Sprintf("begins %s%s. Look at this host's clock; if it is right, the CA's is not.", c.Leaf.NotBefore.UTC().Format(time.RFC3339), instead)
	case now.Before(c.Leaf.NotAfter):
		what = "begins " + c.Leaf.NotBefore.UTC().Format(time.RFC3339)
	default:
		what = "ended " + c.Leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	if a.err == nil {
		return what + instead + ". The CA is being asked."
	}
	return fmt.Sprintf("%s%s: %s.%s", what, instead, a.err, n.outlook(a, now))
}

// outlook is when it is tried next, and what to do.
func (n *acmeName) outlook(a attempts, now time.Time) string {
	text := ""
	if a.next.After(now) {
		text = " It is tried again at " + a.next.UTC().Format(time.RFC3339) + "."
	}
	if remedy := n.source.remedy(n.name, a.err); remedy != "" {
		text += " " + remedy
	}
	return text
}

package acme_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
)

// load is clients that come again and again, each of which must succeed.
type load struct {
	b     *bed
	roots *x509.CertPool

	mu      sync.Mutex
	serials []string // of full handshakes, in the order in which they were first seen
	shaken  int
	resumed int
	posted  []string // markers of messages
	stale   int      // handshakes that showed an older certificate than one seen before they began
	errs    []error
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// pace is how often each client comes.
const pace = 100 * time.Millisecond

// startLoad begins with clients of several kinds.
func (b *bed) startLoad(t testing.TB, roots *x509.CertPool) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{b: b, roots: roots, stop: cancel}
	t.Cleanup(l.end)
	for _, at := range []netip.AddrPort{submission, submissions} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			l.client(ctx, at, &tls.Config{MaxVersion: version}, false)
		}
		l.client(ctx, at, &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1)}, false)
		l.client(ctx, at, &tls.Config{}, true)
	}
	return l
}

// client comes again and again, until ctx ends.
func (l *load) client(ctx context.Context, at netip.AddrPort, config *tls.Config, posts bool) {
	config.RootCAs, config.ServerName = l.roots, hostName
	l.done.Go(func() { // ends with ctx, for which end waits
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			if err := l.come(ctx, client{b: l.b, at: at, tls: config}, posts); err != nil && ctx.Err() == nil {
				l.fail(fmt.Errorf("at %s: %w", at, err))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (l *load) come(ctx context.Context, c client, posts bool) error {
	known := l.newest()
	s, state, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	l.note(state, known)
	if posts {
		marker, err := post(s)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.posted = append(l.posted, marker)
		l.mu.Unlock()
	}
	return s.Quit()
}

// newest is how many certificates have been seen.
func (l *load) newest() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.serials)
}

func (l *load) note(state tls.ConnectionState, known int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state.DidResume {
		l.resumed++
		return // it shows what the client remembers
	}
	l.shaken++
	serial := state.PeerCertificates[0].SerialNumber.String()
	at := -1
	for i, seen := range l.serials {
		if seen == serial {
			at = i
		}
	}
	switch {
	case at < 0:
		l.serials = append(l.serials, serial)
	case at < known-1:
		l.stale++
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *load) end() {
	l.stop()
	l.done.Wait()
}

// check ends the load and finds what went wrong.
func (l *load) check(t testing.TB) {
	t.Helper()
	l.end()
	if len(l.errs) > 0 {
		t.Errorf("%d clients failed: %v", len(l.errs), errors.Join(l.errs[:min(10, len(l.errs))]...))
	}
	if l.stale > 0 {
		t.Errorf("%d handshakes showed an old certificate after the new one", l.stale)
	}
	if l.shaken == 0 || l.resumed == 0 || len(l.posted) == 0 {
		t.Errorf("%d full handshakes, %d resumed, %d messages", l.shaken, l.resumed, len(l.posted))
	}
	arrived := map[string]int{} // by the last line
	for _, message := range l.b.relay.Messages() {
		text := strings.TrimSpace(string(message.Bytes))
		arrived[text[strings.LastIndexByte(text, '\n')+1:]]++
	}
	for _, marker := range l.posted {
		if arrived[marker] != 1 {
			t.Errorf("the relay has a message %d times, want once", arrived[marker])
		}
	}
	t.Logf("%d full handshakes, %d resumed, %d messages, %d certificates", l.shaken, l.resumed, len(l.posted), len(l.serials))
}

// TestRenewalUnderLoad: a certificate of five minutes is renewed in time, and no
// client that comes meanwhile notices anything but the new one.
func TestRenewalUnderLoad(t *testing.T) {
	t.Parallel()
	s := setup{ca: pebble.Options{Profiles: map[string]time.Duration{"default": 5 * time.Minute}}}
	b := newBed(t, s)
	f := &front{withoutARI: true} // Pebble suggests any time from the first second on
	b.startFront(t, f)
	s.config = f.config() + "[policy]\nlimits = []\n"
	b.configure(s)
	b.start()
	roots := b.ca.Roots(0)
	first := b.awaitCertificate(t, roots, hostName)
	b.awaitWell(t)
	old, oldState, err := client{b: b, at: submissions, tls: trusting(roots, hostName), time: 6 * time.Minute}.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	l := b.startLoad(t, roots)
	awaitFor(t, time.Until(first.NotAfter), "a second certificate", func() bool {
		if err := old.Noop(); err != nil {
			t.Fatalf("the session from before: %v", err)
		}
		return l.newest() == 2
	})
	left := time.Until(first.NotAfter)
	t.Logf("renewed %s before the end", left.Round(time.Second))
	if left < 30*time.Second || left > 4*time.Minute {
		t.Errorf("renewed %s before the end", left)
	}
	after := time.NewTimer(3 * time.Second) // the load goes on
	<-after.C
	l.check(t)
	second, err := b.handshake(submissions, roots, hostName)
	if err != nil || second.SerialNumber.Cmp(first.SerialNumber) == 0 || !second.NotAfter.After(first.NotAfter) {
		t.Fatalf("the certificate is %+v, %v", second, err)
	}
	b.checkShown(t, roots, hostName, second)
	// The session that began with the old certificate still sends mail.
	marker, err := post(old)
	if err != nil {
		t.Fatalf("the session from before: %v", err)
	}
	b.checkArrived(t, marker)
	if state, _ := old.TLSConnectionState(); !state.PeerCertificates[0].Equal(first) || !oldState.PeerCertificates[0].Equal(first) {
		t.Error("the session from before did not begin with the first certificate")
	}
	b.awaitWell(t)
}

// TestRenewalInformation: a CA that wants a certificate renewed early is heard.
func TestRenewalInformation(t *testing.T) {
	t.Parallel()
	// How often it is asked depends on how long certificates are good for.
	s := setup{ca: pebble.Options{Profiles: map[string]time.Duration{"default": 12 * time.Minute}}}
	b := newBed(t, s)
	f := &front{askAgain: 2 * time.Second, noHurry: true}
	b.startFront(t, f)
	s.config = f.config()
	b.configure(s)
	b.start()
	roots := b.ca.Roots(0)
	first := b.awaitCertificate(t, roots, hostName)
	b.ca.SetRenewalWindow(first, time.Now().Add(-time.Hour), time.Now().Add(-time.Minute))
	f.hurry()
	var second *x509.Certificate
	awaitFor(t, 2*patience, "another certificate", func() bool {
		var err error
		if second, err = b.handshake(submissions, roots, hostName); err != nil {
			t.Fatal(err)
		}
		return !second.Equal(first)
	})
	b.checkShown(t, roots, hostName, second)
	b.awaitWell(t)
}

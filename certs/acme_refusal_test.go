package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// condition waits for the condition of acmeHost to have text in it.
func awaitCondition(t testing.TB, m *Manager, text string) string {
	t.Helper()
	var last string
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(last, text) {
		if time.Now().After(deadline) {
			t.Fatalf("condition %q, want %q in it", last, text)
		}
		time.Sleep(20 * time.Millisecond)
		last = m.Conditions()["certificate "+acmeHost]
	}
	return last
}

// TestACMERefused: what a CA says against us becomes a condition with what to do, one line in the log, and the error of
// who asks by hand.
func TestACMERefused(t *testing.T) {
	tests := map[string]struct {
		ca     pebble.Options
		change func(o *ACMEOptions)
		want   []string
	}{
		"blocked name": {pebble.Options{Blocked: []string{"example.test"}}, nil,
			[]string{"the CA says: Order included", "forbidden domain (rejectedIdentifier)", "This CA does not certify the name"}},
		"no external account": {pebble.Options{EAB: map[string]string{"kid": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}}, nil,
			[]string{"(externalAccountRequired)", "Set eab_key_id and eab_key"}},
		"unknown profile": {pebble.Options{Profiles: map[string]time.Duration{"short": time.Hour}}, func(o *ACMEOptions) { o.Issuers[0].Profile = "long" },
			[]string{"unknown profile name 'long'; supported profiles: map[short", "Correct profile."}},
		"nobody answers": {pebble.Options{HTTPPort: 1}, nil,
			[]string{"connection refused", "(connection)", "must reach this proxy at port 80 of each address that " + acmeHost + " has"}},
		"strange root": {pebble.Options{}, func(o *ACMEOptions) { o.Issuers[0].Roots = nil },
			[]string{"certificate signed by unknown authority", "name its root with ca."}},
		"two CAs": {pebble.Options{Blocked: []string{"example.test"}}, func(o *ACMEOptions) {
			o.Issuers = append(o.Issuers, ACMEIssuer{Directory: "https://127.0.0.1:1/dir"})
		}, []string{"(rejectedIdentifier); 127.0.0.1:1: ", "connection refused"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, port := listener(t)
			if test.ca.HTTPPort == 0 {
				test.ca.HTTPPort = port
			}
			ca := pebble.Start(t, test.ca)
			core, logs := observer.New(zap.WarnLevel)
			o := acmeOptions(ca, t.TempDir())
			o.HTTPListeners, o.Logger, o.ACME.Retries = []net.Listener{l}, zap.New(core), []time.Duration{time.Hour}
			if test.change != nil {
				test.change(&o.ACME)
			}
			m := open(t, o)
			condition := awaitCondition(t, m, test.want[0])
			err := m.Renew(context.Background(), acmeHost)
			for i, part := range test.want {
				if !strings.Contains(condition, part) {
					t.Errorf("condition %q, want %q", condition, part)
				}
				if last := i == len(test.want)-1; (err == nil || !strings.Contains(err.Error(), part)) && (!last || name == "two CAs") {
					t.Errorf("error %v, want %q", err, part)
				}
			}
			if logs.Len() != 2 || logs.FilterMessage("could not get a certificate").Len() != 2 {
				t.Errorf("two failures were logged so: %v", logs.All())
			}
			status := m.Status()[0]
			if status.LastError == "" || status.Serving || time.Since(status.ErrorAt) > time.Minute || time.Until(status.NextTry) < 50*time.Minute {
				t.Errorf("status: %+v", status)
			}
			verify(t, shown(t, m, acmeHost, direct), o.Directory, acmeHost, time.Now())
		})
	}
}

// TestACMEAccepted: a CA that wants more than the least.
func TestACMEAccepted(t *testing.T) {
	const eab = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	t.Parallel()
	l, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port, EAB: map[string]string{"kid": eab}, BadNonces: 30, AlternateRoots: 2,
		Profiles: map[string]time.Duration{"short": time.Hour, "long": 24 * time.Hour}, RetryAfter: time.Second})
	o := acmeOptions(ca, t.TempDir())
	o.HTTPListeners = []net.Listener{l}
	first := o.ACME.Issuers[0]
	first.EABKeyID, first.EABKey, first.Profile, first.PreferredChain = "kid", eab, "short", ca.Root(1).Subject.CommonName
	o.ACME.Email = "admin@example.test"
	o.ACME.Issuers = []ACMEIssuer{{Directory: "https://127.0.0.1:1/dir"}, first}
	m := open(t, o)
	await(t, "certificate", func() bool { return m.Status()[0].Serving })
	shownLeaf := shown(t, m, acmeHost, direct)
	if life := shownLeaf.NotAfter.Sub(shownLeaf.NotBefore).Round(time.Minute); life != time.Hour {
		t.Errorf("it lives %s, want the profile's hour", life)
	}
	if chain := m.current.Load().source.forName(acmeHost); !endsIn(t, chain.Certificate, ca.Root(1)) {
		t.Error("not the preferred chain")
	}
}

// endsIn reports whether the last of a chain is signed by root.
func endsIn(t *testing.T, chain [][]byte, root *x509.Certificate) bool {
	t.Helper()
	last, err := x509.ParseCertificate(chain[len(chain)-1])
	if err != nil {
		t.Fatal(err)
	}
	return last.CheckSignatureFrom(root) == nil
}

// TestACMEDoor: a challenge that cannot be answered asks no CA.
func TestACMEDoor(t *testing.T) {
	t.Parallel()
	taken, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port})
	for want, change := range map[string]func(*ACMEOptions){
		fmt.Sprintf("address already in use. It is tried again at %s", strconv.Itoa(time.Now().Year())): func(o *ACMEOptions) { o.HTTPPort = port },
		"Free port " + strconv.Itoa(port) + ", set web_root":                                            func(o *ACMEOptions) { o.HTTPPort = port },
		"Set http_port or web_root":                 func(*ACMEOptions) {},
		"Let the proxy's user write below web_root": func(o *ACMEOptions) { o.WebRoot = "/proc/self" },
		"web root: open /nowhere: no such file":     func(o *ACMEOptions) { o.WebRoot = "/nowhere" },
	} {
		o := acmeOptions(ca, t.TempDir())
		change(&o.ACME)
		o.ACME.Retries = []time.Duration{time.Hour}
		m := open(t, o)
		condition := awaitCondition(t, m, want)
		if !strings.Contains(condition, "the CA is not asked, because no challenge could be answered: ") {
			t.Errorf("condition %q", condition)
		}
		m.Close()
	}
	if strings.Contains(ca.Log(), "POST /order-plz") {
		t.Error("a CA was asked")
	}
	o := acmeOptions(ca, t.TempDir())
	o.ACME.HTTPPort = port
	m := open(t, o)
	awaitCondition(t, m, "address already in use")
	taken.Close()
	awaitIssued(t, m, ca, acmeHost)
}

// TestACMESilent: a CA that hangs holds up nothing but its own order.
func TestACMESilent(t *testing.T) {
	t.Parallel()
	l, port := listener(t)
	ca := pebble.Start(t, pebble.Options{HTTPPort: port})
	ca.Pause()
	defer ca.Resume()
	o := acmeOptions(ca, t.TempDir())
	o.HTTPListeners = []net.Listener{l}
	began := time.Now()
	m := open(t, o)
	verify(t, shown(t, m, acmeHost, direct), o.Directory, acmeHost, time.Now())
	awaitCondition(t, m, "is not there yet; clients are shown the local CA's instead. The CA is being asked.")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := m.Renew(ctx, acmeHost); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("renewing by hand: %v", err)
	}
	other := o
	other.HTTPListeners, other.ACME.Email = nil, "admin@example.test"
	if err := m.Reload(other); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if took := time.Since(began); took > closeTime+5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestWords(t *testing.T) {
	problem := func(kind, detail string) error {
		return fmt.Errorf("[vps1.example] Obtain: %w", acme.Problem{Type: "urn:ietf:params:acme:error:" + kind, Status: 429, Detail: detail})
	}
	tests := map[string]error{
		`the CA says: too many certificates (5) already issued, retry after 2026-11-23 04:00:00 UTC (rateLimited)`: problem("rateLimited", "too many certificates (5) already issued, retry after 2026-11-23 04:00:00 UTC"),
		`the CA says: a b (caa)`:         problem("caa", "a\nb"),
		`the CA refused (HTTP 503)`:      acme.Problem{Status: 503},
		`the CA says: x (https://e/own)`: acme.Problem{Type: "https://e/own", Detail: "x"},
		"no chain":                       errors.New("vps1.example: obtaining certificate: [vps1.example] Obtain: [vps1.example] no chain"),
		"a ? b":                          errors.New("a \xff\x00b"),
		"a b c":                          errors.New("a\u202eb\u2028c"),
		"hook: exit status 1":            fmt.Errorf("[vps1.example] Obtain: [vps1.example] solving challenges: presenting for challenge: %w (order=https://ca/1) (ca=https://ca/dir)", plainError{errors.New("hook: exit status 1")}),
		"dial: refused":                  errors.New("[vps1.example] Obtain: [vps1.example] dial: refused (order=https://ca/1) (ca=https://ca/dir)"),
	}
	for want, err := range tests {
		if got := words("vps1.example", err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := words("vps1.example", errors.New(strings.Repeat("ä", maxWords))); len(got) > maxWords+5 {
		t.Errorf("%d octets", len(got))
	}
	s := &acmeSource{options: ACMEOptions{Challenge: ChallengeDNS}}
	if got := s.remedy("*.vps1.example", problem("dns", "NXDOMAIN")); !strings.Contains(got, "_acme-challenge.vps1.example") {
		t.Error(got)
	}
	if got := s.remedy("vps1.example", problem("rateLimited", "")); got == "" {
		t.Error("nothing to do about a rate limit")
	}
}

// TestLimitEnd: a CA's limit is waited for if every CA has one, and not for ever.
func TestLimitEnd(t *testing.T) {
	limitedFor := func(d time.Duration) error {
		return fmt.Errorf("order: %w", acme.Problem{Type: acme.ProblemTypeRateLimited, Detail: "too many certificates, retry after " +
			time.Now().Add(d).UTC().Format("2006-01-02 15:04:05 MST") + ": see https://letsencrypt.org/docs/rate-limits/"})
	}
	other := acme.Problem{Type: acme.ProblemTypeServerInternal, Detail: "retry after 2099-01-01 00:00:00 UTC"}
	vague := acme.Problem{Type: acme.ProblemTypeRateLimited, Detail: "too many"}
	tests := []struct {
		name     string
		refusals []error
		want     time.Duration
	}{
		{"none", []error{nil}, time.Minute},
		{"an hour", []error{limitedFor(time.Hour)}, time.Hour},
		{"a second", []error{limitedFor(time.Second)}, time.Minute},
		{"over", []error{limitedFor(-time.Hour)}, time.Minute},
		{"two CAs", []error{limitedFor(2 * time.Hour), limitedFor(time.Hour)}, time.Hour},
		{"a fallback that has none", []error{limitedFor(time.Hour), other}, time.Minute},
		{"no time", []error{vague}, rateLimitWait},
		{"a year", []error{limitedFor(365 * 24 * time.Hour)}, maxWait},
	}
	m := open(t, storedOptions(t))
	for _, test := range tests {
		n := &acmeName{source: &acmeSource{options: ACMEOptions{Retries: []time.Duration{time.Minute}}, cache: m.current.Load().managed.cache}, name: "x"}
		for _, err := range test.refusals {
			issuer := &acmeIssuer{name: n}
			issuer.leaveAlone(limited(err, time.Time{}), err)
			n.issuers = append(n.issuers, issuer)
		}
		if got := n.retry(0); got.Round(2*time.Second) != test.want.Round(2*time.Second) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestDoorRemedy: what systemd keeps the proxy from is for its units to allow.
func TestDoorRemedy(t *testing.T) {
	bind := func(errno syscall.Errno) error {
		return &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", errno)}
	}
	const units = "Have systemd open it: systemctl enable smtpwall-acme@%d.socket, then systemctl restart smtpwall.service; where another program has port %d, "
	tests := map[string]struct {
		o   ACMEOptions
		err error
	}{
		fmt.Sprintf(units, 80, 80) + "set web_root if a web server has it, or choose another challenge.": {ACMEOptions{Challenge: ChallengeHTTP, HTTPPort: 80}, bind(syscall.EACCES)},
		fmt.Sprintf(units, 443, 443) + "choose another challenge.":                                       {ACMEOptions{Challenge: ChallengeTLSALPN, TLSALPNPort: 443}, bind(syscall.EPERM)},
		"Free port 443, or choose another challenge.":                                                    {ACMEOptions{Challenge: ChallengeTLSALPN, TLSALPNPort: 443}, bind(syscall.EADDRINUSE)},
		"Let the service write there: ReadWritePaths=/srv/www/.well-known/acme-challenge in a drop-in of smtpwall.service.": {
			ACMEOptions{Challenge: ChallengeHTTP, WebRoot: "/srv/www"}, &fs.PathError{Op: "mkdir", Path: "x", Err: syscall.EROFS}},
	}
	for want, test := range tests {
		s := &acmeSource{options: test.o}
		if got := s.remedy("vps1.example", told{"", doorError{test.err}}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

package certs

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestBound: without the client of certmagic's there is no going on.
func TestBound(t *testing.T) {
	config := certmagic.New(certmagic.NewCache(certmagic.CacheOptions{GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return nil, nil }}), certmagic.Config{})
	if err := bound(certmagic.NewACMEIssuer(config, certmagic.ACMEIssuer{})); err != nil {
		t.Error(err)
	}
	if err := bound(&certmagic.ACMEIssuer{}); err == nil {
		t.Error("an issuer without a client was bounded")
	}
}

// TestACMEAnswers: what is more than an answer is not read, and said.
func TestACMEAnswers(t *testing.T) {
	tests := map[string]struct {
		want   string
		answer func(w http.ResponseWriter, sent *atomic.Int64)
	}{
		"long": {"an answer of the CA is longer than 256 KiB", func(w http.ResponseWriter, sent *atomic.Int64) {
			for part := make([]byte, 64<<10); sent.Load() < 1<<30; {
				n, err := w.Write(part)
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		}},
		"packed": {"invalid character '\\x1f'", func(w http.ResponseWriter, sent *atomic.Int64) {
			w.Header().Set("Content-Encoding", "gzip")
			packed := gzip.NewWriter(w)
			_, _ = packed.Write(bytes.Repeat([]byte(" "), 200<<10))
			_ = packed.Close()
		}},
		"many parts": {"an answer of the CA has more than 1000 parts", func(w http.ResponseWriter, sent *atomic.Int64) {
			fmt.Fprintf(w, `{"meta":[%s]}`, strings.Repeat("{},", 1000))
		}},
		"long header": {"server response headers exceeded", func(w http.ResponseWriter, sent *atomic.Int64) {
			for range 80 {
				w.Header().Add("Link", strings.Repeat("x", 1000))
			}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			ca := newHostileCA(t)
			ca.answer = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Type", "application/json")
				test.answer(w, &sent)
				return true
			}
			condition := awaitCondition(t, open(t, hostileOptions(t, ca)), test.want)
			if len(condition) > 1200 {
				t.Errorf("the condition has %d octets", len(condition))
			}
			if octets := sent.Load(); octets > 64<<20 { // what is on the way is taken by buffers of the kernel
				t.Errorf("%d MiB were sent", octets>>20)
			}
		})
	}
}

// TestACMEEndless: a CA with ever more to look at is heard for 8 MiB.
func TestACMEEndless(t *testing.T) {
	t.Parallel()
	ca := newHostileCA(t)
	ca.authz = func(a *acme.Authorization) {
		a.Status = "pending"
		a.Challenges[1].Token = strings.Repeat("x", 200<<10)
	}
	awaitCondition(t, open(t, hostileOptions(t, ca)), "the answers of the CA are longer than 8 MiB")
}

// TestACMEHangs: a CA that lets us wait for 32 years, whatever it is asked, keeps nobody from asking the next.
func TestACMEHangs(t *testing.T) {
	hang := func(ca *hostileCA) { ca.authz = func(a *acme.Authorization) { a.Status = "pending" } }
	for name, spoil := range map[string]func(ca *hostileCA){
		"order": hang,
		"order with Retry-After": func(ca *hostileCA) {
			hang(ca)
			ca.answer = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Retry-After", "999999999")
				return false
			}
		},
		"Retry-After that is none": func(ca *hostileCA) {
			hang(ca)
			ca.answer = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Retry-After", "soon")
				return false
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good := newHostileCA(t), newHostileCA(t)
			spoil(bad)
			o := hostileOptions(t, bad, good)
			o.ACME.patience = 2 * time.Second
			m := open(t, o)
			await(t, "the other CA's certificate", func() bool { return m.Status()[0].Serving })
			m.Close()

			o = hostileOptions(t, bad)
			o.ACME.patience = time.Second
			m = open(t, o)
			awaitCondition(t, m, "the CA has issued nothing within 1s. It is tried again at")
			if left := time.Until(m.Status()[0].NextTry); left > time.Hour {
				t.Errorf("it is tried again in %s", left)
			}
		})
	}
}

// TestACMELeftAlone: a CA that says when to ask again is asked then, by itself; another, and by hand, before.
func TestACMELeftAlone(t *testing.T) {
	limit := func(status int, header string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/new" {
				return false
			}
			if header != "" {
				w.Header().Set("Retry-After", header)
			}
			giveProblem(w, status, "rateLimited", "too many")
			return true
		}
	}
	for name, test := range map[string]struct {
		status int
		header string
		want   time.Duration
	}{
		"seconds": {429, "3600", time.Hour}, "date": {503, time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat), 2 * time.Hour},
		"too long": {429, "99999999999999", maxWait}, "no word": {429, "", rateLimitWait}, "past": {429, "Sun, 06 Nov 1994 08:49:37 GMT", rateLimitWait},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newHostileCA(t)
			ca.answer = limit(test.status, test.header)
			o := hostileOptions(t, ca)
			o.ACME.Retries = []time.Duration{time.Second}
			m := open(t, o)
			awaitCondition(t, m, "too many (rateLimited). It is tried again at")
			if left := time.Until(m.Status()[0].NextTry); left < test.want-time.Minute || left > test.want {
				t.Errorf("it is tried again in %s, want %s", left, test.want)
			}
			ca.change(func(ca *hostileCA) { ca.answer = nil })
			if err := m.Renew(context.Background(), acmeHost); err != nil || !m.Status()[0].Serving {
				t.Errorf("by hand: %v", err)
			}
		})
	}
	t.Run("another CA", func(t *testing.T) {
		t.Parallel()
		limited, refusing := newHostileCA(t), newHostileCA(t)
		limited.answer = limit(429, "3600")
		refusing.answer = func(w http.ResponseWriter, r *http.Request) bool {
			giveProblem(w, http.StatusForbidden, "unauthorized", "no")
			return true
		}
		o := hostileOptions(t, limited, refusing)
		o.ACME.Retries = []time.Duration{time.Second}
		m := open(t, o)
		await(t, "the second CA to be asked again", func() bool { return refusing.asked("dir") >= 3 })
		if asked := limited.asked("new"); asked != 1 {
			t.Errorf("the first was asked %d times", asked)
		}
		awaitCondition(t, m, "the CA is left alone until ")
	})
}

// uselessness is what a hostile CA can do to a certificate, with what is said of it.
func uselessness(t testing.TB) map[string]func(ca *hostileCA) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(how func(*x509.Certificate)) func(*hostileCA) {
		return func(ca *hostileCA) { ca.spoil = how }
	}
	return map[string]func(ca *hostileCA){
		`the certificate is for ["evil.example"] and not for ` + acmeHost: spoil(func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} }),
		`the certificate is for another key`:                              spoil(func(c *x509.Certificate) { c.PublicKey = &other.PublicKey }),
		`the certificate ended `:                                          spoil(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		`which is in the future`:                                          spoil(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(48 * time.Hour) }),
		`the certificate is not for servers`:                              spoil(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }),
		`the chain has more than 10 certificates or 64 KiB`: func(ca *hostileCA) {
			ca.chain = func(leaf []byte) []byte { return bytes.Repeat(leaf, 11) }
		},
		`it holds "PRIVATE KEY" where only certificates should be`: func(ca *hostileCA) {
			ca.chain = func(leaf []byte) []byte {
				return append(leaf, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"...)
			}
		},
		`it holds no certificate`: func(ca *hostileCA) {
			ca.chain = func([]byte) []byte { return []byte("x") }
		},
	}
}

// TestACMEUseless: a certificate that is of no use never takes the place of a good one, and the next CA is asked.
func TestACMEUseless(t *testing.T) {
	for want, spoil := range uselessness(t) {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			bad, good := newHostileCA(t), newHostileCA(t)
			spoil(bad)
			core, logs := observer.New(zap.ErrorLevel)
			o := hostileOptions(t, bad)
			o.Logger = zap.New(core)
			m := open(t, o)
			awaitCondition(t, m, "the CA issued what cannot be used: ")
			awaitCondition(t, m, want)
			if left := stored(t, o.Directory, "*"); len(left) != 0 {
				t.Errorf("it was stored: %v", left)
			}
			bad.change(func(ca *hostileCA) { ca.spoil, ca.chain = nil, nil })
			if err := m.Renew(context.Background(), acmeHost); err != nil {
				t.Fatal(err)
			}
			before, kept := shown(t, m, acmeHost, direct), stored(t, o.Directory, ".crt")
			bad.change(spoil)
			if err := m.Renew(context.Background(), acmeHost); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("renewing ended with %v, want %q", err, want)
			}
			if now := shown(t, m, acmeHost, direct); !now.Equal(before) || !slices.Equal(kept, stored(t, o.Directory, ".crt")) {
				t.Error("the good one was lost")
			}
			m.Close()
			m = open(t, o)
			if now := shown(t, m, acmeHost, direct); !now.Equal(before) {
				t.Error("the good one was lost by a restart")
			}
			m.Close()
			if logs.Len() != 0 {
				t.Errorf("errors, about which nothing can be done: %v", logs.All())
			}

			o = hostileOptions(t, bad, good)
			m = open(t, o)
			await(t, "the next CA's certificate", func() bool { return m.Status()[0].Serving })
		})
	}
}

// TestACMEOtherNames: a certificate is for a name wherever in it the name stands.
func TestACMEOtherNames(t *testing.T) {
	const second = "mail.example.test"
	for name, spoil := range map[string]func(*x509.Certificate){
		"common name": func(c *x509.Certificate) { c.Subject.CommonName = "Server of Example Corp" },
		"more names":  func(c *x509.Certificate) { c.DNSNames = append([]string{"www.example.test"}, c.DNSNames...) },
		"capitals":    func(c *x509.Certificate) { c.DNSNames[0] = strings.ToUpper(c.DNSNames[0]) },
		"all names":   func(c *x509.Certificate) { c.DNSNames = []string{acmeHost, second} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newHostileCA(t)
			ca.spoil = spoil
			o := hostileOptions(t, ca)
			o.ACME.Names = []string{acmeHost, second}
			m := open(t, o)
			for range 3 {
				await(t, "certificates", func() bool { return m.Status()[0].Serving && m.Status()[1].Serving })
				before := m.Status()
				if err := m.Renew(context.Background()); err != nil {
					t.Error(err)
				}
				for i, now := range m.Status()[:2] {
					if !now.Serving || now.Fingerprint == before[i].Fingerprint {
						t.Errorf("%s was not renewed: %+v", now.Name, now)
					}
				}
			}
			if conditions := m.Conditions(); len(conditions) != 0 {
				t.Errorf("conditions: %v", conditions)
			}
			if !slices.ContainsFunc(ca.orders, func(order *hostileOrder) bool { return order.replaces != "" }) {
				t.Error("the CA was never told what is renewed")
			}
			m.Close()
			if again := open(t, o); !again.Status()[0].Serving {
				t.Error("not shown after a restart")
			}
		})
	}
}

// TestACMEReplaces: a CA that does not take the certificate that is renewed for one of its own is asked for one without.
func TestACMEReplaces(t *testing.T) {
	for kind, status := range map[string]int{"malformed": 400, "alreadyReplaced": 409, "serverInternal": 500} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ca := newHostileCA(t)
			refused := 0
			ca.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/new" {
					return false
				}
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				var wanted acme.Order
				_ = json.Unmarshal(payload(r), &wanted)
				r.Body = io.NopCloser(bytes.NewReader(body))
				if wanted.Replaces == "" {
					return false
				}
				refused++
				giveProblem(w, status, kind, "no such certificate")
				return true
			}
			m := open(t, hostileOptions(t, ca))
			await(t, "the certificate", func() bool { return m.Status()[0].Serving })
			before := m.Status()[0].Fingerprint
			if err := m.Renew(context.Background()); err != nil {
				t.Error(err)
			}
			if m.Status()[0].Fingerprint == before || refused == 0 {
				t.Errorf("not renewed, refused %d times", refused)
			}
		})
	}
}

// TestACMEShared: where a CA puts names together, the renewal of one takes nothing from the other.
func TestACMEShared(t *testing.T) {
	t.Parallel()
	const second = "mail.example.test"
	ca := newHostileCA(t)
	ca.spoil = func(c *x509.Certificate) { c.DNSNames = []string{acmeHost, second} }
	o := hostileOptions(t, ca)
	o.ACME.Names = []string{acmeHost, second}
	m := open(t, o)
	await(t, "certificates", func() bool { return m.Status()[0].Serving && m.Status()[1].Serving })
	ca.change(func(ca *hostileCA) { ca.spoil = nil })
	if err := m.Renew(context.Background(), acmeHost); err != nil {
		t.Fatal(err)
	}
	if leaf := shown(t, m, second, direct); leaf.Issuer.CommonName != "public CA" {
		t.Errorf("%s is shown a certificate of %s", second, leaf.Issuer)
	}
}

// TestACMEStoredUseless: what is stored and of no use is gone before the CA is asked.
func TestACMEStoredUseless(t *testing.T) {
	t.Parallel()
	ca := newHostileCA(t)
	o := hostileOptions(t, ca)
	m := open(t, o)
	await(t, "certificate", func() bool { return m.Status()[0].Serving })
	certificate, key := ca.issue(t, "evil.example")
	spoil := func() {
		write(t, stored(t, o.Directory, ".crt")[0], certificate)
		write(t, stored(t, o.Directory, ".key")[0], key)
	}
	spoil() // while it runs
	before := m.Status()[0]
	if err := m.Renew(context.Background(), acmeHost); err != nil || m.Status()[0].Fingerprint == before.Fingerprint {
		t.Errorf("renewed with another's certificate in the storage: %v", err)
	}
	m.Close()
	spoil()
	m = open(t, o)
	if leaf := shown(t, m, acmeHost, direct); isFor(leaf, "evil.example") {
		t.Error("another's certificate is shown")
	}
	await(t, "certificate", func() bool { return m.Status()[0].Serving })
}

// TestACMEForeignName: a hook and a web root do nothing for a name that was not asked for.
func TestACMEForeignName(t *testing.T) {
	for _, kind := range []string{ChallengeDNS, ChallengeHTTP} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			ca := newHostileCA(t)
			ca.authz = func(a *acme.Authorization) { a.Identifier.Value = "x\nupdate add evil.example. 60 A 192.0.2.6\nsend\n" }
			o := hostileOptions(t, ca)
			directory := t.TempDir()
			if kind == ChallengeDNS {
				write(t, filepath.Join(directory, "hook"), []byte("#!/bin/sh\n: > "+filepath.Join(directory, "called")+"\n"))
				if err := errors.Join(os.Chmod(directory, 0o755), os.Chmod(filepath.Join(directory, "hook"), 0o700)); err != nil {
					t.Fatal(err)
				}
				o.ACME.WebRoot, o.ACME.Challenge, o.ACME.Hook = "", kind, []string{filepath.Join(directory, "hook")}
			}
			m := open(t, o)
			condition := awaitCondition(t, m, `instead: the CA gave a challenge for the name "x\nupdate add evil.example. 60 A 192.0.2.6\nsend\n", which was not asked for. It is`)
			if strings.ContainsAny(condition, "\n") {
				t.Errorf("condition %q", condition)
			}
			if _, err := os.Stat(filepath.Join(directory, "called")); err == nil {
				t.Error("the hook was called")
			}
			left, err := filepath.Glob(filepath.Join(o.ACME.WebRoot, challengePath, "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("%v in the web root: %v", left, err)
			}
		})
	}
}

// TestACMERenewOften: whoever asks by hand joins who has asked, and is refused soon after.
func TestACMERenewOften(t *testing.T) {
	t.Parallel()
	ca := newHostileCA(t)
	o := hostileOptions(t, ca)
	o.ACME.calm = 0
	m := open(t, o)
	await(t, "certificate", func() bool { return m.Status()[0].Serving })
	hold := make(chan struct{})
	ca.change(func(ca *hostileCA) {
		ca.answer = func(http.ResponseWriter, *http.Request) bool { <-hold; return false }
	})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := runtime.NumGoroutine()
	for range 50 {
		if err := m.Renew(ctx, acmeHost); !errors.Is(err, context.Canceled) {
			t.Errorf("given up with %v", err)
		}
	}
	await(t, "those who gave up to be gone", func() bool { return runtime.NumGoroutine() < before+20 })
	joined := make(chan error, 1)
	go func() { joined <- m.Renew(context.Background(), acmeHost) }() // ends with hold
	close(hold)
	if err := <-joined; err != nil {
		t.Error(err)
	}
	if orders := ca.asked("new"); orders != 2 {
		t.Errorf("%d orders, want one more than the first", orders)
	}
	err := m.Renew(context.Background(), acmeHost)
	if err == nil || !strings.Contains(err.Error(), acmeHost+": a new certificate came 0s ago, and CAs issue few of the same; another can be asked for from ") {
		t.Errorf("at once again: %v", err)
	}
	if conditions := m.Conditions(); len(conditions) != 0 || ca.asked("new") != 2 {
		t.Errorf("conditions %v, %d orders", conditions, ca.asked("new"))
	}
}

// TestACMEEarly: a certificate that is yet to begin is not shown, and takes nothing's place before.
func TestACMEEarly(t *testing.T) {
	t.Parallel()
	early := func(ca *hostileCA) {
		ca.spoil = func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
	}
	ca := newHostileCA(t)
	early(ca)
	o := hostileOptions(t, ca)
	m := open(t, o)
	condition := awaitCondition(t, m, "begins ")
	if want := "; clients are shown the local CA's instead. Look at this host's clock; if it is right, the CA's is not."; !strings.HasSuffix(condition, want) {
		t.Errorf("condition %q", condition)
	}
	verify(t, shown(t, m, acmeHost, direct), o.Directory, acmeHost, time.Now())
	if m.Status()[0].Serving {
		t.Error("it is said to be shown")
	}
	ca.change(func(ca *hostileCA) { ca.spoil = nil })
	if err := m.Renew(context.Background(), acmeHost); err != nil {
		t.Fatal(err)
	}
	good := shown(t, m, acmeHost, direct)
	ca.change(early)
	if err := m.Renew(context.Background(), acmeHost); err != nil {
		t.Fatal(err)
	}
	if now := shown(t, m, acmeHost, direct); !now.Equal(good) || now.Issuer.CommonName != "public CA" {
		t.Error("the good one is not shown any more")
	}
}

// TestACMELogBounded: a CA's text fits into a line of the log, and is no error that somebody must act upon.
func TestACMELogBounded(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	logger := newQuiet(zap.New(core), nil)
	long := strings.Repeat("x", 1<<20)
	logger.Error("cleaning up solver", zap.Error(errors.New(long)), zap.Any("problem", acme.Problem{Detail: long}), zap.String("url", long), zap.Int("n", 5))
	logger.Error("deactivating authorization", zap.Error(context.Canceled))
	all := logs.All()
	if len(all) != 1 || all[0].Level != zap.WarnLevel {
		t.Fatalf("logged %d lines", len(all))
	}
	for _, field := range all[0].Context {
		if len(field.String) > maxWords+5 || field.Interface != nil || field.Key == "n" && field.Integer != 5 {
			t.Errorf("field %s has %d octets", field.Key, len(field.String))
		}
	}
}

// TestRetryAfter: what acmez is told to wait for can be waited for.
func TestRetryAfter(t *testing.T) {
	tests := []struct{ method, header, want string }{
		{"POST", "5", "5"}, {"POST", "999999999", "30"}, {"POST", "99999999999999999999", ""}, {"POST", "soon", ""}, {"POST", "-5", ""}, {"POST", "0", ""}, {"POST", "", ""},
		{"POST", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), "30"}, {"POST", "Sun, 06 Nov 1994 08:49:37 GMT", ""},
		{"GET", "21600", "21600"}, {"GET", "999999999", "86400"},
	}
	for _, test := range tests {
		h := &hearing{}
		response := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Retry-After": {test.header}}}
		h.wait(&http.Request{Method: test.method}, response)
		if got := response.Header.Get("Retry-After"); got != test.want || !h.until.IsZero() {
			t.Errorf("%s, %q: %q until %s, want %q", test.method, test.header, got, h.until, test.want)
		}
	}
}

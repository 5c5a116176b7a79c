package certs

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestExcludedBelowWildcard: a wildcard of the host's, from a CA, in files or the local CA's that stands in for it, is
// no way around AllowName for redirected clients; direct ones are shown it.
func TestExcludedBelowWildcard(t *testing.T) {
	const excluded, allowed = "bank.example.org", "shop.example.org"
	allow := func(name string) bool { return name != excluded }
	stored := storedOptions(t, "mail.example.org", "*.example.org")
	pending := storedOptions(t)
	pending.ACME.Names = stored.ACME.Names
	ca, files := newPublicCA(t), newPairFiles(t)
	certificate, key := ca.issue(t, "*.example.org", "mail.example.org")
	files.write(t, certificate, key)
	for name, test := range map[string]struct {
		options Options
		public  bool // the wildcard is from elsewhere, and there
	}{"stored": {stored, true}, "not there yet": {pending, false}, "files": {files.options(t.TempDir()), true}} {
		t.Run(name, func(t *testing.T) {
			test.options.AllowName = allow
			test.options.LookedUp = func(netip.Addr) []string { return []string{"other.test"} }
			m := open(t, test.options)
			isFor := func(serverName string, destination netip.AddrPort) func(name string) bool {
				leaf := shown(t, m, serverName, destination)
				return func(name string) bool { return leaf.VerifyHostname(name) == nil }
			}
			for _, asked := range []string{excluded, "BANK.example.org", "", "192.0.2.25"} {
				if isFor(asked, foreign4)(excluded) {
					t.Errorf("%q: shown a certificate for %s", asked, excluded)
				}
			}
			for _, asked := range []string{allowed, "mail.example.org"} {
				leaf := shown(t, m, asked, foreign4)
				if leaf.VerifyHostname(asked) != nil || (leaf.Issuer.CommonName == "public CA") != test.public {
					t.Errorf("%s: shown %q of %q", asked, leaf.DNSNames, leaf.Issuer.CommonName)
				}
			}
			if test.public && !isFor(excluded, direct)(excluded) {
				t.Errorf("a direct client is not shown the certificate for %s", excluded)
			}
			if !isFor("", foreign4)("other.test") {
				t.Error("no name in the hello: not the looked-up one")
			}
			unlimited(m.current.Load().redirected)
			m.current.Load().redirected.budget.all.SetBurst(0)
			m.current.Load().redirected.budget.all.SetLimit(0)
			m.current.Load().redirected.issued.Purge()
			if isFor("", foreign4)(excluded) || isFor("new.test", foreign4)(excluded) {
				t.Error("without a budget: a wildcard")
			}
		})
	}
}

// TestEndedFilesRedirected: a name that the files are for no more is signed for redirected clients, if it is allowed.
func TestEndedFilesRedirected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, files := newPublicCA(t), newPairFiles(t)
		certificate, key := ca.issueFor(t, time.Hour, "www.example.org", "bank.example.org")
		files.write(t, certificate, key)
		o := files.options(t.TempDir())
		o.AllowName = func(name string) bool { return name != "bank.example.org" }
		m, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		shownTo := func(name string) *x509.Certificate {
			t.Helper()
			c, err := m.certificate(hello(name, foreign4))
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(c.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			return leaf
		}
		if leaf := shownTo("www.example.org"); leaf.Issuer.CommonName != "public CA" {
			t.Errorf("shown that of %q", leaf.Issuer.CommonName)
		}
		time.Sleep(time.Hour)
		if leaf := shownTo("www.example.org"); !slices.Equal(leaf.DNSNames, []string{"www.example.org"}) {
			t.Errorf("shown %q", leaf.DNSNames)
		}
		if leaf := shownTo("bank.example.org"); leaf.VerifyHostname("bank.example.org") == nil {
			t.Errorf("shown %q", leaf.DNSNames)
		}
	})
}

// TestFilesNotYet: a certificate that begins tomorrow is not shown where the local CA's would do.
func TestFilesNotYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, files := newPublicCA(t), newPairFiles(t)
		certificate, key := ca.issue(t, "vps1.example.net")
		files.write(t, certificate, key)
		leaf := time.Now().Add(-time.Hour)
		p, err := readPair(files.certificate, files.key)
		if err != nil {
			t.Fatal(err)
		}
		p.certificate.Leaf.NotBefore = leaf.Add(3 * time.Hour)
		f := openFiles(files.certificate, files.key, zap.NewNop())
		defer f.close()
		f.current.Store(p)
		if f.forAnybody() != nil || f.forName("vps1.example.net") != nil || f.status()[0].Serving {
			t.Error("shown before its time")
		}
		if text := f.conditions(time.Now())["certificate vps1.example.net"]; !strings.HasPrefix(text, "begins ") {
			t.Errorf("condition %q", text)
		}
		time.Sleep(2 * time.Hour)
		if f.forAnybody() == nil || len(f.conditions(time.Now())) != 0 {
			t.Errorf("not shown at its time: %v", f.conditions(time.Now()))
		}
	})
}

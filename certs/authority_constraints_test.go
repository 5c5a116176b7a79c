package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestParseConstraints(t *testing.T) {
	tests := []struct {
		entries []string
		want    string // or a part of the error
		fails   bool
	}{
		{nil, "", false},
		{[]string{"Example.COM", "bücher.example", "192.0.2.0/24", "2001:db8::/32", "198.51.100.7", "::1", "example.org."},
			"example.com, xn--bcher-kva.example, example.org, 192.0.2.0/24, 2001:db8::/32, 198.51.100.7/32, ::1/128", false},
		{[]string{"a.example.com", "example.com", "b.example.com", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3"}, "a.example.com, example.com, 10.0.0.0/8", false},
		{[]string{"0.0.0.0/0", "::/0"}, "0.0.0.0/0, ::/0", false},
		{[]string{"*.example.com"}, `a domain stands for all names below it: write "example.com"`, true},
		{[]string{".example.com"}, `write "example.com"`, true},
		{[]string{"192.0.2.1/24"}, `bits are set beyond the network: write "192.0.2.0/24"`, true},
		{[]string{"::ffff:192.0.2.0/120"}, "write an IPv4 network as such", true},
		{[]string{"a b"}, "neither a domain nor a network", true},
		{[]string{""}, "neither a domain nor a network", true},
		{[]string{"192.0.2.0/33"}, "neither a domain nor a network", true},
		{[]string{"user@example.com"}, "neither a domain nor a network", true},
		{slices.Repeat([]string{"example.com"}, maxConstraints+1), "at most 256 are possible", true},
	}
	for _, test := range tests {
		got, err := parseConstraints(test.entries)
		if test.fails {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%.100q: error %v, want %q", test.entries, err, test.want)
			}
			continue
		}
		if err != nil || got.String() != test.want {
			t.Errorf("%q: %q, %v; want %q", test.entries, got, err, test.want)
		}
	}
	_, err := parseConstraints([]string{"a b", "c d"})
	if err == nil || strings.Count(err.Error(), "neither") != 2 {
		t.Errorf("not every wrong entry is reported: %v", err)
	}
	if err := (Options{Directory: t.TempDir(), CANames: []string{"a b"}}).Validate(); err == nil {
		t.Error("options with a wrong name were accepted")
	}
}

var (
	hostAddress     = netip.MustParseAddr("203.0.113.9")
	constrainedHost = Options{Names: []string{"vps1.example.net"}, Addresses: []netip.Addr{hostAddress},
		CANames: []string{"example.com", "192.0.2.0/24", "2001:db8::/32"}}
)

// TestConstrainedRoot makes a CA with constraints, and asks Go and openssl about what it signs.
func TestConstrainedRoot(t *testing.T) {
	o := constrainedHost
	o.Directory = t.TempDir()
	lookedUp := []string{"mail.example.com", "mail.example.org"}
	o.LookedUp = func(netip.Addr) []string { return lookedUp }
	m := open(t, o)

	root := m.current.Load().authority.root
	critical := slices.ContainsFunc(root.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "2.5.29.30" && e.Critical })
	if !critical || !root.PermittedDNSDomainsCritical {
		t.Error("the name constraints are not critical")
	}
	if want := []string{"example.com", "vps1.example.net", "localhost"}; !slices.Equal(root.PermittedDNSDomains, want) {
		t.Errorf("permitted domains %q, want %q", root.PermittedDNSDomains, want)
	}
	if got, want := fmt.Sprint(root.PermittedIPRanges), "[192.0.2.0/24 2001:db8::/32 203.0.113.9/32 127.0.0.1/32 ::1/128]"; got != want {
		t.Errorf("permitted networks %s, want %s", got, want)
	}

	tests := []struct {
		serverName  string
		destination netip.AddrPort
		names       []string // that the certificate is good for
	}{
		{"localhost", direct, []string{"vps1.example.net", "localhost", "127.0.0.1", "::1", hostAddress.String()}},
		{"smtp.example.com", foreign4, []string{"smtp.example.com"}},
		{"EXAMPLE.com", foreign4, []string{"example.com"}},
		{"", foreign4, []string{"mail.example.com", foreign4.Addr().String(), "vps1.example.net"}},
		{"", foreign6, []string{"mail.example.com", foreign6.Addr().String()}},
		{"", netip.MustParseAddrPort("198.51.100.1:587"), []string{"mail.example.com", "vps1.example.net"}}, // the name alone
	}
	for _, test := range tests {
		leaf := shown(t, m, test.serverName, test.destination)
		for _, name := range test.names {
			verify(t, leaf, o.Directory, name, time.Now())
			kind := "-verify_hostname"
			if _, err := netip.ParseAddr(name); err == nil {
				kind = "-verify_ip"
			}
			if err := verifyOpenSSL(t, leaf.Raw, o.Directory, kind, name); err != nil {
				t.Errorf("%q at %v, %s: %v", test.serverName, test.destination, name, err)
			}
		}
	}

	host := shown(t, m, "localhost", direct)
	for _, refused := range []string{"smtp.example.org", "badexample.com", "com", "example.com.evil.example", "localhost.localdomain"} {
		if got := shown(t, m, refused, foreign4); !got.Equal(host) {
			t.Errorf("%s was signed for: %q", refused, got.DNSNames)
		}
	}
	lookedUp = nil
	if got := shown(t, m, "", netip.MustParseAddrPort("198.51.100.2:587")); !got.Equal(host) {
		t.Errorf("an address outside was signed for: %v", got.IPAddresses)
	}
	if condition := m.current.Load().authority.condition(o.CANames); condition != "" {
		t.Errorf("condition %q", condition)
	}
}

// TestConstraintsBind: somebody who has the key signs for a name outside, and no client takes it.
func TestConstraintsBind(t *testing.T) {
	o := constrainedHost
	o.Directory = t.TempDir()
	m := open(t, o)
	a := m.current.Load().authority
	outside := subjects{names: []string{"smtp.example.com", "bank.example"}}
	if _, _, err := a.issue(outside, m.current.Load().redirected.key.Public()); err == nil {
		t.Error("issued for a name outside")
	}
	if _, _, err := a.issue(subjects{addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}, m.current.Load().redirected.key.Public()); err == nil {
		t.Error("issued for an address outside")
	}
	stolen := *a
	stolen.permitted = constraints{}
	der, _, err := stolen.issue(outside, m.current.Load().redirected.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "smtp.example.com", Roots: roots(t, o.Directory)}); err == nil {
		t.Error("Go takes a certificate with a name outside")
	}
	if err := verifyOpenSSL(t, der, o.Directory, "-verify_hostname", "smtp.example.com"); err == nil || !strings.Contains(err.Error(), "permitted subtree") {
		t.Errorf("openssl on a certificate with a name outside: %v", err)
	}
}

// TestCondition opens a directory twice, with other options, and holds that the root stays and what is said.
func TestCondition(t *testing.T) {
	const remedy = "; it is used as it is: to have another made, move %s away, restart smtpwall, and run " +
		"`smtpwall trust install` again wherever the old one is trusted"
	none := Options{Names: constrainedHost.Names, Addresses: constrainedHost.Addresses}
	with := func(change func(*Options)) Options {
		o := constrainedHost
		change(&o)
		return o
	}
	tests := []struct {
		name        string
		first, then Options
		want        string // "" none
	}{
		{"none", none, none, ""},
		{"the same", constrainedHost, constrainedHost, ""},
		{"the same in another way", constrainedHost, with(func(o *Options) {
			o.CANames = []string{"2001:db8::/32", "192.0.2.0/24", "192.0.2.8/29", "EXAMPLE.com", "a.example.com", "vps1.example.net"}
		}), ""},
		{"asked for later", none, constrainedHost, "the local CA signs for any name, and ca_names asks for example.com, 192.0.2.0/24, 2001:db8::/32"},
		{"asked for no more", constrainedHost, none, "the local CA signs only for example.com, vps1.example.net, localhost, 192.0.2.0/24, 2001:db8::/32, " +
			"203.0.113.9/32, 127.0.0.1/32, ::1/128, and ca_names asks for no constraint"},
		{"another domain", constrainedHost, with(func(o *Options) { o.CANames = []string{"example.com", "example.org", "192.0.2.0/24", "2001:db8::/32"} }),
			"the local CA does not permit example.org of ca_names"},
		{"a domain less", constrainedHost, with(func(o *Options) { o.CANames = []string{"192.0.2.0/24", "2001:db8::/32"} }),
			"the local CA permits example.com beside ca_names"},
		{"a wider network", constrainedHost, with(func(o *Options) { o.CANames = []string{"example.com", "192.0.0.0/16", "2001:db8::/32"} }),
			"the local CA does not permit 192.0.0.0/16 of ca_names"},
		{"a narrower network", constrainedHost, with(func(o *Options) { o.CANames = []string{"example.com", "192.0.2.0/25", "2001:db8::/32"} }),
			"the local CA permits 192.0.2.0/24 beside ca_names"},
		{"both", constrainedHost, with(func(o *Options) {
			o.CANames = []string{"smtp.example.com", "192.0.2.0/24", "2001:db8::/32", "example.org"}
		}),
			"the local CA does not permit example.org of ca_names and permits example.com beside ca_names"},
		{"another host name", constrainedHost, with(func(o *Options) { o.Names = []string{"vps2.example.net"} }),
			"the local CA permits vps1.example.net beside ca_names; it does not permit the host's name vps2.example.net"},
		{"a further host name", constrainedHost, with(func(o *Options) { o.Names = []string{"vps1.example.net", "www.example.org"} }),
			"the local CA does not permit the host's name www.example.org"},
		{"another address of the host", constrainedHost, with(func(o *Options) { o.Addresses = []netip.Addr{netip.MustParseAddr("203.0.113.10")} }), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			test.first.Directory, test.then.Directory = directory, directory
			first := open(t, test.first)
			if got := first.current.Load().authority.condition(test.first.CANames); got != "" {
				t.Errorf("with a new CA: %q", got)
			}
			before := digestTree(t, directory)
			m := open(t, test.then)
			if digestTree(t, directory) != before {
				t.Error("the CA was replaced")
			}
			want := test.want
			if want != "" {
				want += fmt.Sprintf(remedy, filepath.Join(directory, "local-ca"))
			}
			if got := m.current.Load().authority.condition(test.then.CANames); got != want {
				t.Errorf("condition %q, want %q", got, want)
			}
			// Whatever differs, what is served verifies.
			verify(t, shown(t, m, "", direct), directory, "localhost", time.Now())
			verify(t, shown(t, m, "smtp.example.com", foreign4), directory, "smtp.example.com", time.Now())
		})
	}
}

// TestHostOutsideConstraints: what the root does not permit of the host's names and addresses is left out, so that the
// rest is worth something; and it is said.
func TestHostOutsideConstraints(t *testing.T) {
	o := constrainedHost
	o.Directory = t.TempDir()
	open(t, o)
	core, logs := observer.New(zap.WarnLevel)
	o.Logger = zap.New(core)
	o.Names = []string{"mail.example.org", "www.example.com"}
	o.Addresses = []netip.Addr{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.0.2.10")}
	m := open(t, o)
	leaf := shown(t, m, "mail.example.org", direct)
	if want := []string{"www.example.com", "localhost"}; !slices.Equal(leaf.DNSNames, want) {
		t.Errorf("names %q, want %q", leaf.DNSNames, want)
	}
	for _, name := range []string{"www.example.com", "localhost", "192.0.2.10", "127.0.0.1"} {
		verify(t, leaf, o.Directory, name, time.Now())
	}
	if err := verifyOpenSSL(t, leaf.Raw, o.Directory, "-verify_hostname", "www.example.com"); err != nil {
		t.Error(err)
	}
	if got := shown(t, m, "mail.example.org", foreign4); !got.Equal(leaf) {
		t.Errorf("a redirected client that asks for the host is shown %q", got.DNSNames)
	}
	if logs.Len() != 1 || !strings.Contains(logs.All()[0].Message, "does not permit an address of the host") {
		t.Errorf("logged %v, want one warning", logs.All())
	}
}

// writeRootOf puts a root that was not made here in the place of the local CA's.
func writeRootOf(t testing.TB, directory string, template *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.Subject = pkix.Name{CommonName: "a root of the administrator"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	template.PermittedDNSDomainsCritical = true
	root, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(directory, authorityDirectory)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{keyFile: {Type: "PRIVATE KEY", Bytes: der}, rootFile: {Type: "CERTIFICATE", Bytes: root}} {
		if err := os.WriteFile(filepath.Join(at, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWildcardOfTheHost is one that ACME manages, for which the local CA stands in.
func TestWildcardOfTheHost(t *testing.T) {
	host := subjects{names: []string{"vps1.example.net", "localhost", "*.example.com"}}
	o := authorityOptions{directory: t.TempDir(), lifetime: time.Hour, now: time.Now, host: host, names: []string{"example.org"}}
	a, err := openAuthority(o)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"example.org", "vps1.example.net", "localhost", "example.com"}; !slices.Equal(a.root.PermittedDNSDomains, want) {
		t.Errorf("permitted domains %q, want %q", a.root.PermittedDNSDomains, want)
	}
	der, _, err := a.issue(a.certifiableHost(zap.NewNop()), a.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, leaf, o.directory, "mail.example.com", time.Now())
	if err := verifyOpenSSL(t, der, o.directory, "-verify_hostname", "mail.example.com"); err != nil {
		t.Error(err)
	}
	a.excluded = constraints{names: []string{"bank.example.com"}}
	if got := a.certifiableHost(zap.NewNop()).names; slices.Contains(got, "*.example.com") {
		t.Errorf("%q are signed for, with a name excluded below the wildcard", got)
	}
}

// TestForeignRoot is one that the administrator put there, with constraints that we would not write.
func TestForeignRoot(t *testing.T) {
	directory := t.TempDir()
	_, network, _ := net.ParseCIDR("192.0.2.0/25")
	writeRootOf(t, directory, &x509.Certificate{ExcludedDNSDomains: []string{"Bank.example"}, ExcludedIPRanges: []*net.IPNet{network}})
	m := open(t, Options{Directory: directory})
	host := shown(t, m, "", direct)
	verify(t, shown(t, m, "smtp.example.com", foreign4), directory, "smtp.example.com", time.Now())
	for _, name := range []string{"bank.example", "www.bank.example"} {
		if !shown(t, m, name, foreign4).Equal(host) {
			t.Errorf("%s was signed for", name)
		}
	}
	if !shown(t, m, "", foreign4).Equal(host) {
		t.Error("an excluded address was signed for")
	}
	verify(t, shown(t, m, "", netip.MustParseAddrPort("192.0.2.200:587")), directory, "192.0.2.200", time.Now())
	a := m.current.Load().authority
	for _, test := range []struct {
		asked []string
		want  string
	}{
		{nil, "signs only for what is not below bank.example, 192.0.2.0/25, and ca_names asks for no constraint"},
		{[]string{"example.com"}, "signs for any name, and ca_names asks for example.com"},
	} {
		if got := a.condition(test.asked); !strings.Contains(got, test.want) {
			t.Errorf("condition %q, want %q", got, test.want)
		}
	}

	directory = t.TempDir()
	writeRootOf(t, directory, &x509.Certificate{PermittedDNSDomains: []string{"example.com"}})
	_, err := Open(context.Background(), Options{Directory: directory, Names: []string{"vps1.example.net"}})
	if err == nil || !strings.Contains(err.Error(), "permit no name of this host, not even localhost") {
		t.Errorf("opened with a root that is good for nothing: %v", err)
	}
}

// FuzzConstraints compares what we think that verifiers accept with what one does.
func FuzzConstraints(f *testing.F) {
	f.Add("smtp.example.com", "example.com", "", []byte{192, 0, 2, 1}, []byte{192, 0, 2, 0}, uint8(24))
	f.Add("badexample.com", "example.com", "localhost", []byte{192, 0, 2, 1}, []byte{192, 0, 3, 0}, uint8(24))
	f.Add("example.com", ".example.com", "a.example.com", []byte{10, 0, 0, 1}, []byte{0, 0, 0, 0}, uint8(0))
	f.Add("a.example.com", "Example.com", "A.example.COM", []byte{0x20, 1, 15: 1}, []byte{0x20, 1, 15: 0}, uint8(64))
	f.Add("a.b", "b", ".a.b", []byte{10, 0, 0, 1}, []byte{0x20, 1, 15: 0}, uint8(1))
	f.Fuzz(func(t *testing.T, name, permitted, excluded string, address, network []byte, bits uint8) {
		known, ok := netip.AddrFromSlice(address)
		wildcard := "*." + name
		base, ok2 := netip.AddrFromSlice(network)
		// A mapped or unspecified address never comes into a certificate of ours.
		if !ok || !ok2 || known.Is4In6() || known.IsUnspecified() || base.Is4In6() || !validHostName(name) || int(bits) > base.BitLen() {
			return
		}
		bare := strings.TrimPrefix(lowerASCII(permitted), ".")
		if !validHostName(bare) || excluded != "" && !validHostName(strings.TrimPrefix(lowerASCII(excluded), ".")) {
			return
		}
		directory := t.TempDir()
		template := &x509.Certificate{PermittedDNSDomains: []string{permitted}, PermittedIPRanges: []*net.IPNet{{
			IP: netip.PrefixFrom(base, int(bits)).Masked().Addr().AsSlice(), Mask: net.CIDRMask(int(bits), base.BitLen())}}}
		if excluded != "" {
			template.ExcludedDNSDomains = []string{excluded}
		}
		writeRootOf(t, directory, template)
		a, err := loadAuthority(authorityOptions{directory: directory, lifetime: time.Hour, now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		blind := *a
		blind.permitted, blind.excluded = constraints{}, constraints{}
		accepts := func(s subjects) bool {
			der, _, err := blind.issue(s, a.root.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			_, err = leaf.Verify(x509.VerifyOptions{Roots: roots(t, directory)})
			return err == nil
		}
		if ours, theirs := a.permitsName(name), accepts(subjects{names: []string{name}}); ours != theirs {
			t.Errorf("%q with %q permitted and %q excluded: we say %v, a verifier %v", name, permitted, excluded, ours, theirs)
		}
		if a.permitsName(wildcard) && !accepts(subjects{names: []string{wildcard}}) {
			t.Errorf("%q with %q permitted and %q excluded: refused by a verifier", wildcard, permitted, excluded)
		}
		if ours, theirs := a.permitsAddress(known), accepts(subjects{addresses: []netip.Addr{known}}); ours != theirs {
			t.Errorf("%v with %v permitted: we say %v, a verifier %v", known, template.PermittedIPRanges, ours, theirs)
		}
	})
}

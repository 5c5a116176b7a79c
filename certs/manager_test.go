package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHostCertificate(t *testing.T) {
	o := Options{
		Directory: t.TempDir(),
		Names:     []string{"VPS1.example.net.", "bücher.example", "my_host"},
	}
	for _, address := range []string{"203.0.113.9", "fe80::1%eth0", "127.0.0.1"} {
		o.Addresses = append(o.Addresses, netip.MustParseAddr(address))
	}
	m := open(t, o)
	leaf := shown(t, m, "localhost", direct)
	wantNames := []string{"vps1.example.net", "xn--bcher-kva.example", "my_host", "localhost"}
	if !slices.Equal(leaf.DNSNames, wantNames) {
		t.Errorf("DNS names %q, want %q", leaf.DNSNames, wantNames)
	}
	for _, name := range append(wantNames, "203.0.113.9", "fe80::1", "127.0.0.1", "::1") {
		verify(t, leaf, o.Directory, name, time.Now())
	}
	if len(leaf.IPAddresses) != 4 {
		t.Errorf("addresses %v, want 4, each once", leaf.IPAddresses)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life != 7*24*time.Hour+time.Hour {
		t.Errorf("lifetime %s, want a week and the hour that it is backdated", life)
	}
	server := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, server) || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("CA %v, extended usage %v, usage %b: want a TLS server's leaf", leaf.IsCA, leaf.ExtKeyUsage, leaf.KeyUsage)
	}
	root := m.current.Load().authority.root
	if !bytes.Equal(leaf.AuthorityKeyId, root.SubjectKeyId) || len(root.SubjectKeyId) != 20 || len(leaf.SubjectKeyId) != 20 {
		t.Errorf("authority key id %x, root's %x, leaf's %x", leaf.AuthorityKeyId, root.SubjectKeyId, leaf.SubjectKeyId)
	}
}

func TestRootConstraints(t *testing.T) {
	m := open(t, Options{})
	root := m.current.Load().authority.root
	if !root.IsCA || !root.MaxPathLenZero || root.MaxPathLen != 0 || root.KeyUsage != x509.KeyUsageCertSign {
		t.Errorf("CA %v, path length %d, usage %b", root.IsCA, root.MaxPathLen, root.KeyUsage)
	}
	if years := root.NotAfter.Sub(root.NotBefore).Hours() / 24 / 365; years < 9.99 || years > 10.01 {
		t.Errorf("root lives %.2f years, want 10", years)
	}
}

// TestSelection holds who is shown what, for each kind of connection and name.
func TestSelection(t *testing.T) {
	directory := t.TempDir()
	m := open(t, Options{Directory: directory, Names: []string{"vps1.example.net"},
		AllowName: func(name string) bool { return name != "forbidden.example" }})
	const host = "vps1.example.net"
	tests := []struct {
		name, serverName string
		destination      netip.AddrPort
		want             string // the certificate's first name
	}{
		{"direct, no name", "", direct, host},
		{"direct, localhost", "localhost", direct, host},
		{"direct, host's name in capitals", "VPS1.Example.NET", direct, host},
		{"direct, foreign name", "smtp.example.com", direct, host},
		{"redirected, foreign name", "smtp.example.com", foreign4, "smtp.example.com"},
		{"redirected over IPv6", "smtp.example.com", foreign6, "smtp.example.com"},
		{"redirected, capitals", "SMTP.Example.COM", foreign4, "smtp.example.com"},
		{"redirected, one label", "mail_relay", foreign4, "mail_relay"},
		{"redirected, A-label", "smtp.xn--bcher-kva.example", foreign4, "smtp.xn--bcher-kva.example"},
		{"redirected, host's name", host, foreign4, host},
		{"redirected, localhost", "localhost", foreign4, host},
		{"redirected, not allowed", "forbidden.example", foreign4, host},
		{"redirected, no name", "", foreign4, host},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			leaf := shown(t, m, test.serverName, test.destination)
			verify(t, leaf, directory, test.want, time.Now())
			if leaf.DNSNames[0] != test.want {
				t.Errorf("shown %v, want %s first", leaf.DNSNames, test.want)
			}
		})
	}
}

func TestNoNameGetsOriginalDestination(t *testing.T) {
	directory := t.TempDir()
	m := open(t, Options{Directory: directory, Names: []string{"vps1.example.net"}})
	for _, destination := range []netip.AddrPort{foreign4, foreign6, netip.MustParseAddrPort("[::ffff:198.51.100.7]:587")} {
		leaf := shown(t, m, "", destination)
		verify(t, leaf, directory, destination.Addr().Unmap().String(), time.Now())
		verify(t, leaf, directory, "vps1.example.net", time.Now())
		verify(t, leaf, directory, "127.0.0.1", time.Now())
	}
	leaf := shown(t, m, "", direct)
	if leaf.VerifyHostname(foreign4.Addr().String()) == nil {
		t.Error("a redirected client's address is in the host's certificate")
	}
}

func TestVersionsAndTickets(t *testing.T) {
	directory := t.TempDir()
	m := open(t, Options{Directory: directory})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{ServerName: "localhost", RootCAs: roots(t, directory), MinVersion: version, MaxVersion: version}
		state, err := dial(m.TLSConfig(), client, direct)
		if err != nil || state.Version != version || state.NegotiatedProtocol != "" {
			t.Errorf("version %x: negotiated %x, protocol %q: %v", version, state.Version, state.NegotiatedProtocol, err)
		}
	}
	old := &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if _, err := dial(m.TLSConfig(), old, direct); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	resuming := &tls.Config{ServerName: "localhost", RootCAs: roots(t, directory), MaxVersion: tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if _, err := dial(m.TLSConfig(), resuming, direct); err != nil {
		t.Fatal(err)
	}
	if err := m.Reload(Options{Directory: directory, Names: []string{"new.example"}}); err != nil {
		t.Fatal(err)
	}
	if state, err := dial(m.TLSConfig(), resuming, direct); err != nil || !state.DidResume {
		t.Errorf("resumed after a reload: %v: %v", state.DidResume, err)
	}
}

func TestReload(t *testing.T) {
	directory := t.TempDir()
	m := open(t, Options{Directory: directory, Names: []string{"old.example"}})
	config := m.TLSConfig()
	shown(t, m, "smtp.example.com", foreign4)

	before := shown(t, m, "localhost", direct)
	elsewhere := filepath.Join(t.TempDir(), "new")
	for _, bad := range []Options{
		{},
		{Directory: elsewhere, Source: "acme"},
		{Directory: elsewhere, Names: []string{"*.example"}},
		{Directory: elsewhere, LeafLifetime: time.Second},
		{Directory: elsewhere, Source: SourceFiles},
		{Directory: elsewhere, Source: SourceFiles, CertificateFile: "/nowhere/cert.pem", KeyFile: "/nowhere/key.pem"},
	} {
		if err := m.Reload(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if after := shown(t, m, "localhost", direct); !after.Equal(before) {
		t.Error("a refused reload changed the certificate")
	}
	if _, err := os.Stat(elsewhere); err == nil {
		t.Error("a refused reload made a CA")
	}

	next := Options{Directory: directory, Names: []string{"new.example"}, AllowName: func(string) bool { return false }}
	if err := m.Reload(next); err != nil {
		t.Fatal(err)
	}
	leaf := shown(t, m, "localhost", direct)
	verify(t, leaf, directory, "new.example", time.Now())
	if leaf.VerifyHostname("old.example") == nil {
		t.Error("the old name is still certified")
	}
	if leaf := shown(t, m, "smtp.example.com", foreign4); leaf.DNSNames[0] != "new.example" {
		t.Error("the new AllowName was not asked")
	}
	if m.TLSConfig() != config {
		t.Error("the TLS configuration is another one")
	}
	m.Close()
	if err := m.Reload(next); err == nil {
		t.Error("reloaded after Close")
	}
	verify(t, shown(t, m, "localhost", direct), directory, "new.example", time.Now())
}

func TestStatus(t *testing.T) {
	m := open(t, Options{Names: []string{"vps1.example.net"}})
	list := m.Status()
	if len(list) != 2 {
		t.Fatalf("%d certificates, want the host's and the root", len(list))
	}
	host, root := list[0], list[1]
	want := []string{"vps1.example.net", "localhost", "127.0.0.1", "::1"}
	if !slices.Equal(host.Names, want) || host.Source != "local" || host.Issuer != root.Names[0] {
		t.Errorf("host's certificate: %+v", host)
	}
	if !strings.HasPrefix(root.Issuer, "smtpwall local CA ") || root.Source != "local-ca" || root.NotAfter.Before(host.NotAfter) {
		t.Errorf("root: %+v", root)
	}
}

// TestOptionsErrors holds that every wrong option is told in one go.
func TestOptionsErrors(t *testing.T) {
	err := Options{Source: "acne", Names: []string{"a b", "192.0.2.1", "*.example.com"}, LeafLifetime: 1}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{`"a b"`, `"192.0.2.1"`, `"*.example.com"`, `source "acne"`, "no directory", "leaf lifetime 1ns"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	if _, err := Open(context.Background(), Options{Directory: "/proc/nowhere"}); err == nil {
		t.Error("opened where nothing can be written")
	}
}

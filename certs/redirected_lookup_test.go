package certs

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/certs/lookup"
	"golang.org/x/net/dns/dnsmessage"
)

// lookedUp answers for foreign4 alone.
func lookedUp(names *atomic.Pointer[[]string]) func(netip.Addr) []string {
	return func(address netip.Addr) []string {
		if address != foreign4.Addr() {
			return nil
		}
		return slices.Clone(*names.Load())
	}
}

// TestLookedUpNames is a client that sends no server name: it is shown a certificate that is good for the name that it
// looked up, the address that it dialled, and the host.
func TestLookedUpNames(t *testing.T) {
	names := atomic.Pointer[[]string]{}
	names.Store(&[]string{"smtp.example.com", "SMTP.Example.com", "excluded.example.com", "*.example.com", "192.0.2.25", "a b", "xn--a.example",
		"bücher.example", "", "mail.example.org"})
	var asked []string
	directory := t.TempDir()
	m := open(t, Options{Directory: directory, Names: []string{"vps1.example.net"}, LookedUp: lookedUp(&names),
		AllowName: func(name string) bool {
			asked = append(asked, name)
			return name != "excluded.example.com"
		}})

	leaf := shown(t, m, "", foreign4)
	if want := []string{"smtp.example.com", "mail.example.org", "vps1.example.net", "localhost"}; !slices.Equal(leaf.DNSNames, want) {
		t.Errorf("names %q, want %q", leaf.DNSNames, want)
	}
	for _, name := range []string{"smtp.example.com", "mail.example.org", "vps1.example.net", "localhost", foreign4.Addr().String(), "127.0.0.1"} {
		verify(t, leaf, directory, name, time.Now())
	}
	for _, identity := range [][]string{{"-verify_hostname", "mail.example.org"}, {"-verify_ip", foreign4.Addr().String()}} {
		if err := verifyOpenSSL(t, leaf.Raw, directory, identity...); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"smtp.example.com", "excluded.example.com", "mail.example.org"}; !slices.Equal(asked, want) {
		t.Errorf("AllowName was asked for %q, want %q", asked, want)
	}

	mapped := netip.AddrPortFrom(netip.AddrFrom16(foreign4.Addr().As16()), 587)
	if again := shown(t, m, "", mapped); !again.Equal(leaf) {
		t.Error("another certificate for the same look-ups")
	}
	if got := shown(t, m, "smtp.example.com", foreign4).DNSNames; !slices.Equal(got, []string{"smtp.example.com"}) {
		t.Errorf("a client that names a host is shown %q", got)
	}
	for what, got := range map[string][]string{
		"of another address": shown(t, m, "", foreign6).DNSNames, "of a direct connection": shown(t, m, "", direct).DNSNames,
	} {
		if !slices.Equal(got, []string{"vps1.example.net", "localhost"}) {
			t.Errorf("the client %s is shown %q", what, got)
		}
	}
}

// TestNewLookUp: the next handshake after a look-up knows its name; the same names in another order change nothing.
func TestNewLookUp(t *testing.T) {
	names := atomic.Pointer[[]string]{}
	m := open(t, Options{LookedUp: lookedUp(&names)})
	r := m.current.Load().redirected
	names.Store(&[]string{})
	none := r.byAddress("", foreign4.Addr())
	names.Store(&[]string{"a.example", "b.example"})
	both := r.byAddress("", foreign4.Addr())
	if both == none {
		t.Fatal("the names that were looked up are not there")
	}
	names.Store(&[]string{"b.example", "a.example"})
	if r.byAddress("", foreign4.Addr()) != both {
		t.Error("another order made another certificate")
	}
	names.Store(&[]string{"c.example", "b.example", "a.example"})
	leaf, err := x509.ParseCertificate(r.byAddress("", foreign4.Addr()).Certificate[0])
	if err != nil || !slices.Equal(leaf.DNSNames, []string{"c.example", "b.example", "a.example", "localhost"}) {
		t.Errorf("after a new look-up: %q: %v", leaf.DNSNames, err)
	}
	if r.issued.Len() != 3 {
		t.Errorf("%d certificates kept, want 3", r.issued.Len())
	}
}

// TestLookedUpNamesAreBounded: whatever the look-ups give, a certificate and its key in the cache stay small.
func TestLookedUpNamesAreBounded(t *testing.T) {
	label := strings.Repeat("a", 63)
	for form, want := range map[string]int{"n%04d.example": maxLookedUp, "n%04d." + label + ".example": maxLookedUpOctets / 77, "n%04d." + label + "." + label + "." + label: maxLookedUpOctets / 197} {
		many := []string{strings.Repeat("b", 5000), "not a name"}
		for i := range 5000 {
			many = append(many, fmt.Sprintf(form, i))
		}
		names := atomic.Pointer[[]string]{}
		names.Store(&many)
		m := open(t, Options{LookedUp: lookedUp(&names)})
		leaf := shown(t, m, "", foreign4)
		if want := append(slices.Clone(many[2:2+want]), "localhost"); !slices.Equal(leaf.DNSNames, want) {
			t.Errorf("%d names, want the newest %d and the host's", len(leaf.DNSNames), len(want)-1)
		}
		for _, key := range m.current.Load().redirected.issued.Keys() {
			if len(key) > 128 {
				t.Errorf("a key of %d octets", len(key))
			}
		}
	}
}

// TestLookUpFlood: each look-up of a new name costs the one who connects a signature, and no more than the budget has.
func TestLookUpFlood(t *testing.T) {
	var n atomic.Int64
	m := open(t, Options{Names: []string{"vps1.example.net"}, LookedUp: func(netip.Addr) []string {
		return []string{fmt.Sprintf("n%d.example", n.Add(1))}
	}})
	r := m.current.Load().redirected
	r.budget.askers.Add("uid:1000", limiterOf(5))
	issued := 0
	for range 50 {
		c, err := m.certificate(helloOf("uid:1000", ""))
		if err != nil {
			t.Fatal(err)
		}
		if c.PrivateKey == r.key {
			issued++
		}
	}
	if issued != 5 {
		t.Errorf("%d issued, want 5", issued)
	}
}

// TestLookUpToHandshake goes the whole way: a DNS answer comes in, and a client that sends no server name, as with an
// old library, verifies the name that it asked DNS for.
func TestLookUpToHandshake(t *testing.T) {
	table := lookup.New(lookup.Options{})
	directory := t.TempDir()
	m := open(t, Options{Directory: directory, LookedUp: func(address netip.Addr) []string { return table.Names(address, time.Now()) }})
	const name = "smtp.example.com"
	if shown(t, m, "", foreign4).VerifyHostname(name) == nil {
		t.Fatal("good for the name before the look-up")
	}
	header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET, TTL: 60}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{Response: true},
		Questions: []dnsmessage.Question{{Name: header.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers:   []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: foreign4.Addr().As4()}}},
	}
	message, err := answer.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Note(message, time.Now()); err != nil {
		t.Fatal(err)
	}
	verify(t, shown(t, m, "", foreign4), directory, name, time.Now())
}

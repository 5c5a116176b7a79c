package acme_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/smtpwall/smtpwall/internal/testkit/pebble"
)

// nameServer is a running bind9 with authority for the domain, outside.
type nameServer struct {
	*process
	b   *bed
	key string // base64
}

// namedConfig lets one key change TXT records, and nothing else.
const namedConfig = `options {
	directory "$DIR/named";
	pid-file none;
	session-keyfile none;
	listen-on port 53 { 203.0.113.53; };
	listen-on-v6 { none; };
	recursion no;
	allow-transfer { none; };
	notify no;
	dnssec-validation no;
};
controls { };
key "smtpwall." { algorithm hmac-sha256; secret "$KEY"; };
zone "example.net" {
	type primary;
	file "example.net.zone";
	update-policy { grant smtpwall. zonesub TXT; };
};
`

const zone = `$TTL 60
@ SOA ns1 hostmaster 1 3600 600 86400 60
@ NS ns1
ns1 A 203.0.113.53
vps1 A 198.51.100.1
`

// startNamed starts the name server, before the CA that asks it.
func (b *bed) startNamed(t testing.TB) *nameServer {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	n := &nameServer{b: b, key: base64.StdEncoding.EncodeToString(secret)}
	if err := os.Mkdir(b.path("named"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.write("named/example.net.zone", zone, 0o600, 0)
	b.write("dns-key", n.key+"\n", 0o600, proxyUID)
	b.write("named/named.conf", strings.NewReplacer("$DIR", b.dir, "$KEY", n.key).Replace(namedConfig), 0o600, 0)
	n.process = launch(t, b.Remote.Command(context.WithoutCancel(t.Context()), "named", "-g", "-n", "1", "-c", b.path("named", "named.conf")))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the name server says:\n%s", n.said)
		}
	})
	n.await(t, "all zones loaded", 1)
	b.resolver = b.write("resolv.conf", "nameserver "+dnsAddr.String()+"\n", 0o644, 0)
	return n
}

// records are what the name server has of one type, and the zone's serial.
func (n *nameServer) records(t testing.TB, name string) (texts []string, serial uint32) {
	t.Helper()
	for _, record := range n.ask(t, name, dns.TypeTXT) {
		if text, ok := record.(*dns.TXT); ok {
			texts = append(texts, strings.Join(text.Txt, ""))
		}
	}
	for _, record := range n.ask(t, domain, dns.TypeSOA) {
		if soa, ok := record.(*dns.SOA); ok {
			serial = soa.Serial
		}
	}
	return texts, serial
}

func (n *nameServer) ask(t testing.TB, name string, kind uint16) []dns.RR {
	t.Helper()
	var answer *dns.Msg
	conn, err := n.b.Remote.Dial(t.Context(), netip.AddrPortFrom(dnsAddr, 53))
	if err == nil {
		defer conn.Close()
		question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
		wire := &dns.Conn{Conn: conn}
		if err = wire.WriteMsg(question); err == nil {
			answer, err = wire.ReadMsg()
		}
	}
	if err == nil && answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		err = errors.New(dns.RcodeToString[answer.Rcode])
	}
	if err != nil {
		t.Fatalf("asking the name server for %s: %v", name, err)
	}
	return answer.Answer
}

// dnsBed is a bed whose CA asks a real name server, and reaches no port of the
// host.
func dnsBed(t testing.TB) (*bed, *nameServer) {
	t.Helper()
	b := newBed(t, setup{ca: pebble.Options{Resolver: netip.AddrPortFrom(dnsAddr, 53).String(), HTTPPort: 1, TLSPort: 1}})
	return b, b.startNamed(t)
}

// updateConfig is for RFC 2136.
const updateConfig = acmeConfig + `challenge = "dns-01"
[certificates.dns]
server = "203.0.113.53:53"
key_name = "smtpwall"
algorithm = "hmac-sha256"
key = { file = "$DIR/dns-key" }
`

// TestDNSUpdate: challenges by dynamic update, for a name and all those beside
// it, and nothing is left behind in the zone.
func TestDNSUpdate(t *testing.T) {
	t.Parallel()
	b, server := dnsBed(t)
	_, before := server.records(t, "_acme-challenge."+domain)
	b.configure(setup{config: strings.Replace(updateConfig, "[certificates.dns]", "names = [\"vps1.example.net\", \"*.example.net\"]\n[certificates.dns]", 1)})
	b.start()
	own := b.awaitCertificate(t, b.ca.Roots(0), hostName)
	wild := b.awaitCertificate(t, b.ca.Roots(0), "anything.example.net")
	if !slices.Equal(own.DNSNames, []string{hostName}) || !slices.Equal(wild.DNSNames, []string{"*.example.net"}) {
		t.Errorf("certificates of %v and %v", own.DNSNames, wild.DNSNames)
	}
	if _, err := b.handshake(submissions, b.ca.Roots(0), "two.labels.example.net"); err == nil {
		t.Error("the wildcard stands for two labels")
	}
	await(t, "the challenges to be gone", func() bool {
		first, _ := server.records(t, "_acme-challenge."+hostName)
		second, _ := server.records(t, "_acme-challenge."+domain)
		return len(first)+len(second) == 0
	})
	if _, after := server.records(t, domain); after < before+4 {
		t.Errorf("the zone went from serial %d to %d, want two records to come and go", before, after)
	}
	b.checkMail(t, b.ca.Roots(0))
}

// TestDNSUpdateRefused: a wrong key gets no certificate, and the name server's
// word is told.
func TestDNSUpdateRefused(t *testing.T) {
	t.Parallel()
	b, server := dnsBed(t)
	b.write("dns-key", base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 0o600, proxyUID)
	b.configure(setup{config: updateConfig})
	b.start()
	b.awaitComplaint(t, "BADSIG")
	b.checkMail(t, b.localRoots(t))
	if said := b.run.said.String(); strings.Contains(said, server.key) || strings.Contains(said, "AAAAAAAAAAAAAAAAAAAAAAAA") {
		t.Error("the log has the key")
	}
	// With the right key it goes on, without a restart.
	b.write("dns-key", server.key+"\n", 0o600, proxyUID)
	b.reload(t)
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
}

// hook puts the challenge into the zone by nsupdate, and keeps a book.
const hook = `#!/bin/sh
set -eu
echo "$*" >>$DIR/hook-book
env >$DIR/hook-environment
case $2 in
present) verb=add;;
cleanup) verb=delete;;
*) exit 2;;
esac
printf 'server 203.0.113.53\nzone example.net\nupdate %s %s 60 TXT "%s"\nsend\n' "$verb" "$3" "$4" |
nsupdate -v -k $DIR/nsupdate-key
`

// TestDNSHook: challenges by a program.
func TestDNSHook(t *testing.T) {
	t.Parallel()
	b, server := dnsBed(t)
	b.write("nsupdate-key", `key "smtpwall." { algorithm hmac-sha256; secret "`+server.key+`"; };`+"\n", 0o600, proxyUID)
	b.write("hook-book", "", 0o600, proxyUID)
	b.write("hook-environment", "", 0o600, proxyUID)
	b.write("hook", strings.ReplaceAll(hook, "$DIR", b.dir), 0o755, 0)
	b.configure(setup{config: acmeConfig + "challenge = \"dns-01\"\nhook = [\"$DIR/hook\", \"argument\"]\n"})
	b.start()
	b.awaitCertificate(t, b.ca.Roots(0), hostName)
	await(t, "the program to clean up", func() bool {
		left, _ := server.records(t, "_acme-challenge."+hostName)
		return len(left) == 0 && strings.Contains(readFile(t, b.path("hook-book")), "cleanup")
	})
	lines := strings.Fields(strings.ReplaceAll(readFile(t, b.path("hook-book")), "\n", " "))
	if len(lines) != 8 {
		t.Fatalf("the program was called with %q", lines)
	}
	value := lines[3]
	want := []string{"argument", "present", "_acme-challenge." + hostName, value, "argument", "cleanup", "_acme-challenge." + hostName, value}
	for i := range lines {
		if strings.TrimSuffix(lines[i], ".") != want[i] || len(value) != 43 {
			t.Errorf("the program was called with %q, want %q", lines, want)
			break
		}
	}
	for line := range strings.Lines(readFile(t, b.path("hook-environment"))) {
		if name, _, _ := strings.Cut(line, "="); !slices.Contains([]string{"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}, name) {
			t.Errorf("the program's environment has %q", line)
		}
	}
}

package dns01

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"
)

const (
	patience = 30 * time.Second // with a busy machine

	secret = "YSBzZWNyZXQgZm9yIHRlc3RzLCBub3QgYSBzZWNyZXQ="
	keys   = `key "SmtpWall" { algorithm hmac-sha256; secret "` + secret + `"; };
key "other" { algorithm hmac-sha256; secret "YW5vdGhlciBzZWNyZXQgZm9yIHRlc3RzLCBub3Qgb25l"; };
key "large" { algorithm hmac-sha512; secret "` + secret + `"; };
key "middle" { algorithm hmac-sha384; secret "` + secret + `"; };
key "small" { algorithm hmac-sha224; secret "` + secret + `"; };
`
)

// zoneFile is what each zone starts with, and records of its own.
func zoneFile(records ...string) string {
	return "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 86400 60\n@ NS ns1\n" + strings.Join(records, "\n") + "\n"
}

// server is a real name server at an address of the loopback interface.
type server struct {
	t       *testing.T
	address string
}

// startServer starts a program in a directory with files. It answers when this
// returns, and ends with the test.
func startServer(t *testing.T, address, directory string, files map[string]string, argv ...string) *server {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	log, ended := new(bytes.Buffer), make(chan struct{})
	command := exec.Command(argv[0], argv[1:]...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { command.Wait(); close(ended) }()
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("%s at %s:\n%s", argv[0], address, log)
		}
	})
	s := &server{t, address}
	s.await(ended)
	return s
}

// startNamed starts a BIND with what config says.
func startNamed(t *testing.T, address, config string, files map[string]string) *server {
	t.Helper()
	directory := t.TempDir()
	listen := "listen-on { " + address + "; }; listen-on-v6 { none; };"
	if strings.Contains(address, ":") {
		listen = "listen-on { none; }; listen-on-v6 { " + address + "; };"
	}
	files["named.conf"] = keys + `options { directory "` + directory + `"; pid-file none; session-keyfile none; ` + listen + ` dnssec-validation no; empty-zones-enable no; };
controls { };
` + config
	return startServer(t, address, directory, files, copyOfNamed(t, directory), "-g", "-n", "1", "-c", filepath.Join(directory, "named.conf"))
}

// copyOfNamed has no AppArmor profile: that of Debian lets named read its
// configuration in /etc alone.
func copyOfNamed(t *testing.T, directory string) string {
	t.Helper()
	from, err := os.Open("/usr/sbin/named")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(directory, "named")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *server) await(ended <-chan struct{}) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			s.t.Fatalf("the server at %s ended", s.address)
		default:
		}
		question := new(dns.Msg).SetQuestion("version.bind.", dns.TypeTXT)
		question.Question[0].Qclass = dns.ClassCHAOS
		if _, err := dns.Exchange(question, "["+s.address+"]:53"); err == nil {
			return
		}
	}
	s.t.Fatalf("the server at %s does not answer", s.address)
}

// awaitZone returns when a secondary has got its zone.
func (s *server) awaitZone(zone string) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s.ask(zone, dns.TypeSOA).Authoritative {
			return
		}
	}
	s.t.Fatalf("the server at %s has no zone %s", s.address, zone)
}

// texts are the TXT records at a name, sorted.
func (s *server) texts(name string) []string {
	s.t.Helper()
	all := []string{}
	for _, rr := range s.ask(name, dns.TypeTXT).Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			all = append(all, strings.Join(txt.Txt, ""))
		}
	}
	slices.Sort(all)
	return all
}

func (s *server) serial(zone string) uint32 {
	s.t.Helper()
	reply := s.ask(zone, dns.TypeSOA)
	if len(reply.Answer) != 1 {
		s.t.Fatalf("SOA of %s: %v", zone, reply)
	}
	return reply.Answer[0].(*dns.SOA).Serial
}

func (s *server) ask(name string, rrtype uint16) *dns.Msg {
	s.t.Helper()
	reply, err := ask(s.t.Context(), s.address, dns.Fqdn(name), rrtype)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply
}

// startPrimary has zones that take updates, each its own way.
func startPrimary(t *testing.T, address string) *server {
	t.Helper()
	ns1 := "ns1 A " + address
	if strings.Contains(address, ":") {
		ns1 = "ns1 AAAA " + address
	}
	return startNamed(t, address, `
zone "example.net" { type primary; file "example.net"; update-policy { grant SmtpWall name _acme-challenge.mail.example.net. TXT; }; };
zone "acme.example.org" { type primary; file "acme.example.org"; allow-update { key SmtpWall; key large; key middle; key small; }; };
zone "fixed.example.net" { type primary; file "fixed.example.net"; };
`, map[string]string{
		"example.net": zoneFile(ns1, "mail A 192.0.2.1", "fixed NS ns1",
			"_acme-challenge.www CNAME www.acme.example.org.",
			"_acme-challenge.far CNAME one.two", "one.two CNAME far.acme.example.org.",
			"_acme-challenge.round CNAME around", "around CNAME _acme-challenge.round"),
		"acme.example.org":  zoneFile(ns1),
		"fixed.example.net": zoneFile(ns1),
	})
}

func updateAt(server string) Update {
	return Update{Server: server, KeyName: "smtpwall", Key: secret}
}

// challenge is one for a name; each has another value.
func challenge(name, token string) acme.Challenge {
	return acme.Challenge{Type: acme.ChallengeTypeDNS01, Identifier: acme.Identifier{Type: "dns", Value: name}, Token: token, KeyAuthorization: token + ".thumbprint"}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// wantError compares with part of an error; "" is none.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

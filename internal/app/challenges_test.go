package app

import (
	"net"
	"testing"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/systemd"
)

// Of passed sockets those at the port of challenges are the CA's, whatever they
// are called and whatever their address, and the others are for mail.
func TestTakeChallenges(t *testing.T) {
	open := func() (systemd.Socket, uint16) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		socket, err := systemd.FromListener("smtpwall", l)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = socket.File.Close() })
		return socket, uint16(l.Addr().(*net.TCPAddr).Port)
	}
	challenge, port := open()
	for _, c := range []struct {
		name          string
		certificates  config.Certificates
		http, tlsALPN int
	}{
		{"http-01", config.Certificates{Source: config.SourceACME, Challenge: config.ChallengeHTTP, HTTPPort: port}, 1, 0},
		{"tls-alpn-01", config.Certificates{Source: config.SourceACME, Challenge: config.ChallengeTLSALPN, HTTPPort: port, TLSALPNPort: port}, 0, 1},
		{"dns-01", config.Certificates{Source: config.SourceACME, Challenge: config.ChallengeDNS, HTTPPort: port}, 0, 0},
		{"web root", config.Certificates{Source: config.SourceACME, Challenge: config.ChallengeHTTP, WebRoot: "/srv", HTTPPort: port}, 0, 0},
		{"local", config.Certificates{Source: config.SourceLocal, Challenge: config.ChallengeHTTP, HTTPPort: port}, 0, 0},
	} {
		mail, _ := open()
		again, err := again(challenge)
		if err != nil {
			t.Fatal(err)
		}
		taken, rest, err := takeChallenges(c.certificates, []systemd.Socket{mail, again})
		if err != nil {
			t.Fatal(err)
		}
		if len(taken.http) != c.http || len(taken.tlsALPN) != c.tlsALPN || len(rest) != 2-c.http-c.tlsALPN || rest[0] != mail {
			t.Errorf("%s: http %d, tls-alpn %d, mail %d", c.name, len(taken.http), len(taken.tlsALPN), len(rest))
		}
		taken.close()
	}
	left, err := again(challenge)
	if err != nil {
		t.Fatal(err)
	}
	left.Name = "acme"
	taken, rest, err := takeChallenges(config.Certificates{Source: config.SourceLocal}, []systemd.Socket{left})
	if err != nil || len(taken.http) != 1 || len(rest) != 0 {
		t.Errorf("one that is not wanted any more: http %d, mail %d, %v", len(taken.http), len(rest), err)
	}
	taken.close()
}

// again is the same socket once more, since whoever takes one closes it.
func again(socket systemd.Socket) (systemd.Socket, error) {
	l, err := net.FileListener(socket.File)
	if err != nil {
		return systemd.Socket{}, err
	}
	defer l.Close()
	return systemd.FromListener(socket.Name, l)
}

// Only a port that nobody listens on yet needs a restart.
func TestChallengesMoved(t *testing.T) {
	port := func(n uint16) config.Certificates {
		return config.Certificates{Source: config.SourceACME, Challenge: config.ChallengeHTTP, HTTPPort: n}
	}
	for _, c := range []struct {
		from, to config.Certificates
		want     bool
	}{
		{port(80), port(80), false}, {port(80), port(8080), true}, {config.Certificates{Source: config.SourceLocal}, port(80), true},
		{port(80), config.Certificates{Source: config.SourceLocal}, false},
		{port(80), config.Certificates{Source: config.SourceACME, Challenge: config.ChallengeTLSALPN, TLSALPNPort: 80}, true},
	} {
		if got := challengesMoved(c.from, c.to); got != c.want {
			t.Errorf("from %v to %v: %v", c.from, c.to, got)
		}
	}
}

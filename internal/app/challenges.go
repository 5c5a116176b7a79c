package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/config"
	"github.com/smtpwall/smtpwall/proxy"
	"github.com/smtpwall/smtpwall/systemd"
)

// Names of passed sockets at which a CA's challenges come in. What their names
// begin with is also that of smtpwall-acme@.socket.
const (
	challengeHTTP    = challengePrefix + "-http"
	challengeTLSALPN = challengePrefix + "-tls"
	challengePrefix  = "acme"
)

// challengeListeners are where a CA's challenges come in.
type challengeListeners struct {
	http, tlsALPN []net.Listener
}

func (c *challengeListeners) add(name string, l net.Listener) {
	if name == challengeHTTP {
		c.http = append(c.http, l)
	} else {
		c.tlsALPN = append(c.tlsALPN, l)
	}
}

func (c *challengeListeners) close() {
	for _, l := range append(c.http, c.tlsALPN...) {
		_ = l.Close()
	}
}

// challengePort is the port at which the configuration wants a CA's challenge; 0
// if it comes another way.
func challengePort(c config.Certificates) (name string, port uint16) {
	switch {
	case c.Source != config.SourceACME:
	case c.Challenge == config.ChallengeHTTP && c.WebRoot == "":
		return challengeHTTP, c.HTTPPort
	case c.Challenge == config.ChallengeTLSALPN:
		return challengeTLSALPN, c.TLSALPNPort
	}
	return "", 0
}

// challengesMoved says that the port of challenges is another one, for which a
// running proxy has no listener. One that is not needed any more may stay.
func challengesMoved(from, to config.Certificates) bool {
	name, port := challengePort(from)
	newName, newPort := challengePort(to)
	return newPort != 0 && (newPort != port || newName != name)
}

// bindChallenges opens the port of challenges at every address, for a child that
// may not. One that somebody else has at one of them is no reason not to start: a
// certificate of the local CA serves, and the child's condition tells. So it must
// not get a part of them, since the CA may come to the other.
func bindChallenges(ctx context.Context, c config.Certificates) ([]listener, error) {
	name, port := challengePort(c)
	if port == 0 {
		return nil, nil
	}
	var all []listener
	for _, address := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		inner, err := listenTCP(ctx, netip.AddrPortFrom(address, port))
		switch {
		case errors.Is(err, unix.EAFNOSUPPORT):
		case err != nil:
			closeListeners(all)
			return nil, fmt.Errorf("listening for challenges: %w", err)
		default:
			all = append(all, listener{inner, proxy.Role(name)})
		}
	}
	return all, nil
}

// takeChallenges sorts the passed sockets at which challenges come in from those
// for mail: by their port, so that a unit file can have any address for it. One
// that is a challenge's by name, and that the configuration does not want any
// more, answers 404: it must not keep the next start from mail.
func takeChallenges(c config.Certificates, passed []systemd.Socket) (challenges challengeListeners, mail []systemd.Socket, err error) {
	name, port := challengePort(c)
	for _, socket := range passed {
		role := name
		switch {
		case port != 0 && portOf(socket) == port:
		case strings.HasPrefix(socket.Name, challengePrefix):
			role = challengeHTTP
		default:
			mail = append(mail, socket)
			continue
		}
		l, err := socket.Listener()
		if err != nil {
			challenges.close()
			return challengeListeners{}, nil, fmt.Errorf("taking over the passed socket %q: %w", socket.Name, err)
		}
		challenges.add(role, l)
	}
	return challenges, mail, nil
}

// portOf is the TCP port that a passed socket is bound to, or 0.
func portOf(socket systemd.Socket) uint16 {
	raw, err := socket.File.SyscallConn()
	if err != nil {
		return 0
	}
	var bound unix.Sockaddr
	_ = raw.Control(func(fd uintptr) { bound, _ = unix.Getsockname(int(fd)) }) // nil, of no kind, on an error
	switch address := bound.(type) {
	case *unix.SockaddrInet4:
		return uint16(address.Port)
	case *unix.SockaddrInet6:
		return uint16(address.Port)
	}
	return 0
}

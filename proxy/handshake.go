package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/internal/logfields"
	"github.com/smtpwall/smtpwall/proxy/auth"
)

// acmeProtocol is what an ACME server negotiates to look at a challenge of
// TLS-ALPN-01 (RFC 8737 section 3).
const acmeProtocol = "acme-tls/1"

// maxServerName is the longest host name; a hello has room for 64 KiB, and the log
// has it for each session.
const maxServerName = 253

// handshake puts TLS on. When it fails the connection is closed: there is
// nothing that can be said in clear.
func (s *session) handshake() bool {
	s.mute = true
	watched := &watchedConn{Conn: s.raw, watching: true}
	conn := tls.Server(s.asDialled(watched), s.settings.TLS)
	deadline := time.Now().Add(s.settings.Limits.HandshakeTimeout)
	_ = s.raw.SetDeadline(deadline)
	s.readBy, s.writeBy = deadline, deadline
	ctx, cancel := context.WithDeadline(s.ctx, deadline)
	defer cancel()
	err := conn.HandshakeContext(ctx)
	watched.watching = false
	state := conn.ConnectionState()
	s.serverName = state.ServerName[:min(len(state.ServerName), maxServerName)]
	if err != nil {
		s.trouble, s.closing = s.handshakeTrouble(watched.reason(err)), true
		return false
	}
	s.conn, s.tls, s.mute = conn, &state, false
	if state.NegotiatedProtocol == acmeProtocol {
		// The certificate was the answer; nothing may follow it (RFC 8737 section 3).
		s.log.Debug("answered an ACME challenge", zap.String(logfields.Session, s.id), zap.String(logfields.TLSName, state.ServerName))
		s.closing = true
		return false
	}
	if s.role != Intercepted { // a redirected client's is not for us
		s.certificate = provenCertificate(&state)
	}
	s.reader.Reset(source{s}) // nothing that was read in clear survives
	quickAck(s.raw)
	return true
}

// provenCertificate is the one whose key the client has: crypto/tls fails the
// handshake of a client that shows one and does not prove it, and a resumed
// session carries that of the handshake it goes back to, sealed in its ticket.
func provenCertificate(state *tls.ConnectionState) *auth.Certificate {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	leaf := state.PeerCertificates[0]
	return &auth.Certificate{Fingerprint: sha256.Sum256(leaf.Raw), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
}

// handshakeTrouble is why the session ends with the handshake.
func (s *session) handshakeTrouble(err error) string {
	if (s.draining.Load() || s.expelled.Load()) && errors.Is(err, os.ErrDeadlineExceeded) {
		return "TLS handshake cut off: " + s.whyCutOff().Error()
	}
	return "TLS handshake failed: " + explainHandshake(err, s.serverName)
}

// asDialled is what package certs finds behind a ClientHello.
func (s *session) asDialled(conn net.Conn) net.Conn {
	if s.peer.OriginalDst.IsValid() {
		return redirectedConn{conn, s.peer.OriginalDst, s.peerKey}
	}
	return conn
}

// redirectedConn is a connection with the place that its client dialled, and who
// the client is.
type redirectedConn struct {
	net.Conn
	destination netip.AddrPort
	peerKey     string
}

// OriginalDestination is where a redirected client meant to go.
func (c redirectedConn) OriginalDestination() netip.AddrPort { return c.destination }

// PeerKey is who is counted: one client's new names are bounded by it.
func (c redirectedConn) PeerKey() string { return c.peerKey }

// quickAck acknowledges the client's Finished at once. A TLS 1.3 server has
// nothing to say after it, so the kernel would delay the ACK, and a client with
// Nagle's algorithm on would hold its EHLO for 40 ms.
func quickAck(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	})
}

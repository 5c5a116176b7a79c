package admin

import (
	"context"
	"errors"
	"net"
	"sync"

	"go.uber.org/zap"

	"github.com/smtpwall/smtpwall/internal/logfields"
)

const (
	// maxConnections bounds the connections under way; rootConnections of them
	// are kept for root, whom a member of the group must not keep out.
	maxConnections  = 32
	rootConnections = 8
)

var (
	errNotPermitted = errors.New("not permitted")
	errTooMany      = errors.New("too many connections")
)

// gate is a listener that gives only connections of those who may use it, and
// some at a time. The others are closed: no byte of theirs is read.
type gate struct {
	net.Listener
	access access
	log    *zap.Logger
	// credentials are those of the process at the other end.
	credentials func(*net.UnixConn) (credentials, error)

	mu     sync.Mutex
	all    int
	others int // of them not root's
}

func newGate(ln net.Listener, log *zap.Logger) *gate {
	if log == nil {
		log = zap.NewNop()
	}
	return &gate{Listener: ln, access: accessTo(ln.Addr()), log: log, credentials: readCredentials}
}

// Accept waits for the next connection that is let in.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, err := g.admit(conn)
		if err == nil {
			return c, nil
		}
		_ = conn.Close()
	}
}

func (g *gate) admit(conn net.Conn) (net.Conn, error) {
	inner, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errNotPermitted
	}
	c, err := g.credentials(inner)
	if err == nil {
		err = g.enter(c)
	}
	if err != nil {
		g.log.Info("connection turned away", zap.Uint32(logfields.PeerUID, c.uid), zap.Error(err))
		return nil, err
	}
	return &admitted{UnixConn: inner, uid: c.uid, leave: sync.OnceFunc(func() { g.leave(c.uid) })}, nil
}

func (g *gate) enter(c credentials) error {
	if !g.access.permits(c) {
		return errNotPermitted
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= maxConnections || c.uid != 0 && g.others >= maxConnections-rootConnections {
		return errTooMany
	}
	g.all++
	if c.uid != 0 {
		g.others++
	}
	return nil
}

func (g *gate) leave(uid uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if uid != 0 {
		g.others--
	}
}

// admitted is a connection that was let in.
type admitted struct {
	*net.UnixConn
	uid   uint32
	leave func()
}

func (a *admitted) Close() error {
	defer a.leave()
	return a.UnixConn.Close()
}

type uidKey struct{}

// withPeer notes in a connection's context who is at the other end.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if a, ok := conn.(*admitted); ok {
		return context.WithValue(ctx, uidKey{}, a.uid)
	}
	return ctx
}

// PeerUID is the user whose request the context belongs to, by the kernel's
// word; not ok if the request did not come over the socket.
func PeerUID(ctx context.Context) (uid uint32, ok bool) {
	uid, ok = ctx.Value(uidKey{}).(uint32)
	return uid, ok
}

package certs

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
)

const (
	// maxChallengeConnections is how many connections a listener for challenges has at once: strangers come there too.
	maxChallengeConnections = 512
	// maxChallengeNeighbours is how many of them are one address's, or one IPv6 network's of 64 bits, which is what
	// one subscriber has. CAs look from several places, from each once for a name.
	maxChallengeNeighbours = 16
	// maxChallengeOctets is what a client may send: a hello and what ends the handshake, or a header.
	maxChallengeOctets = 16 << 10
)

// challengeListener accepts whoever comes. When there are too many, the oldest has to go: a CA asks at once, and who
// wants to keep it out would have to come anew all the time.
type challengeListener struct {
	net.Listener

	mu         sync.Mutex
	all        list.List // of *challengeConn, the oldest first
	neighbours map[netip.Prefix]*list.List
}

func limitChallenges(listener net.Listener) *challengeListener {
	return &challengeListener{Listener: listener, neighbours: map[netip.Prefix]*list.List{}}
}

// challengeConn is one connection. Its fields but for left are the listener's.
type challengeConn struct {
	net.Conn
	listener         *challengeListener
	from             netip.Prefix
	place, neighbour *list.Element // nil when it is closed
	left             int           // octets; for the one goroutine that reads
}

func (l *challengeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &challengeConn{Conn: conn, listener: l, from: neighbourhood(conn.RemoteAddr()), left: maxChallengeOctets}
	for _, oldest := range l.admit(c) {
		oldest.Conn.Close()
	}
	return c, nil
}

// admit notes c and returns what has to go for it.
func (l *challengeListener) admit(c *challengeConn) (leaving []*challengeConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	near := l.neighbours[c.from]
	if near == nil {
		near = list.New()
		l.neighbours[c.from] = near
	}
	c.place, c.neighbour = l.all.PushBack(c), near.PushBack(c)
	for _, full := range []struct {
		queue *list.List
		most  int
	}{{near, maxChallengeNeighbours}, {&l.all, maxChallengeConnections}} {
		if full.queue.Len() > full.most {
			oldest := full.queue.Front().Value.(*challengeConn)
			l.forget(oldest)
			leaving = append(leaving, oldest)
		}
	}
	return leaving
}

// forget is called with the lock held, once or more.
func (l *challengeListener) forget(c *challengeConn) {
	if c.place == nil {
		return
	}
	near := l.neighbours[c.from]
	l.all.Remove(c.place)
	near.Remove(c.neighbour)
	if c.place, c.neighbour = nil, nil; near.Len() == 0 {
		delete(l.neighbours, c.from)
	}
}

// neighbourhood is who is counted as one. What has no IP address is one, too.
func neighbourhood(address net.Addr) netip.Prefix {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits)
	return prefix
}

var errTooMuch = errors.New("more than a CA has to say")

func (c *challengeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.left -= n; c.left < 0 {
		return 0, errTooMuch
	}
	return n, err
}

func (c *challengeConn) Close() error {
	c.listener.mu.Lock()
	c.listener.forget(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

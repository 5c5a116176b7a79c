package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

var (
	errNoSocket   = errors.New("no such socket on this host")
	errNotClient  = errors.New("the kernel answered with another socket")
	errGone       = errors.New("the client's socket has been closed")
	errForeignUID = errors.New("the owner has no uid in our user namespace")
	errClosed     = errors.New("the identifier is closed")
)

// TCP states, include/net/tcp_states.h.
const (
	tcpEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpCloseWait   = 8
	tcpLastAck     = 9
	tcpClosing     = 11
)

// The layout of include/uapi/linux/inet_diag.h: a netlink header, then
// inet_diag_req_v2 or inet_diag_msg, with the same inet_diag_sockid in both.
const (
	headerLen     = 16
	requestLen    = headerLen + 56
	answerLen     = 72
	sockidLen     = 48
	requestSockid = headerLen + 8
	answerSockid  = 4
	attrCGroupID  = 21 // INET_DIAG_CGROUP_ID
)

// owner is the kernel's word on a socket. cgroup is 0 when it has none.
type owner struct {
	uid    uint32
	inode  uint32
	cgroup uint64
}

// diagPool lends lasting sock_diag sockets: opening one for each query would
// cost more than the query, and one for all would be a queue.
type diagPool struct {
	free   chan *diagConn
	size   int
	closed chan struct{}
	once   sync.Once
}

func newDiagPool(size int) (*diagPool, error) {
	p := &diagPool{free: make(chan *diagConn, size), size: size, closed: make(chan struct{})}
	for range size {
		c, err := dialDiag()
		if err != nil {
			p.size = len(p.free)
			p.close()
			return nil, err
		}
		p.free <- c
	}
	return p, nil
}

// query asks for the socket that is bound to src and connected to dst.
func (p *diagPool) query(src, dst netip.AddrPort) (owner, error) {
	select {
	case <-p.closed:
		return owner{}, errClosed
	default:
	}
	select {
	case c := <-p.free:
		defer func() { p.free <- c }()
		return c.query(src, dst)
	case <-p.closed:
		return owner{}, errClosed
	}
}

// close waits for the queries under way, then closes every socket.
func (p *diagPool) close() error {
	var err error
	p.once.Do(func() {
		close(p.closed)
		for range p.size {
			err = errors.Join(err, unix.Close((<-p.free).fd))
		}
	})
	return err
}

// diagConn is one sock_diag socket with its buffers. One goroutine at a time.
type diagConn struct {
	fd  int
	seq uint32
	req [requestLen]byte
	buf [4096]byte
}

func dialDiag() (*diagConn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("opening a sock_diag socket: %w", err)
	}
	// Connected to the kernel, the socket takes messages from nobody else.
	if err := unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connecting a sock_diag socket: %w", err)
	}
	return &diagConn{fd: fd}, nil
}

// query sends one exact request (never a dump, which would read the whole
// table) and reads its answer. The kernel answers within the write.
func (c *diagConn) query(src, dst netip.AddrPort) (owner, error) {
	if src.Addr().Is4() != dst.Addr().Is4() || !src.IsValid() || !dst.IsValid() {
		return owner{}, errNoSocket
	}
	c.seq++
	c.encode(src, dst)
	if _, err := unix.Write(c.fd, c.req[:]); err != nil {
		return owner{}, fmt.Errorf("asking sock_diag: %w", err)
	}
	for {
		n, err := unix.Read(c.fd, c.buf[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return owner{}, fmt.Errorf("reading sock_diag's answer: %w", err)
		}
		// A left-over of a query whose read failed.
		if n >= headerLen && binary.NativeEndian.Uint32(c.buf[8:]) != c.seq {
			continue
		}
		return decode(c.buf[:n], c.req[requestSockid:requestSockid+36])
	}
}

// encode fills in the request.
func (c *diagConn) encode(src, dst netip.AddrPort) {
	b := c.req[:]
	clear(b)
	binary.NativeEndian.PutUint32(b[0:], requestLen)
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b[8:], c.seq)
	b[headerLen] = unix.AF_INET6
	if src.Addr().Is4() {
		b[headerLen] = unix.AF_INET
	}
	b[headerLen+1] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[headerLen+4:], ^uint32(0)) // any state
	id := b[requestSockid:]
	binary.BigEndian.PutUint16(id[0:], src.Port())
	binary.BigEndian.PutUint16(id[2:], dst.Port())
	putAddr(id[4:20], src.Addr())
	putAddr(id[20:36], dst.Addr())
	binary.NativeEndian.PutUint32(id[36:], zoneIndex(src.Addr(), dst.Addr()))
	binary.NativeEndian.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
}

// putAddr writes an IPv4 address into the first four of the 16 bytes.
func putAddr(b []byte, addr netip.Addr) {
	if addr.Is4() {
		a := addr.As4()
		copy(b, a[:])
		return
	}
	a := addr.As16()
	copy(b, a[:])
}

// decode reads the answer to a request for the tuple in sockid: ports, source
// address, destination address.
func decode(b, sockid []byte) (owner, error) {
	if len(b) < headerLen+4 {
		return owner{}, errNotClient
	}
	kind, body := binary.NativeEndian.Uint16(b[4:]), b[headerLen:]
	if kind == unix.NLMSG_ERROR {
		errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		if errno == unix.ENOENT {
			return owner{}, errNoSocket
		}
		return owner{}, fmt.Errorf("asking sock_diag: %w", errno)
	}
	if kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < answerLen || !sameTuple(body, sockid) {
		return owner{}, errNotClient
	}
	return decodeOwner(body)
}

// sameTuple reports whether the answer is about the tuple that was asked for:
// a look-up that finds no connection falls back to listeners. An IPv6 socket
// that is connected to an IPv4-mapped address answers with mapped addresses.
func sameTuple(body, sockid []byte) bool {
	got := body[answerSockid : answerSockid+sockidLen]
	if string(got[:4]) != string(sockid[:4]) {
		return false
	}
	src, dst := got[4:20], got[20:36]
	if string(src) == string(sockid[4:20]) && string(dst) == string(sockid[20:36]) {
		return true
	}
	return body[0] == unix.AF_INET6 && isMapped(src, sockid[4:20]) && isMapped(dst, sockid[20:36])
}

// isMapped reports whether got is ::ffff:a.b.c.d for the a.b.c.d in the first
// four bytes of want.
func isMapped(got, want []byte) bool {
	return string(got[:12]) == "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff" && string(got[12:16]) == string(want[:4])
}

// decodeOwner takes the owner out of an inet_diag_msg, or says why its uid
// proves nothing.
func decodeOwner(body []byte) (owner, error) {
	switch body[1] {
	case tcpEstablished, tcpFinWait1, tcpFinWait2, tcpCloseWait, tcpLastAck, tcpClosing:
	default:
		// A listener, a new connection of somebody else, or nobody's.
		return owner{}, errNotClient
	}
	found := owner{
		uid:    binary.NativeEndian.Uint32(body[64:]),
		inode:  binary.NativeEndian.Uint32(body[68:]),
		cgroup: cgroupID(body[answerLen:]),
	}
	// The inode goes when the client closes. A remnant in time-wait has no
	// cgroup either and says uid 0, and so does any closed socket of a kernel
	// before 6.17: never take that for root.
	if found.inode == 0 && (found.cgroup == 0 || found.uid == 0) {
		return owner{}, errGone
	}
	return found, nil
}

// cgroupID finds INET_DIAG_CGROUP_ID among the attributes; 0 if it is not there.
func cgroupID(attrs []byte) uint64 {
	for len(attrs) >= 4 {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < 4 || size > len(attrs) {
			return 0
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == attrCGroupID && size >= 12 {
			return binary.NativeEndian.Uint64(attrs[4:])
		}
		attrs = attrs[min((size+3)&^3, len(attrs)):]
	}
	return 0
}

// zoneIndex is the interface that a link-local address belongs to, else 0.
func zoneIndex(addrs ...netip.Addr) uint32 {
	for _, addr := range addrs {
		zone := addr.Zone()
		if zone == "" {
			continue
		}
		if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			return uint32(n)
		}
		if ifi, err := net.InterfaceByName(zone); err == nil {
			return uint32(ifi.Index)
		}
	}
	return 0
}

// zoneName is the way in which net writes the interface of an address.
func zoneName(index uint32) string {
	if ifi, err := net.InterfaceByIndex(int(index)); err == nil {
		return ifi.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}

package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/proxy/peer"
)

// openSocket is a TCP socket of a connection, as inet_diag tells of it.
type openSocket struct {
	family uint8
	local  netip.AddrPort
	remote netip.AddrPort
	uid    uint32
	inode  uint32
	cgroup uint64
	id     [sockIDLength]byte // as the kernel wants it back
}

// socketOwner is who made a socket, as far as the kernel's word proves it.
type socketOwner struct {
	uid             uint32
	hasUID          bool
	unit, container string
}

// socketOwner finds the owner of a socket, subordinate uids being their user's. Of
// a socket that its process has closed, older kernels say that it is root's.
func (a *attributor) socketOwner(s openSocket) socketOwner {
	o := socketOwner{uid: s.uid, hasUID: s.inode != 0 || s.uid != 0}
	if user, ok := a.users.Owner(s.uid); ok {
		o.uid = user
	}
	if path, ok := a.cgroups.Path(s.cgroup); ok {
		o.unit, o.container = peer.ParseCGroup(path)
	}
	return o
}

// The layout of linux/inet_diag.h: a netlink header, then inet_diag_req_v2 or
// inet_diag_msg, with the same inet_diag_sockid in both.
const (
	sockDestroy   = 21 // SOCK_DESTROY
	netlinkHeader = 16
	diagRequest   = 56
	diagMessage   = 72
	sockIDLength  = 48
	attrCGroupID  = 21 // INET_DIAG_CGROUP_ID

	// States of a connection that can still send: all but time-wait, closed and
	// listening.
	diagStates = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11
	diagTime   = 5 * time.Second
)

// errNoDestroy is for kernels without CONFIG_INET_DIAG_DESTROY.
var errNoDestroy = errors.New("this kernel cannot end connections of others")

// destroySockets ends the TCP connections of this network namespace that match
// wants to end, and says how many they were.
func destroySockets(ctx context.Context, match func(openSocket) bool) (ended int, err error) {
	c, err := dialDiag(ctx)
	if err != nil {
		return 0, err
	}
	defer unix.Close(c.fd)
	var all []openSocket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := c.list(family)
		if err != nil {
			return 0, fmt.Errorf("listing connections: %w", err)
		}
		all = append(all, found...)
	}
	var errs []error
	for _, s := range all {
		if !match(s) {
			continue
		}
		switch err := c.destroy(s); {
		case errors.Is(err, unix.EOPNOTSUPP):
			return ended, errNoDestroy
		case errors.Is(err, unix.ENOENT): // it ended by itself
		case err != nil:
			errs = append(errs, fmt.Errorf("ending the connection to %s: %w", s.remote, err))
		default:
			ended++
		}
	}
	return ended, errors.Join(errs...)
}

// diagConn is a sock_diag socket for a few questions in turn.
type diagConn struct {
	fd  int
	seq uint32
	buf []byte
}

func dialDiag(ctx context.Context) (*diagConn, error) {
	limit := diagTime
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(min(limit, time.Until(deadline)), time.Millisecond)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("opening a sock_diag socket: %w", err)
	}
	wait := unix.NsecToTimeval(int64(limit))
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	if err == nil { // connected to the kernel, it takes messages from nobody else
		err = unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("setting a sock_diag socket up: %w", err)
	}
	return &diagConn{fd: fd, buf: make([]byte, 256<<10)}, nil
}

func (c *diagConn) send(kind, flags uint16, family uint8, states uint32, id []byte) error {
	c.seq++
	b := make([]byte, netlinkHeader+diagRequest)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(b[8:], c.seq)
	b[netlinkHeader], b[netlinkHeader+1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[netlinkHeader+4:], states)
	copy(b[netlinkHeader+8:], id)
	_, err := unix.Write(c.fd, b)
	return err
}

// receive hands over the messages of an answer until one says that it has the
// last.
func (c *diagConn) receive(take func(kind uint16, body []byte) (last bool, err error)) error {
	for {
		n, err := unix.Read(c.fd, c.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for b := c.buf[:n]; len(b) >= netlinkHeader; {
			length := int(binary.NativeEndian.Uint32(b))
			if length < netlinkHeader || length > len(b) {
				return errors.New("a netlink message is cut off")
			}
			if binary.NativeEndian.Uint32(b[8:]) == c.seq {
				last, err := take(binary.NativeEndian.Uint16(b[4:]), b[netlinkHeader:length])
				if last || err != nil {
					return err
				}
			}
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}

// list returns the connections of a family. Sockets of IPv6 that are connected
// to IPv4 addresses are among those of IPv6.
func (c *diagConn) list(family uint8) ([]openSocket, error) {
	if err := c.send(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, family, diagStates, nil); err != nil {
		return nil, err
	}
	var all []openSocket
	err := c.receive(func(kind uint16, body []byte) (bool, error) {
		switch kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			return true, netlinkError(body)
		}
		if s, ok := parseSocket(body); ok {
			all = append(all, s)
		}
		return false, nil
	})
	return all, err
}

// destroy ends one connection: its process gets ECONNABORTED, the other end a
// reset.
func (c *diagConn) destroy(s openSocket) error {
	if err := c.send(sockDestroy, unix.NLM_F_ACK, s.family, ^uint32(0), s.id[:]); err != nil {
		return err
	}
	return c.receive(func(kind uint16, body []byte) (bool, error) {
		if kind != unix.NLMSG_ERROR {
			return false, nil
		}
		return true, netlinkError(body)
	})
}

// netlinkError is nil for an acknowledgement.
func netlinkError(body []byte) error {
	if len(body) < 4 {
		return errors.New("a netlink error is cut off")
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func parseSocket(b []byte) (openSocket, bool) {
	if len(b) < diagMessage {
		return openSocket{}, false
	}
	s := openSocket{family: b[0], uid: binary.NativeEndian.Uint32(b[64:]), inode: binary.NativeEndian.Uint32(b[68:])}
	copy(s.id[:], b[4:])
	address := func(b []byte) netip.Addr {
		if s.family == unix.AF_INET {
			return netip.AddrFrom4([4]byte(b[:4]))
		}
		return netip.AddrFrom16([16]byte(b)).Unmap()
	}
	s.local = netip.AddrPortFrom(address(s.id[4:20]), binary.BigEndian.Uint16(s.id[0:]))
	s.remote = netip.AddrPortFrom(address(s.id[20:36]), binary.BigEndian.Uint16(s.id[2:]))
	for attrs := b[diagMessage:]; len(attrs) >= 4; {
		length := int(binary.NativeEndian.Uint16(attrs))
		if length < 4 || length > len(attrs) {
			break
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == attrCGroupID && length >= 12 {
			s.cgroup = binary.NativeEndian.Uint64(attrs[4:])
		}
		attrs = attrs[min((length+3)&^3, len(attrs)):]
	}
	return s, true
}

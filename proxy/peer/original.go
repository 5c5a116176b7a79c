package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// errNotOpen means that our end of the connection was closed by a reset, so
// that its tuple may have a new holder.
var errNotOpen = errors.New("the connection is no longer open")

// optOriginalDst is SO_ORIGINAL_DST of SOL_IP and IP6T_SO_ORIGINAL_DST of
// SOL_IPV6, which have the same number.
const optOriginalDst = 80

// originalDst is the destination that the connection had before it was
// redirected. It is the local address where nothing was redirected, and the
// zero value where connection tracking does not know the connection.
func originalDst(fd int, ipv4 bool) (netip.AddrPort, error) {
	var dst netip.AddrPort
	var err error
	if ipv4 {
		dst, err = originalDst4(fd)
	} else {
		dst, err = originalDst6(fd)
	}
	switch {
	case err == nil:
		return dst, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOPROTOOPT):
		// No entry, or no connection tracking at all: direct.
		return netip.AddrPort{}, nil
	default:
		return netip.AddrPort{}, fmt.Errorf("reading the original destination: %w", err)
	}
}

// originalDst4 reads a sockaddr_in through the 20 bytes of an ipv6_mreq, the
// nearest structure that x/sys can read.
func originalDst4(fd int) (netip.AddrPort, error) {
	mreq, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, optOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	sa := mreq.Multiaddr[:]
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa[4:8])), binary.BigEndian.Uint16(sa[2:4])), nil
}

// originalDst6 reads a sockaddr_in6, with which an ip6_mtuinfo begins.
func originalDst6(fd int) (netip.AddrPort, error) {
	info, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, optOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, info.Addr.Port))
	addr := netip.AddrFrom16(info.Addr.Addr)
	if info.Addr.Scope_id != 0 && addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(zoneName(info.Addr.Scope_id))
	}
	return netip.AddrPortFrom(addr, port), nil
}

// stillOpen is nil while the connection at fd has not been reset and we have
// not closed it; a peer that has ended its half only is fine.
func stillOpen(fd int) error {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return fmt.Errorf("reading the connection's state: %w", err)
	}
	if info.State != tcpEstablished && info.State != tcpCloseWait {
		return errNotOpen
	}
	return nil
}

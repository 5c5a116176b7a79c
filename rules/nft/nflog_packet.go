package nft

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Numbers of the IPv6 headers that may stand before TCP (RFC 8200 section 4).
const (
	protocolTCP = 6

	headerHopByHop    = 0
	headerRouting     = 43
	headerFragment    = 44
	headerAuth        = 51
	headerDestination = 60
)

// maxExtensionHeaders bounds the walk over IPv6 extension headers. RFC 8200
// section 4.1 expects each kind once, destination options twice.
const maxExtensionHeaders = 8

var (
	errPacketShort    = errors.New("packet is shorter than its headers")
	errPacketVersion  = errors.New("packet is neither IPv4 nor IPv6")
	errPacketHeader   = errors.New("packet has a malformed header")
	errPacketFragment = errors.New("packet is a later fragment and has no ports")
	errPacketNotTCP   = errors.New("packet is not TCP")
)

// parsePacket returns the ends of a TCP packet that begins with its IP header.
// The packet may be cut off anywhere after the ports.
func parsePacket(b []byte) (src, dst netip.AddrPort, err error) {
	if len(b) == 0 {
		return src, dst, errPacketShort
	}
	switch b[0] >> 4 {
	case 4:
		return parsePacket4(b)
	case 6:
		return parsePacket6(b)
	}
	return src, dst, errPacketVersion
}

// parsePacket4 follows RFC 791 section 3.1.
func parsePacket4(b []byte) (src, dst netip.AddrPort, err error) {
	const minHeader, fragmentOffset = 20, 0x1fff
	if len(b) < minHeader {
		return src, dst, errPacketShort
	}
	header := int(b[0]&0x0f) * 4
	if header < minHeader || int(binary.BigEndian.Uint16(b[2:])) < header {
		return src, dst, errPacketHeader
	}
	if binary.BigEndian.Uint16(b[6:])&fragmentOffset != 0 {
		return src, dst, errPacketFragment
	}
	if b[9] != protocolTCP {
		return src, dst, errPacketNotTCP
	}
	if len(b) < header {
		return src, dst, errPacketShort
	}
	from, to := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return withPorts(from, to, b[header:])
}

// parsePacket6 follows RFC 8200 section 3.
func parsePacket6(b []byte) (src, dst netip.AddrPort, err error) {
	const fixedHeader = 40
	if len(b) < fixedHeader {
		return src, dst, errPacketShort
	}
	tcp, err := skipExtensionHeaders(b[6], b[fixedHeader:])
	if err != nil {
		return src, dst, err
	}
	from, to := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	return withPorts(from, to, tcp)
}

// skipExtensionHeaders returns what follows the extension headers, which must
// be TCP. next is the number of the header that b begins with.
func skipExtensionHeaders(next byte, b []byte) ([]byte, error) {
	for range maxExtensionHeaders {
		if next == protocolTCP {
			return b, nil
		}
		size, err := extensionHeaderSize(next, b)
		if err != nil {
			return nil, err
		}
		if len(b) < size {
			return nil, errPacketShort
		}
		next, b = b[0], b[size:]
	}
	if next == protocolTCP {
		return b, nil
	}
	return nil, errPacketHeader
}

func extensionHeaderSize(kind byte, b []byte) (int, error) {
	const minHeader, fragmentOffset = 8, 0xfff8
	switch kind {
	case headerHopByHop, headerRouting, headerFragment, headerAuth, headerDestination:
	default:
		return 0, errPacketNotTCP
	}
	if len(b) < minHeader {
		return 0, errPacketShort
	}
	switch kind {
	case headerFragment:
		if binary.BigEndian.Uint16(b[2:])&fragmentOffset != 0 {
			return 0, errPacketFragment
		}
		return minHeader, nil
	case headerAuth: // counts in units of 4 octets, less two (RFC 4302 section 2.2)
		return (int(b[1]) + 2) * 4, nil
	}
	return (int(b[1]) + 1) * 8, nil
}

// withPorts reads the ports, the first four octets of TCP (RFC 9293 section 3.1).
func withPorts(from, to netip.Addr, tcp []byte) (src, dst netip.AddrPort, err error) {
	if len(tcp) < 4 {
		return src, dst, errPacketShort
	}
	src = netip.AddrPortFrom(from, binary.BigEndian.Uint16(tcp))
	dst = netip.AddrPortFrom(to, binary.BigEndian.Uint16(tcp[2:]))
	return src, dst, nil
}

package nft

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Numbers of protocols, and of the IPv6 headers that may stand before them (RFC
// 8200 section 4).
const (
	protocolTCP = 6
	protocolUDP = 17

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
	errPacketProtocol = errors.New("packet is of another protocol")
)

// parsePacket returns the ends of a TCP packet that begins with its IP header.
// The packet may be cut off anywhere after the ports.
func parsePacket(b []byte) (src, dst netip.AddrPort, err error) {
	from, to, tcp, err := transportOf(b, protocolTCP)
	if err != nil {
		return src, dst, err
	}
	return withPorts(from, to, tcp)
}

// transportOf returns the addresses of a packet that begins with its IP header,
// and what follows that and belongs to the packet. It must be of the protocol.
func transportOf(b []byte, protocol byte) (from, to netip.Addr, rest []byte, err error) {
	if len(b) == 0 {
		return from, to, nil, errPacketShort
	}
	switch b[0] >> 4 {
	case 4:
		return transportOf4(b, protocol)
	case 6:
		return transportOf6(b, protocol)
	}
	return from, to, nil, errPacketVersion
}

// transportOf4 follows RFC 791 section 3.1.
func transportOf4(b []byte, protocol byte) (from, to netip.Addr, rest []byte, err error) {
	const minHeader, fragmentOffset = 20, 0x1fff
	if len(b) < minHeader {
		return from, to, nil, errPacketShort
	}
	header, total := int(b[0]&0x0f)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < minHeader || total < header {
		return from, to, nil, errPacketHeader
	}
	if binary.BigEndian.Uint16(b[6:])&fragmentOffset != 0 {
		return from, to, nil, errPacketFragment
	}
	if b[9] != protocol {
		return from, to, nil, errPacketProtocol
	}
	if len(b) < header {
		return from, to, nil, errPacketShort
	}
	from, to = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return from, to, b[header:min(total, len(b))], nil
}

// transportOf6 follows RFC 8200 section 3.
func transportOf6(b []byte, protocol byte) (from, to netip.Addr, rest []byte, err error) {
	const fixedHeader = 40
	if len(b) < fixedHeader {
		return from, to, nil, errPacketShort
	}
	rest = b[fixedHeader:]
	if length := int(binary.BigEndian.Uint16(b[4:])); length > 0 { // 0 is a jumbogram's
		rest = rest[:min(length, len(rest))]
	}
	if rest, err = skipExtensionHeaders(b[6], rest, protocol); err != nil {
		return from, to, nil, err
	}
	return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), rest, nil
}

// skipExtensionHeaders returns what follows the extension headers, which must
// be of the protocol. next is the number of the header that b begins with.
func skipExtensionHeaders(next byte, b []byte, protocol byte) ([]byte, error) {
	for range maxExtensionHeaders {
		if next == protocol {
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
	if next == protocol {
		return b, nil
	}
	return nil, errPacketHeader
}

func extensionHeaderSize(kind byte, b []byte) (int, error) {
	const minHeader, fragmentOffset = 8, 0xfff8
	switch kind {
	case headerHopByHop, headerRouting, headerFragment, headerAuth, headerDestination:
	default:
		return 0, errPacketProtocol
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

// parseAnswer returns what a UDP packet that begins with its IP header carries
// (RFC 768), if it is from port 53 and all of it is there.
func parseAnswer(b []byte) ([]byte, error) {
	const header, portDNS = 8, 53
	_, _, udp, err := transportOf(b, protocolUDP)
	if err != nil {
		return nil, err
	}
	if len(udp) < header {
		return nil, errPacketShort
	}
	if binary.BigEndian.Uint16(udp) != portDNS {
		return nil, errPacketProtocol
	}
	switch length := int(binary.BigEndian.Uint16(udp[4:])); {
	case length <= header:
		return nil, errPacketHeader
	case length > len(udp): // a fragment, or cut off
		return nil, errPacketShort
	default:
		return udp[header:length], nil
	}
}

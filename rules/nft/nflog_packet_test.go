package nft

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

var (
	testSource4 = netip.MustParseAddrPort("198.51.100.1:40000")
	testTarget4 = netip.MustParseAddrPort("203.0.113.25:25")
	testSource6 = netip.MustParseAddrPort("[2001:db8::1]:40000")
	testTarget6 = netip.MustParseAddrPort("[2001:db8:25::1]:25")
)

// packet4 is an IPv4 header with options of the given number of 32-bit words,
// and the ports of TCP.
func packet4(options int) []byte {
	b := make([]byte, 20+4*options)
	b[0] = 0x40 | byte(5+options)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+20))
	b[6] = 0x40 // don't fragment
	b[9] = protocolTCP
	copy(b[12:], testSource4.Addr().AsSlice())
	copy(b[16:], testTarget4.Addr().AsSlice())
	return appendPorts(b)
}

// packet6 is an IPv6 header, the given extension headers, and the ports of TCP.
func packet6(extensions ...[]byte) []byte {
	b := make([]byte, 40)
	b[0] = 0x60
	copy(b[8:], testSource6.Addr().AsSlice())
	copy(b[24:], testTarget6.Addr().AsSlice())
	next := 6
	for _, e := range extensions {
		b[next] = e[0]
		next = len(b)
		b = append(b, e[1:]...)
	}
	b[next] = protocolTCP
	return appendPorts(b)
}

// extension is a header of 8 octets; the kind comes first, where packet6
// expects it, and then the header's own first octet.
func extension(kind byte, rest ...byte) []byte {
	e := make([]byte, 9)
	e[0] = kind
	copy(e[2:], rest)
	return e
}

func appendPorts(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, 40000)
	return binary.BigEndian.AppendUint16(b, 25)
}

func TestParsePacket(t *testing.T) {
	edit := func(b []byte, at int, value byte) []byte { b[at] = value; return b }
	tests := []struct {
		name   string
		packet []byte
		err    error
	}{
		{"v4", packet4(0), nil},
		{"v4 with options", packet4(10), nil},
		{"v4 with more behind", append(packet4(0), 1, 2, 3), nil},
		{"v6", packet6(), nil},
		{"v6 hop by hop, fragment, destination", packet6(extension(headerHopByHop), extension(headerFragment), extension(headerDestination)), nil},
		{"v6 authentication", packet6(extension(headerAuth)), nil},
		{"v6 as many headers as are followed", packet6(slices.Repeat([][]byte{extension(headerDestination)}, maxExtensionHeaders)...), nil},

		{"empty", nil, errPacketShort},
		{"v4 one octet", packet4(0)[:1], errPacketShort},
		{"v4 no ports", packet4(0)[:23], errPacketShort},
		{"v4 cut in options", packet4(2)[:24], errPacketShort},
		{"v4 header length below the least", edit(packet4(0), 0, 0x44), errPacketHeader},
		{"v4 total length below the header", edit(edit(packet4(0), 2, 0), 3, 19), errPacketHeader},
		{"v4 later fragment", edit(packet4(0), 7, 1), errPacketFragment},
		{"v4 udp", edit(packet4(0), 9, 17), errPacketProtocol},
		{"v6 cut", packet6()[:39], errPacketShort},
		{"v6 no ports", packet6()[:43], errPacketShort},
		{"v6 udp", edit(packet6(), 6, 17), errPacketProtocol},
		{"v6 encrypted", edit(packet6(), 6, 50), errPacketProtocol},
		{"v6 later fragment", packet6(extension(headerFragment, 0, 8)), errPacketFragment},
		{"v6 extension longer than the packet", packet6(extension(headerRouting, 200)), errPacketShort},
		{"v6 too many headers", packet6(slices.Repeat([][]byte{extension(headerDestination)}, maxExtensionHeaders+1)...), errPacketHeader},
		{"version 5", edit(packet4(0), 0, 0x55), errPacketVersion},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, dst, err := parsePacket(tt.packet)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			wantSrc, wantDst := testSource4, testTarget4
			if dst.Addr().Is6() {
				wantSrc, wantDst = testSource6, testTarget6
			}
			if src != wantSrc || dst != wantDst {
				t.Errorf("got %v to %v, want %v to %v", src, dst, wantSrc, wantDst)
			}
		})
	}
}

func FuzzParsePacket(f *testing.F) {
	f.Add(packet4(0))
	f.Add(packet4(3))
	f.Add(packet6())
	f.Add(packet6(extension(headerHopByHop), extension(headerFragment)))
	f.Add(packet6(extension(headerAuth, 4)))
	f.Fuzz(func(t *testing.T, packet []byte) {
		before := slices.Clone(packet)
		src, dst, err := parsePacket(packet)
		if !slices.Equal(before, packet) {
			t.Fatal("the packet was changed")
		}
		if err != nil {
			if src.IsValid() || dst.IsValid() {
				t.Errorf("error %v with %v to %v", err, src, dst)
			}
			return
		}
		if v6 := packet[0]>>4 == 6; src.Addr().Is6() != v6 || dst.Addr().Is6() != v6 {
			t.Errorf("%v to %v from a packet of version %d", src, dst, packet[0]>>4)
		}
	})
}

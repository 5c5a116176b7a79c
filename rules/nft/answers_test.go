package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/smtpwall/smtpwall/rules"
)

var testMessage = []byte("twelve or more octets, whatever they say")

// answer4 is a whole IPv4 packet with options of so many words, from port 53.
func answer4(options int, message []byte) []byte {
	b := packet4(options)
	b = appendUDP(b[:len(b)-4], message)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[9] = protocolUDP
	return b
}

// answer6 is a whole IPv6 packet with extension headers, from port 53.
func answer6(message []byte, extensions ...[]byte) []byte {
	b := packet6(extensions...)
	b = appendUDP(b[:len(b)-4], message)
	at := 6
	if len(extensions) > 0 {
		at = 40 + 8*(len(extensions)-1)
	}
	b[at] = protocolUDP
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

func appendUDP(b, message []byte) []byte {
	for _, n := range []int{53, 40000, 8 + len(message), 0} {
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	}
	return append(b, message...)
}

func TestParseAnswer(t *testing.T) {
	edit := func(b []byte, at int, value byte) []byte { b[at] = value; return b }
	for _, c := range []struct {
		name   string
		packet []byte
		err    error
	}{
		{"v4", answer4(0, testMessage), nil},
		{"v4 with options", answer4(10, testMessage), nil},
		{"v4 with padding behind", append(answer4(0, testMessage), 0, 0, 0), nil},
		{"v6", answer6(testMessage), nil},
		{"v6 with options", answer6(testMessage, extension(headerHopByHop), extension(headerDestination)), nil},
		{"v6 whole in a fragment", answer6(testMessage, extension(headerFragment)), nil},
		{"v6 with padding behind", append(answer6(testMessage), 0, 0, 0), nil},

		{"nothing", nil, errPacketShort},
		{"tcp", packet4(0), errPacketProtocol},
		{"v6 tcp", packet6(), errPacketProtocol},
		{"v4 cut in the header", answer4(0, nil)[:27], errPacketShort},
		{"v4 cut off", answer4(0, testMessage)[:40], errPacketShort},
		{"v6 cut off", answer6(testMessage)[:60], errPacketShort},
		{"v4 no message", answer4(0, nil), errPacketHeader},
		{"v4 length below its header's", edit(answer4(0, testMessage), 25, 7), errPacketHeader},
		{"v4 longer than the packet", edit(append(answer4(0, testMessage), 1, 2, 3), 25, byte(8+len(testMessage)+3)), errPacketShort},
		{"v6 longer than the packet", edit(append(answer6(testMessage), 1, 2, 3), 45, byte(8+len(testMessage)+3)), errPacketShort},
		{"v4 from another port", edit(answer4(0, testMessage), 21, 54), errPacketProtocol},
		{"v4 to port 53", swapPorts(answer4(0, testMessage)), errPacketProtocol},
		{"v4 later fragment", edit(answer4(0, testMessage), 7, 1), errPacketFragment},
		{"v6 later fragment", answer6(testMessage, extension(headerFragment, 0, 8)), errPacketFragment},
		{"v4 first fragment", answer4(0, testMessage)[:44], errPacketShort},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseAnswer(c.packet)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && !bytes.Equal(got, testMessage) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func swapPorts(b []byte) []byte {
	b[20], b[21], b[22], b[23] = b[22], b[23], b[20], b[21]
	return b
}

// TestAnswersFit: the longest packet that is copied whole holds nearly the 4096
// octets that RFC 6891 section 6.2.5 has for a good maximum.
func TestAnswersFit(t *testing.T) {
	for _, make := range []func([]byte) []byte{
		func(m []byte) []byte { return answer4(0, m) },
		func(m []byte) []byte { return answer6(m) },
	} {
		longest := slices.Repeat([]byte{0xff}, rules.AnswerSnap-48)
		if got, err := parseAnswer(make(longest)); err != nil || len(got) != len(longest) {
			t.Errorf("%d octets, %v", len(got), err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(answer4(0, testMessage))
	f.Add(answer4(3, testMessage))
	f.Add(answer6(testMessage))
	f.Add(answer6(testMessage, extension(headerHopByHop), extension(headerFragment)))
	f.Fuzz(func(t *testing.T, packet []byte) {
		before := slices.Clone(packet)
		message, err := parseAnswer(packet)
		if !slices.Equal(before, packet) {
			t.Fatal("the packet was changed")
		}
		if (err == nil) != (len(message) > 0) {
			t.Fatalf("%d octets and the error %v", len(message), err)
		}
		if err == nil && (len(message) > len(packet)-28 || !bytes.Contains(packet, message)) {
			t.Errorf("%d octets out of %d", len(message), len(packet))
		}
	})
}

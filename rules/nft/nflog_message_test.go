package nft

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
)

type nflogAttr struct {
	kind  uint16
	value []byte
}

func nflogBody(t testing.TB, attrs ...nflogAttr) []byte {
	t.Helper()
	ae := netlink.NewAttributeEncoder()
	for _, a := range attrs {
		ae.Bytes(a.kind, a.value)
	}
	b, err := ae.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{2, 0, 0, 100}, b...)
}

func attemptBE32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func TestParseNflogPacket(t *testing.T) {
	body := nflogBody(t,
		nflogAttr{nflogAttrPacketHeader, []byte{8, 0, hookForward, 0}},
		nflogAttr{nflogAttrInDevice, attemptBE32(7)},
		nflogAttr{nflogAttrUID, attemptBE32(1234)},
		nflogAttr{nflogAttrSequence, attemptBE32(99)},
		nflogAttr{nflogAttrPrefix, []byte("smtpwall \x00")},
		nflogAttr{250, []byte("of a later kernel")},
		nflogAttr{nflogAttrPayload, packet4(0)},
	)
	p, err := parseNflogPacket(body)
	if err != nil {
		t.Fatal(err)
	}
	a, err := attemptOf(p)
	if err != nil {
		t.Fatal(err)
	}
	want := Attempt{UID: 1234, HasUID: true, Source: testSource4, Destination: testTarget4, Forwarded: true, Prefix: "smtpwall "}
	if a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	if p.sequence != 99 || !p.hasSequence || p.inIndex != 7 {
		t.Errorf("sequence %d (%v), interface %d", p.sequence, p.hasSequence, p.inIndex)
	}
}

func TestParseNflogPacketUnknownUIDIsNotRoot(t *testing.T) {
	p, err := parseNflogPacket(nflogBody(t, nflogAttr{nflogAttrPayload, packet6()}))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := attemptOf(p); err != nil || a.HasUID {
		t.Errorf("got %+v, %v; want no uid", a, err)
	}
}

func TestParseNflogPacketErrors(t *testing.T) {
	payload := nflogAttr{nflogAttrPayload, packet4(0)}
	tests := []struct {
		name string
		body []byte
		want error
	}{
		{"empty", nil, errNflogShort},
		{"no packet", nflogBody(t), errNflogNoPacket},
		{"uid of two octets", nflogBody(t, payload, nflogAttr{nflogAttrUID, []byte{0, 1}}), errNflogAttribute},
		{"header of three octets", nflogBody(t, payload, nflogAttr{nflogAttrPacketHeader, []byte{8, 0, 3}}), errNflogAttribute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseNflogPacket(tt.body); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestNflogReaderCountsGaps(t *testing.T) {
	var r nflogReader
	for _, seq := range []uint32{1<<32 - 2, 1<<32 - 1, 0, 1, 5, 6, 8} {
		r.count(nflogPacket{sequence: seq, hasSequence: true})
	}
	if got := r.lost.Load(); got != 4 {
		t.Errorf("lost %d, want 4", got)
	}
}

func FuzzParseNflogPacket(f *testing.F) {
	f.Add(nflogBody(f, nflogAttr{nflogAttrPayload, packet4(0)}, nflogAttr{nflogAttrUID, attemptBE32(0)}))
	f.Add(nflogBody(f, nflogAttr{nflogAttrPrefix, []byte("x")}))
	f.Add([]byte{2, 0, 0, 100, 3, 0, 1, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parseNflogPacket(body)
		if err == nil && p.payload == nil {
			t.Error("neither a packet nor an error")
		}
		if err == nil {
			attemptOf(p)
		}
	})
}

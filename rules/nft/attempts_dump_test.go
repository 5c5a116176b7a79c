package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// attemptElement is an element of a recording set as the kernel dumps it.
func attemptElement(t testing.TB, key []byte, packets uint64) []byte {
	t.Helper()
	ae := netlink.NewAttributeEncoder()
	ae.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(list *netlink.AttributeEncoder) error {
		list.Nested(1, func(e *netlink.AttributeEncoder) error {
			e.Nested(unix.NFTA_SET_ELEM_KEY, func(k *netlink.AttributeEncoder) error {
				k.Bytes(unix.NFTA_DATA_VALUE, key)
				return nil
			})
			e.Nested(unix.NFTA_SET_ELEM_EXPR, func(x *netlink.AttributeEncoder) error {
				x.String(unix.NFTA_EXPR_NAME, "counter")
				x.Nested(unix.NFTA_EXPR_DATA, func(c *netlink.AttributeEncoder) error {
					c.ByteOrder = binary.BigEndian
					c.Uint64(unix.NFTA_COUNTER_BYTES, 60*packets)
					c.Uint64(unix.NFTA_COUNTER_PACKETS, packets)
					return nil
				})
				return nil
			})
			return nil
		})
		return nil
	})
	b, err := ae.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func attemptKey(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case uint32:
			b = binary.NativeEndian.AppendUint32(b, p)
		case uint64:
			b = binary.NativeEndian.AppendUint64(b, p)
		case string:
			b = append(b, netip.MustParseAddr(p).AsSlice()...)
		case uint16:
			b = append(binary.BigEndian.AppendUint16(b, p), 0, 0)
		}
	}
	return b
}

func TestCountOf(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("203.0.113.25:25"), netip.MustParseAddrPort("[2001:db8:25::1]:587")
	tests := []struct {
		set  string
		key  []byte
		want Count
	}{
		{rules.SetAttempt4, attemptKey(uint32(1234), uint64(1)<<40, "203.0.113.25", uint16(25)),
			Count{UID: 1234, CGroup: 1 << 40, Destination: v4}},
		{rules.SetAttempt6, attemptKey(uint32(0), uint64(7), "2001:db8:25::1", uint16(587)),
			Count{CGroup: 7, Destination: v6}},
		{rules.SetForward4, attemptKey("192.0.2.2", "203.0.113.25", uint16(25)),
			Count{Forwarded: true, Source: netip.MustParseAddr("192.0.2.2"), Destination: v4}},
		{rules.SetForward6, attemptKey("2001:db8:c::2", "2001:db8:25::1", uint16(587)),
			Count{Forwarded: true, Source: netip.MustParseAddr("2001:db8:c::2"), Destination: v6}},
	}
	for _, tt := range tests {
		t.Run(tt.set, func(t *testing.T) {
			var got []Count
			eachElement(attemptElement(t, tt.key, 9), func(key elementKey, packets uint64) {
				c := countOf(tt.set, key)
				c.Packets = packets
				got = append(got, c)
			})
			tt.want.Packets = 9
			if !slices.Equal(got, []Count{tt.want}) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func FuzzEachElement(f *testing.F) {
	f.Add(attemptElement(f, attemptKey(uint32(1), uint64(2), "203.0.113.25", uint16(25)), 3))
	f.Add(attemptElement(f, make([]byte, 200), 3))
	f.Add([]byte{8, 0, 3, 0, 4, 0, 1, 0})
	f.Fuzz(func(t *testing.T, message []byte) {
		eachElement(message, func(key elementKey, _ uint64) {
			for _, set := range []string{rules.SetAttempt4, rules.SetAttempt6, rules.SetForward4, rules.SetForward6} {
				countOf(set, key)
			}
		})
	})
}

// reading is a counter and what a dump of the first set gives after it.
type reading struct {
	counter  uint64
	elements []uint64 // the counts of the elements 0, 1, …; 0 is absent
	grown    uint64   // what is returned for elements
	other    uint64
}

func TestDirection(t *testing.T) {
	tests := []struct {
		name     string
		readings []reading
	}{
		{"deltas", []reading{{5, []uint64{2, 3}, 5, 0}, {9, []uint64{2, 7}, 4, 0}}},
		{"an element that expired and came again", []reading{{5, []uint64{5}, 5, 0}, {7, []uint64{2}, 2, 0}}},
		{"an element that a dump missed", []reading{{5, []uint64{2, 3}, 5, 0}, {6, []uint64{3}, 1, 0}, {7, []uint64{3, 4}, 1, 0}}},
		{"elements that are new before the counter is", []reading{{3, []uint64{4}, 4, 0}, {4, []uint64{4}, 0, 0}}},
		{"a full set", []reading{{10, []uint64{4}, 4, 0}, {10, []uint64{4}, 0, 6}, {10, []uint64{4}, 0, 0}, {13, []uint64{5}, 1, 0}, {13, []uint64{5}, 0, 2}}},
		{"a new element that the first dump missed is not taken for overflow",
			[]reading{{10, []uint64{4}, 4, 0}, {10, []uint64{4, 6}, 6, 0}, {11, []uint64{4, 7}, 1, 0}}},
		{"a counter that somebody reset", []reading{{5, []uint64{5}, 5, 0}, {2, []uint64{7}, 2, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := direction{seen: [2]seenSet{{}, {}}}
			for i, r := range tt.readings {
				d.round++
				var grown uint64
				for n, packets := range r.elements {
					if packets > 0 {
						grown += d.element(d.seen[0], elementKey{byte(n)}, packets)
					}
				}
				d.forget(d.seen[0])
				if other := d.excess(r.counter); grown != r.grown || other != r.other {
					t.Errorf("reading %d: %d and %d others, want %d and %d", i, grown, other, r.grown, r.other)
				}
			}
		})
	}
}

func TestDirectionTakesADoubleElementOnce(t *testing.T) {
	d := direction{seen: [2]seenSet{{}, {}}, round: 1}
	sum := d.element(d.seen[0], elementKey{}, 5) + d.element(d.seen[0], elementKey{}, 3) + d.element(d.seen[0], elementKey{}, 6)
	if sum != 6 {
		t.Errorf("counted %d, want 6", sum)
	}
}

func TestDirectionForgetsWhatIsGone(t *testing.T) {
	d := direction{seen: [2]seenSet{{}, {}}}
	for d.round = 1; d.round < 10; d.round++ {
		d.element(d.seen[0], elementKey{byte(d.round)}, 1)
		d.forget(d.seen[0])
	}
	if n := len(d.seen[0]); n > keepRounds {
		t.Errorf("%d elements are remembered", n)
	}
}

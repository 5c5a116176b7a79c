package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

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
			e.Bytes(unix.NFTA_SET_ELEM_EXPIRATION, binary.BigEndian.AppendUint64(nil, 299_990))
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

// link is the name of an interface.
type link string

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
		case link:
			b = append(b, make([]byte, unix.IFNAMSIZ)...)
			copy(b[len(b)-unix.IFNAMSIZ:], p)
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
		{rules.SetForward4, attemptKey(link("br0"), "192.0.2.2", "203.0.113.25", uint16(25)),
			Count{Forwarded: true, InInterface: "br0", Source: netip.MustParseAddr("192.0.2.2"), Destination: v4}},
		{rules.SetForward6, attemptKey(link("fifteen-letters"), "2001:db8:c::2", "2001:db8:25::1", uint16(587)),
			Count{Forwarded: true, InInterface: "fifteen-letters", Source: netip.MustParseAddr("2001:db8:c::2"), Destination: v6}},
		{rules.SetAttemptOwner, attemptKey(uint32(1234), uint64(1)<<40), Count{UID: 1234, CGroup: 1 << 40}},
		{rules.SetAttemptUser, attemptKey(uint32(1234)), Count{UID: 1234}},
		{rules.SetForwardIn, attemptKey(link("br0")), Count{Forwarded: true, InInterface: "br0"}},
	}
	for _, tt := range tests {
		t.Run(tt.set, func(t *testing.T) {
			var got []Count
			eachElement(attemptElement(t, tt.key, 9), func(e element) {
				c := countOf(tt.set, e.key)
				c.Packets = e.packets
				got = append(got, c)
				if e.expires != 299_990*time.Millisecond {
					t.Errorf("expires in %s", e.expires)
				}
			})
			tt.want.Packets = 9
			if !slices.Equal(got, []Count{tt.want}) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func newTestCounters() *AttemptCounters {
	c := &AttemptCounters{}
	c.reset()
	return c
}

func FuzzEachElement(f *testing.F) {
	f.Add(attemptElement(f, attemptKey(uint32(1), uint64(2), "203.0.113.25", uint16(25)), 3))
	f.Add(attemptElement(f, make([]byte, 200), 3))
	f.Add([]byte{8, 0, 3, 0, 4, 0, 1, 0})
	f.Fuzz(func(t *testing.T, message []byte) {
		eachElement(message, func(e element) {
			for _, set := range append(newTestCounters().out.sets, newTestCounters().fwd.sets...) {
				countOf(set, e.key)
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
			d := newDirection("first", "second")
			for i, r := range tt.readings {
				d.begin()
				var grown uint64
				for n, packets := range r.elements {
					if packets > 0 {
						grown += d.element(d.seen[0], element{key: elementKey{byte(n)}, packets: packets})
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
	d := newDirection("first")
	d.begin()
	sum := uint64(0)
	for _, packets := range []uint64{5, 3, 6} {
		sum += d.element(d.seen[0], element{packets: packets})
	}
	if sum != 6 {
		t.Errorf("counted %d, want 6", sum)
	}
}

func TestDirectionForgetsWhatIsGone(t *testing.T) {
	d := newDirection("first", "second")
	for range 10 {
		d.begin()
		d.element(d.seen[0], element{key: elementKey{byte(d.round)}, packets: 1})
		d.forget(d.seen[0])
	}
	if n := len(d.seen[0]); n > keepRounds {
		t.Errorf("%d elements are remembered", n)
	}
}

// TestDirectionKnowsWhatExpired: an element that is there again after its time
// counts from zero, and is not what it was although it has the same count.
func TestDirectionKnowsWhatExpired(t *testing.T) {
	for _, c := range []struct {
		name        string
		quiet, busy time.Duration // without any attempt, then not looked at
		grown       uint64
	}{
		{"it expired in a calm time", 6 * time.Minute, time.Second, 3},
		{"it was renewed in time", 4 * time.Minute, time.Second, 0},
		{"it may have been renewed while nobody looked", 4 * time.Minute, 2 * time.Minute, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDirection("first")
				e := element{packets: 3, expires: 5 * time.Minute}
				read := func(counter uint64) (grown uint64) {
					if d.changed(time.Now(), counter) {
						d.begin()
						grown = d.element(d.seen[0], e)
						d.excess(counter)
					}
					return grown
				}
				read(3)
				for range c.quiet / time.Second {
					time.Sleep(time.Second)
					read(3)
				}
				time.Sleep(c.busy)
				if grown := read(6); grown != c.grown {
					t.Errorf("grown by %d, want %d", grown, c.grown)
				}
			})
		})
	}
}

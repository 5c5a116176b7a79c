package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"

	"github.com/smtpwall/smtpwall/rules"
)

func testRulesets(t *testing.T) []rules.Ruleset {
	t.Helper()
	o := rules.Options{
		Mode:     rules.Enforce,
		ProxyUID: 990,
		Redirect: map[uint16]uint16{465: 465, 587: 587, 2525: 12525},
		Inside:   []netip.Prefix{netip.MustParsePrefix("10.1.16.0/20"), netip.MustParsePrefix("2001:db8:c::/64")},

		DNSAnswers: true,
	}
	plain, err := rules.New(o)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := rules.NewLock(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Mode = rules.Observe
	observe, err := rules.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return []rules.Ruleset{plain, lock, observe}
}

// TestFingerprintsDiffer: two rules with one fingerprint could be exchanged
// without anybody noticing.
func TestFingerprintsDiffer(t *testing.T) {
	texts := make(map[string]string)
	for _, r := range testRulesets(t) {
		for _, c := range r.Chains {
			for _, rule := range c.Rules {
				print := fingerprintOf(rule)
				if other, ok := texts[print]; ok && other != rule.String() {
					t.Errorf("%q and %q have the same fingerprint", other, rule)
				}
				texts[print] = rule.String()
			}
		}
	}
}

func TestFingerprintSeesEveryChange(t *testing.T) {
	base := rules.Rule{rules.Is{Field: rules.SKUID, Value: 990}, rules.Verdict{Action: rules.Accept}}
	for _, other := range []rules.Rule{
		{rules.Is{Field: rules.SKUID, Value: 991}, rules.Verdict{Action: rules.Accept}},
		{rules.Is{Field: rules.SKUID, Value: 0}, rules.Verdict{Action: rules.Accept}},
		{rules.Is{Field: rules.SKUID, Value: 990, Not: true}, rules.Verdict{Action: rules.Accept}},
		{rules.Is{Field: rules.SKUID, Value: 990}, rules.Verdict{Action: rules.Return}},
		{rules.Is{Field: rules.OIF, Value: 990}, rules.Verdict{Action: rules.Accept}},
		{rules.Is{Field: rules.SKUID, Value: 990}, rules.Verdict{Action: rules.Jump, Chain: "x"}},
		{rules.Verdict{Action: rules.Accept}},
	} {
		if fingerprintOf(base) == fingerprintOf(other) {
			t.Errorf("%q passes for %q", other, base)
		}
	}
}

// TestFingerprintTakesDefaults: the kernel lists attributes that we do not send.
func TestFingerprintTakesDefaults(t *testing.T) {
	sent, err := expr.Marshal(familyInet, &expr.Lookup{SourceRegister: register(0), SetName: "mail"})
	if err != nil {
		t.Fatal(err)
	}
	listed := marshal(t,
		netlink.Attribute{Type: 1, Data: []byte("lookup\x00")},
		netlink.Attribute{Type: 2, Data: marshal(t,
			netlink.Attribute{Type: 1, Data: []byte("mail\x00")},
			netlink.Attribute{Type: 2, Data: binary.BigEndian.AppendUint32(nil, register(0))},
			netlink.Attribute{Type: 5, Data: make([]byte, 4)}, // flags
		)},
	)
	if a, b := fingerprint([][]byte{sent}), fingerprint([][]byte{listed}); a != b {
		t.Errorf("sent %s, listed %s", a, b)
	}
	if inverted := slices.Clone(listed); true {
		inverted[len(inverted)-1] = 1
		if fingerprint([][]byte{sent}) == fingerprint([][]byte{inverted}) {
			t.Error("an inverted look-up passes for a plain one")
		}
	}
}

func marshal(t *testing.T, attrs ...netlink.Attribute) []byte {
	t.Helper()
	b, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeyTypeAndBack(t *testing.T) {
	for _, r := range testRulesets(t) {
		for _, s := range r.Sets {
			kind := keyType(s.Key)
			back := rules.Set{Key: keyOf(kind.GetNFTMagic()), Dynamic: s.Dynamic, Counter: s.Counter, Timeout: s.Timeout, Size: s.Size}
			if !back.SameShape(s) {
				t.Errorf("set %s comes back with key %v, was %v", s.Name, back.Key, s.Key)
			}
		}
	}
	if key := keyOf(0x3f); key != nil {
		t.Errorf("an unknown type came out as %v", key)
	}
}

func TestElementAndBack(t *testing.T) {
	ports, pairs := []rules.Field{rules.TCPDPort}, []rules.Field{rules.IP4Dst, rules.TCPDPort}
	users, groups := []rules.Field{rules.SKUID}, []rules.Field{rules.CGroup0}
	for _, c := range []struct {
		key     []rules.Field
		element rules.Element
	}{
		{ports, rules.Element{Port: 25}},
		{pairs, rules.Element{Addr: netip.MustParseAddr("198.51.100.7"), Port: 587}},
		{[]rules.Field{rules.IP6Dst, rules.TCPDPort}, rules.Element{Addr: netip.MustParseAddr("2001:db8::7"), Port: 10025}},
		{users, rules.Element{ID: 33}},
		{users, rules.Element{ID: 1<<32 - 2}},
		{groups, rules.Element{ID: 1<<40 + 7}},
	} {
		if got := decodeElement(c.key, encodeElement(c.key, c.element)); got != c.element {
			t.Errorf("%s came back as %s", c.element, got)
		}
	}
	for _, key := range [][]rules.Field{ports, pairs, users, groups} {
		for _, b := range [][]byte{nil, {0}, make([]byte, 3), make([]byte, 16)} {
			if got := decodeElement(key, b); got != (rules.Element{}) {
				t.Errorf("%d bytes came out as %s", len(b), got)
			}
		}
	}
}

func TestPrefixMask(t *testing.T) {
	for _, c := range []struct {
		bits int
		want []byte
	}{
		{0, []byte{0, 0, 0, 0}}, {1, []byte{0x80, 0, 0, 0}}, {8, []byte{0xff, 0, 0, 0}},
		{20, []byte{0xff, 0xff, 0xf0, 0}}, {31, []byte{0xff, 0xff, 0xff, 0xfe}}, {32, []byte{0xff, 0xff, 0xff, 0xff}},
	} {
		if got := prefixMask(c.bits, 4); !slices.Equal(got, c.want) {
			t.Errorf("mask of %d bits is %x, want %x", c.bits, got, c.want)
		}
	}
}

func TestRegistersAreNamedAsTheKernelDoes(t *testing.T) {
	for offset, want := range map[int]uint32{0: 1, 4: 9, 12: 11, 16: 2, 20: 13, 32: 3} {
		if got := register(offset); got != want {
			t.Errorf("offset %d is register %d, want %d", offset, got, want)
		}
	}
}

func TestGenerationsWrapAround(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		want bool
	}{{5, 5, true}, {6, 5, true}, {4, 5, false}, {1, 0xffffffff, true}, {0xffffffff, 1, false}} {
		if got := reached(c.a, c.b); got != c.want {
			t.Errorf("generation %d reached %d: %t", c.a, c.b, got)
		}
	}
}

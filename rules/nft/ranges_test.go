package nft

import (
	"slices"
	"testing"

	"github.com/smtpwall/smtpwall/rules"
)

func TestRangesAndBack(t *testing.T) {
	want := []rules.Element{{ID: 1, Last: 1}, {ID: 100000, Last: 165535}, {ID: 165536, Last: 165540}, {ID: 4000000000, Last: 1<<32 - 2}}
	var bounds []bound
	for _, e := range want {
		for _, part := range encodeRange(e) {
			bounds = append(bounds, bound{part.Key, part.IntervalEnd})
		}
	}
	slices.Reverse(bounds) // as the kernel lists them
	if got := decodeRanges(bounds); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWhatIsNoRange(t *testing.T) {
	one, two, three := []byte{0, 0, 0, 1}, []byte{0, 0, 0, 2}, []byte{0, 0, 0, 3}
	for name, bounds := range map[string][]bound{
		"an end alone":     {{one, true}},
		"a start alone":    {{one, false}},
		"two starts":       {{one, false}, {two, false}, {three, true}},
		"two ends":         {{one, false}, {two, true}, {three, true}},
		"another kind":     {{[]byte{1}, false}, {two, true}},
		"a key of nothing": {{nil, false}, {two, true}},
	} {
		if got := decodeRanges(bounds); !slices.Contains(got, rules.Element{}) {
			t.Errorf("%s comes out as %v", name, got)
		}
	}
	if got := decodeRanges(nil); len(got) != 0 {
		t.Errorf("nothing comes out as %v", got)
	}
}

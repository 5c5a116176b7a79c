package nft

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables"

	"github.com/smtpwall/smtpwall/rules"
)

// bound is an element of a set of ranges, as the kernel has it: the first number
// of a range, or the first one after it. Both are in the order of the network.
type bound struct {
	key []byte
	end bool
}

func encodeRange(e rules.Element) []nftables.SetElement {
	return []nftables.SetElement{
		{Key: binary.BigEndian.AppendUint32(nil, uint32(e.ID))},
		{Key: binary.BigEndian.AppendUint32(nil, uint32(e.Last+1)), IntervalEnd: true},
	}
}

// decodeRanges is the reverse, of the bounds of a whole set. What makes no range
// becomes the zero Element, which nobody wants.
func decodeRanges(bounds []bound) []rules.Element {
	slices.SortFunc(bounds, func(a, b bound) int {
		if c := bytes.Compare(a.key, b.key); c != 0 || a.end == b.end {
			return c
		}
		if a.end { // one that ends where the next begins
			return -1
		}
		return 1
	})
	var out []rules.Element
	open := false
	for _, b := range bounds {
		if len(b.key) != 4 || b.end != open {
			return append(out, rules.Element{})
		}
		n := uint64(binary.BigEndian.Uint32(b.key))
		if open = !open; open {
			out = append(out, rules.Element{ID: n})
		} else {
			out[len(out)-1].Last = n - 1
		}
	}
	if open { // without an end
		out[len(out)-1] = rules.Element{}
	}
	return out
}

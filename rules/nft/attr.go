package nft

import (
	"encoding/binary"
	"strings"

	"github.com/mdlayher/netlink"
)

// attrs are the attributes of a message or of a nested attribute by number.
// Reading one that is absent or too short gives the zero value.
type attrs map[uint16][]byte

// readAttrs reads what it can: the kernel does not send malformed attributes.
func readAttrs(b []byte) attrs {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return nil
	}
	out := make(attrs, len(list))
	for _, a := range list {
		out[a.Type&attrTypeMask] = a.Data
	}
	return out
}

// messageAttrs reads the attributes of an nftables message.
func messageAttrs(m netlink.Message) attrs {
	if len(m.Data) < nfgenLength {
		return nil
	}
	return readAttrs(m.Data[nfgenLength:])
}

// attrTypeMask leaves out the flags "nested" and "network byte order".
const attrTypeMask = 0x3fff

func (a attrs) has(kind uint16) bool        { _, ok := a[kind]; return ok }
func (a attrs) text(kind uint16) string     { return text(a[kind]) }
func (a attrs) nested(kind uint16) attrs    { return readAttrs(a[kind]) }
func (a attrs) number(kind uint16) uint32   { return uint32(number(a[kind], 4)) }
func (a attrs) number64(kind uint16) uint64 { return number(a[kind], 8) }

func text(b []byte) string { return strings.TrimRight(string(b), "\x00") }

func number(b []byte, size int) uint64 {
	switch {
	case len(b) != size:
		return 0
	case size == 4:
		return uint64(binary.BigEndian.Uint32(b))
	}
	return binary.BigEndian.Uint64(b)
}

// elements returns the items of a nested list, in their order.
func elements(b []byte) [][]byte {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return nil
	}
	out := make([][]byte, len(list))
	for i, a := range list {
		out[i] = a.Data
	}
	return out
}

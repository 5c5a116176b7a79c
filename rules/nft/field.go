package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// field says how a rules.Field is loaded and stored.
type field struct {
	size      int
	kind      nftables.SetDatatype // of a set's key; zero if it is never part of one
	load      func(register uint32) expr.Any
	v4, v6    bool // what must be known of the packet first
	transport byte // and of what protocol it must be; 0 is any
}

// fieldOf returns what there is to know about a field. An unknown field is a
// mistake in package rules.
func fieldOf(f rules.Field) field {
	switch f {
	case rules.L4Proto:
		return metaField(expr.MetaKeyL4PROTO, 1, nftables.SetDatatype{})
	case rules.IIF:
		return metaField(expr.MetaKeyIIF, 4, nftables.SetDatatype{})
	case rules.OIF:
		return metaField(expr.MetaKeyOIF, 4, nftables.SetDatatype{})
	case rules.IIFName:
		return metaField(expr.MetaKeyIIFNAME, unix.IFNAMSIZ, nftables.TypeIFName)
	case rules.SKUID:
		return metaField(expr.MetaKeySKUID, 4, nftables.TypeUID)
	case rules.SKGID:
		return metaField(expr.MetaKeySKGID, 4, nftables.SetDatatype{})
	case rules.TCPSPort:
		return transportField(unix.IPPROTO_TCP, 0, 2)
	case rules.TCPDPort:
		return transportField(unix.IPPROTO_TCP, 2, 2)
	case rules.TCPFlags:
		return transportField(unix.IPPROTO_TCP, 13, 1)
	case rules.UDPSPort:
		return transportField(unix.IPPROTO_UDP, 0, 2)
	case rules.IP4Src:
		return addrField(12, 4)
	case rules.IP4Dst:
		return addrField(16, 4)
	case rules.IP6Src:
		return addrField(8, 16)
	case rules.IP6Dst:
		return addrField(24, 16)
	case rules.NextHop4:
		return routeField(expr.RtNexthop4, 4)
	case rules.NextHop6:
		return routeField(expr.RtNexthop6, 16)
	}
	return cgroupField(f)
}

func metaField(key expr.MetaKey, size int, kind nftables.SetDatatype) field {
	return field{size: size, kind: kind, load: func(r uint32) expr.Any {
		return &expr.Meta{Key: key, Register: r}
	}}
}

func transportField(protocol byte, offset, size uint32) field {
	return field{size: int(size), kind: nftables.TypeInetService, transport: protocol, load: func(r uint32) expr.Any {
		return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}
	}}
}

func addrField(offset, size uint32) field {
	f := field{size: int(size), kind: nftables.TypeIPAddr, v4: size == 4, v6: size == 16}
	if f.v6 {
		f.kind = nftables.TypeIP6Addr
	}
	f.load = func(r uint32) expr.Any {
		return &expr.Payload{DestRegister: r, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
	}
	return f
}

func routeField(key expr.RtKey, size int) field {
	return field{size: size, load: func(r uint32) expr.Any { return &expr.Rt{Key: key, Register: r} }}
}

func cgroupField(f rules.Field) field {
	var level uint32
	if n, err := fmt.Sscanf(string(f), "socket cgroupv2 level %d", &level); n != 1 || err != nil {
		panic("nft: unknown field " + string(f))
	}
	return field{size: 8, kind: nftables.TypeCGroupV2, load: func(r uint32) expr.Any {
		return &expr.Socket{Key: expr.SocketKeyCgroupv2, Level: level, Register: r}
	}}
}

// keyType returns the type of a set with that key.
func keyType(key []rules.Field) nftables.SetDatatype {
	kinds := make([]nftables.SetDatatype, len(key))
	for i, f := range key {
		kinds[i] = fieldOf(f).kind
	}
	if len(kinds) == 1 {
		return kinds[0]
	}
	return nftables.MustConcatSetType(kinds...)
}

// keyOf returns the fields that a set's key type stands for; nil if it is none
// of ours. Of fields with the same type it takes one.
func keyOf(magic uint32) []rules.Field {
	var key []rules.Field
	for ; magic != 0; magic >>= nftables.SetConcatTypeBits {
		f, ok := fieldOfKind(magic & nftables.SetConcatTypeMask)
		if !ok {
			return nil
		}
		key = append([]rules.Field{f}, key...)
	}
	return key
}

func fieldOfKind(magic uint32) (rules.Field, bool) {
	for _, f := range []rules.Field{rules.SKUID, rules.CGroup0, rules.IIFName, rules.IP4Dst, rules.IP6Dst, rules.TCPDPort} {
		kind := fieldOf(f).kind
		if kind.GetNFTMagic() == magic {
			return f, true
		}
	}
	return "", false
}

// isID tells of keys that are one number in the order of the host: of a user, or
// of a control group.
func isID(key []rules.Field) bool {
	return len(key) == 1 && (key[0] == rules.SKUID || key[0] == rules.CGroup0)
}

// encodeElement returns an element of a set with this key: each part padded to
// four bytes in a concatenation.
func encodeElement(key []rules.Field, e rules.Element) []byte {
	if isID(key) {
		b := make([]byte, fieldOf(key[0]).size)
		if len(b) == 4 {
			binary.NativeEndian.PutUint32(b, uint32(e.ID))
		} else {
			binary.NativeEndian.PutUint64(b, e.ID)
		}
		return b
	}
	port := binary.BigEndian.AppendUint16(nil, e.Port)
	if !e.Addr.IsValid() {
		return port
	}
	return append(append(e.Addr.AsSlice(), port...), 0, 0)
}

// decodeElement is the reverse. What is no element of ours (a range, one that
// matches everything) becomes the zero Element, which nobody wants.
func decodeElement(key []rules.Field, b []byte) rules.Element {
	if isID(key) {
		switch len(b) {
		case 4:
			return rules.Element{ID: uint64(binary.NativeEndian.Uint32(b))}
		case 8:
			return rules.Element{ID: binary.NativeEndian.Uint64(b)}
		}
		return rules.Element{}
	}
	switch len(b) {
	case 2:
		return rules.Element{Port: binary.BigEndian.Uint16(b)}
	case 8, 20:
		addr, _ := netip.AddrFromSlice(b[:len(b)-4])
		return rules.Element{Addr: addr, Port: binary.BigEndian.Uint16(b[len(b)-4:])}
	}
	return rules.Element{}
}

package nft

import (
	"encoding/binary"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// compiler turns the terms of one rule into expressions, and remembers what the
// expressions so far have made sure of, as nft does.
type compiler struct {
	exprs     []expr.Any
	ip4, ip6  bool
	transport byte // 0 as long as any will do
}

func compileRule(r rules.Rule) []expr.Any {
	var c compiler
	for _, t := range r {
		c.term(t)
	}
	return c.exprs
}

func (c *compiler) add(exprs ...expr.Any) { c.exprs = append(c.exprs, exprs...) }

func (c *compiler) term(t rules.Term) {
	switch t := t.(type) {
	case rules.Is:
		c.is(t)
	case rules.Within:
		c.within(t)
	case rules.Handshake:
		c.handshake(t)
	case rules.Renumbered:
		c.renumbered()
	case rules.Answering:
		c.add(&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register(0)}, equal([]byte{directionReply}))
	case rules.SetTimeout:
		c.add(&expr.Objref{Type: int(nftables.ObjTypeCtTimeout), Name: rules.Closing})
	case rules.LocalDestination:
		c.add(&expr.Fib{Register: register(0), ResultADDRTYPE: true, FlagDADDR: true},
			equal(binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)))
	case rules.FirstFragment:
		c.firstFragment()
	case rules.In:
		c.add(append(c.load(t.Key), &expr.Lookup{SourceRegister: register(0), SetName: t.Set})...)
	case rules.InRanges:
		c.inRanges(t)
	case rules.Update:
		c.add(append(c.load(t.Key), &expr.Dynset{
			SrcRegKey: register(0), SetName: t.Set, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: t.Timeout,
		})...)
	case rules.Limit:
		c.add(&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(t.Rate), Unit: expr.LimitTimeSecond, Burst: t.Burst})
	case rules.Log:
		c.log(t)
	case rules.Count:
		c.add(&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: t.Counter})
	case rules.Redirect:
		c.add(&expr.Immediate{Register: register(0), Data: binary.BigEndian.AppendUint16(nil, t.Port)},
			&expr.Redir{RegisterProtoMin: register(0), RegisterProtoMax: register(0), Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED})
	case rules.Reset:
		c.add(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	case rules.Verdict:
		c.add(&expr.Verdict{Kind: verdictKind(t.Action), Chain: t.Chain})
	default:
		panic("nft: cannot compile " + t.String())
	}
}

func verdictKind(a rules.Action) expr.VerdictKind {
	switch a {
	case rules.Accept:
		return expr.VerdictAccept
	case rules.Drop:
		return expr.VerdictDrop
	case rules.Return:
		return expr.VerdictReturn
	case rules.Jump:
		return expr.VerdictJump
	case rules.Goto:
		return expr.VerdictGoto
	}
	panic("nft: unknown verdict " + string(a))
}

// load puts the parts of a key into registers one after the other.
func (c *compiler) load(key []rules.Field) []expr.Any {
	var loads []expr.Any
	offset := 0
	for _, k := range key {
		f := fieldOf(k)
		c.depend(f)
		loads = append(loads, f.load(register(offset)))
		offset += align(f.size)
	}
	return loads
}

// depend makes sure that the packet has the header that a field is in.
func (c *compiler) depend(f field) {
	if f.v4 && !c.ip4 {
		c.ip4 = true
		c.compare(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4)
	}
	if f.v6 && !c.ip6 {
		c.ip6 = true
		c.compare(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
	}
	if f.transport != 0 && c.transport != f.transport {
		c.transport = f.transport
		c.compare(expr.MetaKeyL4PROTO, f.transport)
	}
}

func (c *compiler) compare(key expr.MetaKey, value byte) {
	c.add(&expr.Meta{Key: key, Register: register(0)}, equal([]byte{value}))
}

func (c *compiler) is(t rules.Is) {
	if t.Field == rules.L4Proto && !t.Not {
		c.transport = byte(t.Value)
	}
	test := equal(value(t))
	if t.Not {
		test.Op = expr.CmpOpNeq
	}
	c.add(append(c.load([]rules.Field{t.Field}), test)...)
}

// value encodes the operand of a comparison as the field is loaded.
func value(t rules.Is) []byte {
	switch size := fieldOf(t.Field).size; size {
	case 1:
		return []byte{byte(t.Value)}
	case 2:
		return binary.BigEndian.AppendUint16(nil, uint16(t.Value))
	}
	return binary.NativeEndian.AppendUint32(nil, t.Value)
}

// within compares whole bytes of an address if the prefix ends with one.
func (c *compiler) within(t rules.Within) {
	network := t.Prefix.Masked().Addr().AsSlice()
	loads := c.load([]rules.Field{t.Field})
	if bytes := t.Prefix.Bits() / 8; t.Prefix.Bits()%8 == 0 {
		if part, ok := loads[0].(*expr.Payload); ok {
			part.Len = uint32(bytes)
		}
		c.add(loads[0], equal(network[:bytes]))
		return
	}
	c.add(loads[0], mask(prefixMask(t.Prefix.Bits(), len(network))), equal(network))
}

// inRanges compares in the order of the network, in which numbers are sorted.
func (c *compiler) inRanges(t rules.InRanges) {
	size := uint32(fieldOf(t.Field).size)
	c.add(append(c.load([]rules.Field{t.Field}), &expr.Byteorder{
		SourceRegister: register(0), DestRegister: register(0), Op: expr.ByteorderHton, Len: size, Size: size,
	}, &expr.Lookup{SourceRegister: register(0), SetName: t.Set})...)
}

func prefixMask(bits, size int) []byte {
	m := slices.Repeat([]byte{0xff}, size)
	for i := range m {
		switch rest := bits - 8*i; {
		case rest <= 0:
			m[i] = 0
		case rest < 8:
			m[i] = 0xff << (8 - rest)
		}
	}
	return m
}

const (
	flagSYN = 0x02
	flagACK = 0x10
)

func (c *compiler) handshake(t rules.Handshake) {
	test := equal([]byte{flagSYN})
	switch t.Step {
	case rules.SYNACK:
		test = equal([]byte{flagSYN | flagACK})
	case rules.NotSYN:
		test.Op = expr.CmpOpNeq
	}
	c.add(append(c.load([]rules.Field{rules.TCPFlags}), mask([]byte{flagSYN | flagACK}), test)...)
}

func (c *compiler) log(t rules.Log) {
	log := &expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX, Group: t.Group, Data: []byte(t.Prefix)}
	if t.Snap > 0 {
		log.Key |= 1 << unix.NFTA_LOG_SNAPLEN
		log.Snaplen = t.Snap
	}
	c.add(log)
}

// directionReply is IP_CT_DIR_REPLY.
const directionReply = 1

// statusSNAT is IPS_SRC_NAT of a tracked connection.
const statusSNAT = 0x10

func (c *compiler) renumbered() {
	none := equal(make([]byte, 4))
	none.Op = expr.CmpOpNeq
	c.add(&expr.Ct{Key: expr.CtKeySTATUS, Register: register(0)},
		mask(binary.NativeEndian.AppendUint32(nil, statusSNAT)), none)
}

// firstFragment compares the offset in the fragment header (RFC 8200 section
// 4.5) with zero.
func (c *compiler) firstFragment() {
	const offset, size = 2, 2
	if !c.ip6 {
		c.ip6 = true
		c.compare(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6)
	}
	c.add(&expr.Exthdr{
		DestRegister: register(0), Type: unix.IPPROTO_FRAGMENT, Offset: offset, Len: size, Op: expr.ExthdrOpIpv6,
	}, mask([]byte{0xff, 0xf8}), equal([]byte{0, 0}))
}

func equal(b []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register(0), Data: b}
}

func mask(b []byte) *expr.Bitwise {
	return &expr.Bitwise{
		SourceRegister: register(0), DestRegister: register(0),
		Len: uint32(len(b)), Mask: b, Xor: make([]byte, len(b)),
	}
}

// register names the register at an offset in bytes as the kernel does: by the
// old numbers of 16-byte registers where they fit, else by those of 4 bytes.
func register(offset int) uint32 {
	if offset%16 == 0 {
		return uint32(unix.NFT_REG_1 + offset/16)
	}
	return uint32(unix.NFT_REG32_00 + offset/4)
}

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
	"golang.org/x/sys/unix"
)

// Numbers of linux/netfilter/nfnetlink_log.h, which package unix lacks.
const (
	nflogMsgPacket = 0
	nflogMsgConfig = 1

	nflogAttrPacketHeader = 1
	nflogAttrInDevice     = 4
	nflogAttrPayload      = 9
	nflogAttrPrefix       = 10
	nflogAttrUID          = 11
	nflogAttrSequence     = 12

	nflogConfigCommand   = 1
	nflogConfigMode      = 2
	nflogConfigTimeout   = 4
	nflogConfigThreshold = 5
	nflogConfigFlags     = 6

	nflogCommandBind  = 1
	nflogCopyPacket   = 2
	nflogFlagSequence = 1

	hookForward = 2 // NF_INET_FORWARD
)

// nfgenLength is the size of struct nfgenmsg, which begins each netfilter message.
const nfgenLength = 4

var (
	errNflogShort     = errors.New("message is shorter than its header")
	errNflogAttribute = errors.New("attribute has a wrong size")
	errNflogNoPacket  = errors.New("message carries no packet")
)

// nflogPacket is one message of the kernel's log, taken apart but not judged.
type nflogPacket struct {
	payload     []byte
	prefix      string
	hook        byte
	inIndex     uint32
	uid         uint32
	hasUID      bool
	sequence    uint32
	hasSequence bool
}

func nflogType(message int) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_ULOG<<8 | message)
}

// parseNflogPacket reads the body of a packet message: nfgenmsg and attributes.
func parseNflogPacket(body []byte) (nflogPacket, error) {
	var p nflogPacket
	if len(body) < nfgenLength {
		return p, errNflogShort
	}
	ad, err := netlink.NewAttributeDecoder(body[nfgenLength:])
	if err != nil {
		return p, fmt.Errorf("reading log attributes: %w", err)
	}
	for ad.Next() {
		if err := p.take(ad.Type(), ad.Bytes()); err != nil {
			return p, fmt.Errorf("reading log attribute %d: %w", ad.Type(), err)
		}
	}
	if err := ad.Err(); err != nil {
		return p, fmt.Errorf("reading log attributes: %w", err)
	}
	if p.payload == nil {
		return p, errNflogNoPacket
	}
	return p, nil
}

func (p *nflogPacket) take(kind uint16, value []byte) error {
	switch kind {
	case nflogAttrPayload:
		p.payload = value
	case nflogAttrPrefix:
		p.prefix = nlenc.String(value)
	case nflogAttrPacketHeader: // hw_protocol, hook, padding
		if len(value) != 4 {
			return errNflogAttribute
		}
		p.hook = value[2]
	case nflogAttrInDevice:
		return takeUint32(value, &p.inIndex)
	case nflogAttrUID:
		p.hasUID = true
		return takeUint32(value, &p.uid)
	case nflogAttrSequence:
		p.hasSequence = true
		return takeUint32(value, &p.sequence)
	}
	return nil
}

func takeUint32(value []byte, to *uint32) error {
	if len(value) != 4 {
		return errNflogAttribute
	}
	*to = binary.BigEndian.Uint32(value)
	return nil
}

// delivery is how packets of a group arrive.
type delivery struct {
	copyRange uint32 // octets of a packet at most
	threshold uint32 // packets are kept back until there are so many, or for 1/100 s
}

// nflogBind is the one message that binds a socket to a group and sets up the
// delivery. In one message, because packets arrive as soon as it is bound.
func nflogBind(group uint16, d delivery) (netlink.Message, error) {
	const timeout = 1 // in 1/100 s; the default is 1 s
	mode := append(binary.BigEndian.AppendUint32(nil, d.copyRange), nflogCopyPacket, 0)
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.Uint8(nflogConfigCommand, nflogCommandBind)
	ae.Bytes(nflogConfigMode, mode)
	ae.Uint16(nflogConfigFlags, nflogFlagSequence)
	ae.Uint32(nflogConfigThreshold, d.threshold)
	ae.Uint32(nflogConfigTimeout, timeout)
	attrs, err := ae.Encode()
	if err != nil {
		return netlink.Message{}, fmt.Errorf("encoding log configuration: %w", err)
	}
	// nfgenmsg: family unspecified, version 0, the group as resource id.
	body := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, group)
	return netlink.Message{
		Header: netlink.Header{
			Type:  nflogType(nflogMsgConfig),
			Flags: netlink.Request | netlink.Acknowledge,
		},
		Data: append(body, attrs...),
	}, nil
}

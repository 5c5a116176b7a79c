package nft

import (
	"context"
	"errors"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// Attributes of an object that sets the times of connection tracking, and of the
// list in it, from linux/netfilter/nf_tables.h and nfnetlink_cttimeout.h.
const (
	attrTimeoutL3   = 1
	attrTimeoutL4   = 2
	attrTimeoutData = 3

	attrTCPTimeWait = 7
	attrTCPClose    = 8
)

// addClosing is not left to the library, which sends all the times there are
// instead of the host's own for those that we leave alone.
func (b *batch) addClosing(table string) {
	seconds := uint32(rules.ClosingSeconds)
	times := nested(attrTimeoutData, numberAttr(attrTCPTimeWait, seconds), numberAttr(attrTCPClose, seconds))
	b.messages = append(b.messages, netlink.Message{
		Header: netlink.Header{Type: messageType(unix.NFT_MSG_NEWOBJ), Flags: netlink.Request | netlink.Create},
		Data: body(familyInet, 0,
			textAttr(unix.NFTA_OBJ_TABLE, table), textAttr(unix.NFTA_OBJ_NAME, rules.Closing),
			numberAttr(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_CT_TIMEOUT),
			nested(unix.NFTA_OBJ_DATA,
				netlink.Attribute{Type: attrTimeoutL3, Data: []byte{0, unix.NFPROTO_IPV4}},
				netlink.Attribute{Type: attrTimeoutL4, Data: []byte{unix.IPPROTO_TCP}},
				times)),
	})
}

func nested(kind uint16, list ...netlink.Attribute) netlink.Attribute {
	data, err := netlink.MarshalAttributes(list)
	if err != nil {
		panic("nft: marshalling attributes: " + err.Error()) // only for attributes over 64 KiB
	}
	return netlink.Attribute{Type: unix.NLA_F_NESTED | kind, Data: data}
}

// isClosing tells whether an object is the one that addClosing makes.
func isClosing(object attrs) bool {
	data := object.nested(unix.NFTA_OBJ_DATA)
	times := data.nested(attrTimeoutData)
	return object.number(unix.NFTA_OBJ_TYPE) == unix.NFT_OBJECT_CT_TIMEOUT && object.text(unix.NFTA_OBJ_NAME) == rules.Closing &&
		string(data[attrTimeoutL4]) == string([]byte{unix.IPPROTO_TCP}) &&
		times.number(attrTCPTimeWait) == rules.ClosingSeconds && times.number(attrTCPClose) == rules.ClosingSeconds
}

func libClosing(r rules.Ruleset) *nftables.NamedObj {
	return &nftables.NamedObj{
		Table: libTable(r), Name: rules.Closing, Type: nftables.ObjTypeCtTimeout, Obj: &expr.CtTimeout{},
	}
}

// probeTimeouts finds out whether the kernel can set the times, by a batch that
// makes a table with such an object and deletes it again. Not all kernels are
// built so, and the rules must not fail for it.
func (c *Conn) probeTimeouts() error {
	err := c.transact(context.Background(), func(reader) ([]netlink.Message, error) {
		b, err := newBatch()
		if err != nil {
			return nil, err
		}
		probe := rules.Ruleset{Table: rules.Table + "_probe"}
		b.addTable(probe)
		b.addClosing(probe.Table)
		b.deleteTable(probe.Table)
		return b.messages, nil
	})
	c.noTimeouts = errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)
	if c.noTimeouts {
		return nil
	}
	return err
}

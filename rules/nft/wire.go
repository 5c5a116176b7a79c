package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// familyInet is the family of our tables: IPv4 and IPv6 in one.
const familyInet = unix.NFPROTO_INET

// Attributes and flags that x/sys does not name.
const (
	attrTableOwner = 7 // NFTA_TABLE_OWNER, the port id of the owning socket

	tableDormant = 0x1 // NFT_TABLE_F_DORMANT
	tableOwned   = 0x2 // NFT_TABLE_F_OWNER
)

var (
	// errStale: the ruleset changed between our reading it and our batch.
	errStale = errors.New("the ruleset changed meanwhile")

	// ErrLocked means that the lock table belongs to another socket: a guard
	// runs, or the service manager keeps its socket.
	ErrLocked = errors.New("the lock table belongs to another process")

	// ErrDrift means that the kernel took the rules, and yet has others now:
	// somebody was faster.
	ErrDrift = errors.New("the kernel's rules differ from what was sent")

	// ErrNoOwner means that this kernel has no owned tables (before Linux
	// 5.12), so that there can be no lock. The plain table does without.
	ErrNoOwner = errors.New("this kernel has no owned tables, so there is no lock")
)

func messageType(kind int) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)
}

// kind is the NFT_MSG_ number of a message.
func kind(m netlink.Message) int { return int(m.Header.Type & 0xff) }

// body is the generic netfilter header with attributes after it.
func body(family byte, resource uint16, list ...netlink.Attribute) []byte {
	b := binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
	encoded, err := netlink.MarshalAttributes(list)
	if err != nil {
		panic("nft: marshalling attributes: " + err.Error()) // only for attributes over 64 KiB
	}
	return append(b, encoded...)
}

func textAttr(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

func numberAttr(kind uint16, n uint32) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: binary.BigEndian.AppendUint32(nil, n)}
}

// frame makes one batch of messages. Only the last asks for an answer: errors
// come unasked, and echoes would fill the receive buffer. Generation 0 is any.
func frame(generation uint32, messages []netlink.Message) []netlink.Message {
	edge := func(kind netlink.HeaderType, attrs ...netlink.Attribute) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request},
			Data:   body(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, attrs...),
		}
	}
	var condition []netlink.Attribute
	if generation != 0 {
		condition = append(condition, numberAttr(unix.NFNL_BATCH_GENID, generation))
	}
	batch := []netlink.Message{edge(unix.NFNL_MSG_BATCH_BEGIN, condition...)}
	for i, m := range messages {
		m.Header.Flags &^= netlink.Acknowledge | netlink.Echo
		if i == len(messages)-1 {
			m.Header.Flags |= netlink.Acknowledge
		}
		batch = append(batch, m)
	}
	return append(batch, edge(unix.NFNL_MSG_BATCH_END))
}

// refusal says which message of a batch the kernel refused.
func refusal(err error, m netlink.Message) error {
	if errors.Is(err, unix.ERESTART) {
		return errStale
	}
	if m.Header.Type == unix.NFNL_MSG_BATCH_BEGIN {
		return fmt.Errorf("nftables refused the batch: %w", err)
	}
	return fmt.Errorf("nftables refused %s: %w", describe(m), err)
}

// describe names a message of ours for an error.
func describe(m netlink.Message) string {
	names := map[int]string{
		unix.NFT_MSG_NEWTABLE: "a table", unix.NFT_MSG_DELTABLE: "deleting a table",
		unix.NFT_MSG_NEWCHAIN: "a chain", unix.NFT_MSG_DELCHAIN: "deleting a chain",
		unix.NFT_MSG_NEWRULE: "a rule", unix.NFT_MSG_DELRULE: "deleting rules",
		unix.NFT_MSG_NEWSET: "a set", unix.NFT_MSG_DELSET: "deleting a set",
		unix.NFT_MSG_NEWSETELEM: "set elements", unix.NFT_MSG_DELSETELEM: "deleting set elements",
		unix.NFT_MSG_NEWOBJ: "a counter", unix.NFT_MSG_DELOBJ: "deleting a counter",
	}
	name, ok := names[kind(m)]
	if !ok {
		name = fmt.Sprintf("message %d", kind(m))
	}
	return fmt.Sprintf("%s (%s)", name, messageAttrs(m).text(nameAttr(kind(m))))
}

// nameAttr is the attribute that names what a message is about: for rules the
// chain, for elements the set.
func nameAttr(kind int) uint16 {
	switch kind {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE:
		return unix.NFTA_TABLE_NAME
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		return unix.NFTA_CHAIN_NAME
	}
	return 2 // NFTA_RULE_CHAIN, NFTA_SET_NAME, NFTA_SET_ELEM_LIST_SET, NFTA_OBJ_NAME
}

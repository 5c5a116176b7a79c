package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// Attributes and flags that x/sys does not name.
const (
	attrTableHandle     = 4  // NFTA_TABLE_HANDLE, never given twice
	attrSetHandle       = 16 // NFTA_SET_HANDLE
	attrElemExpressions = 11 // NFTA_SET_ELEM_EXPRESSIONS
)

// maxElementKey is the longest key of the recording sets, that of forward6.
const maxElementKey = 52

// element of a recording set, as it stands.
type element struct {
	key     elementKey
	packets uint64
	expires time.Duration // if no packet renews it
}

// elementKey is the key of a set's element, with zeros behind it.
type elementKey [maxElementKey]byte

// recordTable is one reading of the plain table without its sets' elements.
type recordTable struct {
	identity map[string]uint64 // handles; other ones mean that counting began anew
	totals   map[string]uint64 // packets of the named counters
}

// readRecordTable reads handles and totals. It returns nil if there is no such
// table.
func readRecordTable(ctx context.Context, s *socket) (*recordTable, error) {
	handle, err := tableHandle(ctx, s, rules.Table)
	if err != nil || handle == 0 {
		return nil, err
	}
	t := &recordTable{identity: map[string]uint64{"": handle}}
	sets, err := s.dump(ctx, netlink.Message{
		Header: netlink.Header{Type: messageType(unix.NFT_MSG_GETSET), Flags: netlink.Dump},
		Data:   body(familyInet, 0, textAttr(unix.NFTA_SET_TABLE, rules.Table)),
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, m := range sets {
		t.takeSet(messageAttrs(m))
	}
	t.totals, err = readCounters(ctx, s, rules.Table)
	return t, err
}

func (t *recordTable) takeSet(a attrs) {
	switch name := a.text(unix.NFTA_SET_NAME); name {
	case rules.SetAttempt4, rules.SetAttempt6, rules.SetAttemptOwner, rules.SetAttemptUser,
		rules.SetForward4, rules.SetForward6, rules.SetForwardIn:
		t.identity[name] = a.number64(attrSetHandle)
	}
}

// dumpElements calls each for the elements of one set. Of a set that changes
// meanwhile the kernel may give an element twice, or not at all. There may be
// 65,535, so this reads attributes in place, where messageAttrs would make
// three maps for each.
func dumpElements(ctx context.Context, s *socket, set string, each func(element)) error {
	answer, err := s.dump(ctx, netlink.Message{
		Header: netlink.Header{Type: messageType(unix.NFT_MSG_GETSETELEM), Flags: netlink.Dump},
		Data: body(familyInet, 0,
			textAttr(unix.NFTA_SET_ELEM_LIST_TABLE, rules.Table),
			textAttr(unix.NFTA_SET_ELEM_LIST_SET, set)),
	})
	if err != nil {
		return err
	}
	for _, m := range answer {
		if kind(m) == unix.NFT_MSG_NEWSETELEM && len(m.Data) >= nfgenLength {
			eachElement(m.Data[nfgenLength:], each)
		}
	}
	return nil
}

func eachElement(message []byte, each func(element)) {
	for list := attrSeq(message); list.next(); {
		if list.kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for item := attrSeq(list.value); item.next(); {
			if e, ok := readElement(item.value); ok {
				each(e)
			}
		}
	}
}

func readElement(b []byte) (e element, ok bool) {
	for a := attrSeq(b); a.next(); {
		switch a.kind {
		case unix.NFTA_SET_ELEM_KEY:
			for v := attrSeq(a.value); v.next(); {
				if v.kind == unix.NFTA_DATA_VALUE && len(v.value) <= maxElementKey {
					ok = true
					copy(e.key[:], v.value)
				}
			}
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.expires = time.Duration(number(a.value, 8)) * time.Millisecond
		case unix.NFTA_SET_ELEM_EXPR:
			e.packets = max(e.packets, readCounter(a.value))
		case attrElemExpressions:
			for x := attrSeq(a.value); x.next(); {
				e.packets = max(e.packets, readCounter(x.value))
			}
		}
	}
	return e, ok
}

// readCounter returns the packets of a counter expression, 0 of any other one.
func readCounter(expression []byte) uint64 {
	for e := attrSeq(expression); e.next(); {
		switch e.kind {
		case unix.NFTA_EXPR_NAME:
			if text(e.value) != "counter" {
				return 0
			}
		case unix.NFTA_EXPR_DATA:
			for c := attrSeq(e.value); c.next(); {
				if c.kind == unix.NFTA_COUNTER_PACKETS {
					return number(c.value, 8)
				}
			}
		}
	}
	return 0
}

// attrs in a row, read in place. It ends at the first that does not fit.
type attrWalk struct {
	rest  []byte
	kind  uint16
	value []byte
}

func attrSeq(b []byte) *attrWalk { return &attrWalk{rest: b} }

func (w *attrWalk) next() bool {
	if len(w.rest) < 4 {
		return false
	}
	length := int(binary.NativeEndian.Uint16(w.rest))
	if length < 4 || length > len(w.rest) {
		return false
	}
	w.kind = binary.NativeEndian.Uint16(w.rest[2:]) & attrTypeMask
	w.value = w.rest[4:length]
	w.rest = w.rest[min(align(length), len(w.rest)):]
	return true
}

package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
	"golang.org/x/sys/unix"
)

// linkNames names interfaces by their index, over a socket that stays in the
// network namespace where it was opened: package net would ask in that of the
// current thread.
type linkNames struct{ conn *netlink.Conn }

func openLinkNames() (*linkNames, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the route socket: %w", err)
	}
	return &linkNames{conn: conn}, nil
}

// name returns "" for an interface that is gone.
func (l *linkNames) name(index uint32) string {
	if index == 0 {
		return ""
	}
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], index) // ifi_index
	answer, err := l.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   request,
	})
	if err != nil || len(answer) != 1 || len(answer[0].Data) < unix.SizeofIfInfomsg {
		return ""
	}
	ad, err := netlink.NewAttributeDecoder(answer[0].Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return ""
	}
	for ad.Next() {
		if ad.Type() == unix.IFLA_IFNAME {
			return nlenc.String(ad.Bytes())
		}
	}
	return ""
}

func (l *linkNames) close() error { return l.conn.Close() }

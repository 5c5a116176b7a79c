package nft

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nflogBuffer holds a flood of more than 200,000 packets a second without loss
// (with the default of 208 KiB, one packet in 200 is lost).
const nflogBuffer = 8 << 20

// nflogReader receives what rules log to one group. The kernel gives a group
// of a network namespace to one reader at a time.
type nflogReader struct {
	conn    *netlink.Conn
	pending []netlink.Message // packets that overtook the acknowledgement of bind
	next    uint32            // sequence number of the next packet
	synced  bool              // next is known
	lost    atomic.Uint64
}

// openNflog binds a new socket, in the calling thread's network namespace.
func openNflog(group uint16, d delivery) (*nflogReader, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the log socket: %w", err)
	}
	r := &nflogReader{conn: conn}
	if err := r.bind(group, d); err != nil {
		conn.Close()
		return nil, fmt.Errorf("binding to log group %d: %w", group, err)
	}
	return r, nil
}

func (r *nflogReader) bind(group uint16, d delivery) error {
	if err := r.conn.SetReadBuffer(nflogBuffer); err != nil {
		return fmt.Errorf("growing the receive buffer: %w", err)
	}
	// A full buffer shows as a gap in the sequence numbers; ENOBUFS says less.
	if err := r.conn.SetOption(netlink.NoENOBUFS, true); err != nil {
		return fmt.Errorf("switching ENOBUFS off: %w", err)
	}
	request, err := nflogBind(group, d)
	if err != nil {
		return err
	}
	sent, err := r.conn.Send(request)
	if err != nil {
		return err
	}
	return r.awaitAck(sent.Header.Sequence)
}

func (r *nflogReader) awaitAck(sequence uint32) error {
	if err := r.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	for {
		messages, err := r.conn.Receive()
		switch {
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EBUSY):
			return fmt.Errorf("another program reads this group, or CAP_NET_ADMIN is missing: %w", err)
		case err != nil:
			return err
		}
		for _, m := range messages {
			if m.Header.Type == netlink.Error && m.Header.Sequence == sequence {
				return r.conn.SetReadDeadline(time.Time{})
			}
			r.pending = append(r.pending, m)
		}
	}
}

// receive waits for packets and passes them on one by one. A packet whose
// message makes no sense is lost like one that did not come.
func (r *nflogReader) receive(ctx context.Context, each func(nflogPacket)) error {
	messages := r.pending
	r.pending = nil
	if len(messages) == 0 {
		var err error
		if messages, err = r.wait(ctx); err != nil {
			return err
		}
	}
	for _, m := range messages {
		if m.Header.Type != nflogType(nflogMsgPacket) {
			continue // the end-of-batch mark
		}
		p, err := parseNflogPacket(m.Data)
		r.count(p)
		if err != nil {
			r.lost.Add(1)
			continue
		}
		each(p)
	}
	return nil
}

func (r *nflogReader) wait(ctx context.Context) ([]netlink.Message, error) {
	stop := context.AfterFunc(ctx, func() { r.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		messages, err := r.conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			// Not after NoENOBUFS; if it comes, the gap tells how many.
		case err != nil:
			return nil, fmt.Errorf("receiving from the log: %w", err)
		default:
			return messages, nil
		}
	}
}

// count adds the gap before p to the packets lost.
func (r *nflogReader) count(p nflogPacket) {
	if !p.hasSequence {
		return
	}
	if r.synced {
		r.lost.Add(uint64(p.sequence - r.next)) // modulo 2³², as the kernel counts
	}
	r.synced, r.next = true, p.sequence+1
}

func (r *nflogReader) close() error { return r.conn.Close() }

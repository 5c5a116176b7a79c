package nft

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/rules"
)

// lockCounts is what has been read of the lock table's counters. They count only
// what the plain table did not stop, while somebody had changed it; by whom
// the attempts were they do not say.
type lockCounts struct {
	handle uint64 // of the table, 0 without one
	last   map[string]uint64
}

// read returns the packets since the last reading, local and forwarded.
func (l *lockCounts) read(ctx context.Context, s *socket) (out, forward uint64, err error) {
	handle, err := tableHandle(ctx, s, rules.LockTable)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the lock's counters: %w", err)
	}
	if handle != l.handle {
		l.handle, l.last = handle, nil
	}
	if handle == 0 {
		return 0, 0, nil
	}
	now, err := readCounters(ctx, s, rules.LockTable)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the lock's counters: %w", err)
	}
	out = now[rules.CounterOut] - l.last[rules.CounterOut]
	forward = now[rules.CounterForward] - l.last[rules.CounterForward]
	l.last = now
	return out, forward, nil
}

// tableHandle returns the number of a table, which no other table ever has, or
// 0 if there is none.
func tableHandle(ctx context.Context, s *socket, table string) (uint64, error) {
	answer, err := s.dump(ctx, netlink.Message{
		Header: netlink.Header{Type: messageType(unix.NFT_MSG_GETTABLE)},
		Data:   body(familyInet, 0, textAttr(unix.NFTA_TABLE_NAME, table)),
	})
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, m := range answer {
		return messageAttrs(m).number64(attrTableHandle), nil
	}
	return 0, errors.New("the kernel described no table")
}

// readCounters returns the packets of the named counters of a table.
func readCounters(ctx context.Context, s *socket, table string) (map[string]uint64, error) {
	counters, err := reader{sock: s}.counters(ctx, table)
	if err != nil {
		return nil, err
	}
	packets := make(map[string]uint64, len(counters))
	for name, c := range counters {
		packets[name] = c.Packets
	}
	return packets, nil
}
